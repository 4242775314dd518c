"""Several models as one: the next is asked only while nothing was said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from runtime import Agent
from runtime.errors import (
    ModelError,
    ModelRefused,
    ModelSpokeNonsense,
    ModelUnavailable,
)
from runtime.events import ModelCompleted, RunCompleted
from runtime.messages import Usage
from runtime.models.base import (
    Delta,
    Finish,
    ModelRequest,
    ReasoningText,
    Starts,
    Text,
    ToolCallFragment,
)
from runtime.models.fallback import FallbackModel
from runtime.models.scripted import Cue, ScriptedModel, say
from tests.runtime.support import PATIENCE, run, user

ASKED = ModelRequest((user("hi"),))
BUSY = ModelUnavailable("the provider is not available: HTTP 503", status_code=503, retry_after=9.0)
BUSIER = ModelUnavailable("too many", status_code=429, retry_after=2.0)
REFUSED = ModelRefused("the provider refused the request: HTTP 401", status_code=401)


async def said(model: FallbackModel) -> list[Delta]:
    async with asyncio.timeout(PATIENCE), aclosing(model.stream(ASKED)) as deltas:
        return [delta async for delta in deltas]


@pytest.mark.parametrize(
    "fault", [BUSY, REFUSED, ModelSpokeNonsense("no finish")], ids=lambda fault: fault.code
)
async def test_the_next_model_answers_when_the_first_cannot(fault: ModelError) -> None:
    first = ScriptedModel([[Text(""), fault]], name="one")
    second = ScriptedModel([say("ok")], name="two")
    third = ScriptedModel([say("never")], name="three")
    deltas = await said(FallbackModel(first, second, third))
    assert deltas[:-1] == [Text(""), Text("ok")]
    finish = deltas[-1]
    assert isinstance(finish, Finish)
    assert finish.model == "two"
    assert [len(model.requests) for model in (first, second, third)] == [1, 1, 0]
    assert second.requests == [ASKED]


@pytest.mark.parametrize(
    "first_delta", [Text("Hel"), ReasoningText("hm"), ToolCallFragment(0, "c", "look")]
)
async def test_once_anything_was_said_the_next_model_is_not_asked(first_delta: Delta) -> None:
    second = ScriptedModel([say("again")])
    with pytest.raises(ModelUnavailable) as caught:
        await said(FallbackModel(ScriptedModel([[first_delta, BUSY]]), second))
    assert caught.value is BUSY
    assert second.requests == []


async def test_when_none_can_answer_the_error_tells_all_and_may_pass_if_one_may() -> None:
    model = FallbackModel(
        ScriptedModel([[REFUSED]], name="one"),
        ScriptedModel([[BUSY]], name="two"),
        ScriptedModel([[BUSIER]], name="three"),
    )
    with pytest.raises(ModelUnavailable) as caught:
        await said(model)
    assert str(caught.value) == (
        "no model answered: one: the provider refused the request: HTTP 401; "
        "two: the provider is not available: HTTP 503; three: too many"
    )
    assert (caught.value.status_code, caught.value.retry_after) == (503, 2.0)
    cause = caught.value.__cause__
    assert isinstance(cause, ExceptionGroup)
    assert cause.exceptions == (REFUSED, BUSY, BUSIER)


async def test_when_all_refuse_the_error_is_of_the_first_one_s_kind() -> None:
    model = FallbackModel(
        ScriptedModel([[REFUSED]]), ScriptedModel([[ModelSpokeNonsense("what?")]])
    )
    with pytest.raises(ModelRefused) as caught:
        await said(model)
    assert (caught.value.status_code, caught.value.retry_after) == (401, None)


async def test_a_mistake_in_a_provider_is_not_hidden_by_the_next() -> None:
    with pytest.raises(ZeroDivisionError):
        await said(FallbackModel(ScriptedModel([[ZeroDivisionError()]]), ScriptedModel([say("x")])))


async def test_an_answer_without_a_finish_stays_without_one() -> None:
    second = ScriptedModel([say("again")])
    assert await said(FallbackModel(ScriptedModel([["Hel"]]), second)) == [Text("Hel")]
    assert second.requests == []


async def test_the_finish_names_the_model_also_when_its_provider_does_not() -> None:
    unnamed, named = Finish("stop", Usage()), Finish("stop", Usage(), "m-2026")
    model = FallbackModel(ScriptedModel([[unnamed], [named]], name="one"), ScriptedModel([]))
    assert await said(model) == [Finish("stop", Usage(), "one")]
    assert await said(model) == [named]


async def test_an_empty_answer_is_an_answer() -> None:
    second = ScriptedModel([say("again")])
    deltas = await said(FallbackModel(ScriptedModel([[Finish("stop")]]), second))
    assert [type(delta) for delta in deltas] == [Finish]
    assert second.requests == []


async def test_leaving_it_leaves_the_model_that_answers() -> None:
    left = asyncio.Event()

    def script(_: ModelRequest) -> Iterator[Cue]:
        try:
            yield "Hel"
            yield asyncio.Event()
        finally:
            left.set()

    model = FallbackModel(ScriptedModel([[BUSY]]), ScriptedModel(script))
    async with asyncio.timeout(PATIENCE), aclosing(model.stream(ASKED)) as deltas:
        assert await anext(deltas) == Text("Hel")
    assert left.is_set()


class Slow(ScriptedModel):
    """A model that has to be started."""

    def __init__(self, fault: ModelError | None = None) -> None:
        super().__init__([say("ok")])
        self.started = 0
        self._fault = fault

    async def start(self) -> None:
        self.started += 1
        if self._fault is not None:
            raise self._fault

    async def aclose(self) -> None:
        await super().aclose()
        if self._fault is not None:
            raise self._fault


async def test_all_models_are_started_and_closed_also_when_one_cannot_be() -> None:
    broken, other = Slow(BUSY), Slow()
    model = FallbackModel(broken, other)
    assert isinstance(model, Starts)
    await model.start()
    assert (broken.started, other.started) == (1, 1)
    with pytest.raises(ExceptionGroup) as caught:
        await model.aclose()
    assert caught.value.exceptions == (BUSY,)
    assert (broken.closed, other.closed) == (1, 1)


async def test_when_none_can_be_started_that_is_said() -> None:
    with pytest.raises(ModelUnavailable, match="no model answered"):
        await FallbackModel(Slow(BUSY), Slow(REFUSED)).start()
    await FallbackModel(Slow(BUSY), ScriptedModel([])).start()


async def test_an_agent_works_on_it_and_the_log_says_which_model_it_was() -> None:
    models = FallbackModel(
        ScriptedModel([[BUSY]], name="one"), ScriptedModel([say("ok")], name="two")
    )
    assert models.name == "one or two"
    log = await run(Agent("a", models))
    assert log.one(ModelCompleted).model == "two"
    assert log.one(RunCompleted).output == "ok"
