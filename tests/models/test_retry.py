"""A model call is made again only where nothing of it was seen."""

from __future__ import annotations

import asyncio

import pytest

from runtime import Agent, ModelRefused, ModelUnavailable, RetryPolicy, ScriptedModel
from runtime.cancel import CancelToken
from runtime.errors import RunAborted
from runtime.events import ErrorInfo, Event, ModelFailed, ModelRetrying, RunCompleted, RunFailed
from runtime.models.base import Finish, ReasoningText, Text, ToolCallFragment
from runtime.models.scripted import Cue, say
from runtime.run_stream import RunStream
from tests.runtime.support import PATIENCE, request, run

AT_ONCE = RetryPolicy(attempts=3, base=0.001, roll=lambda: 1.0)
BUSY = ModelUnavailable("the provider is not available: HTTP 503", status_code=503)
BUSY_INFO = ErrorInfo(
    code="model_unavailable",
    message="the provider is not available: HTTP 503",
    status_code=503,
    retryable=True,
)


@pytest.mark.rows("SX11")
async def test_a_call_that_failed_before_its_first_delta_is_made_again() -> None:
    model = ScriptedModel([[BUSY], [Text(""), BUSY], say("ok")])
    log = await run(Agent("a", model, retry=AT_ONCE))
    assert log.types == [
        "run.started",
        "model.started",
        "model.retrying",
        "model.retrying",
        "message.started",
        "message.delta",
        "message.completed",
        "model.completed",
        "run.completed",
    ]
    retries = log.of(ModelRetrying)
    assert [(event.attempt, event.delay_ms) for event in retries] == [(2, 1.0), (3, 2.0)]
    assert retries[0].error == BUSY_INFO
    assert log.one(RunCompleted).num_turns == 1
    assert model.requests[0] == model.requests[1] == model.requests[2]


async def test_after_the_last_attempt_the_run_fails() -> None:
    model = ScriptedModel([[BUSY], [BUSY], [BUSY], say("too late")])
    log = await run(Agent("a", model, retry=AT_ONCE))
    assert len(model.requests) == 3
    assert log.types[-3:] == ["model.retrying", "model.failed", "run.failed"]
    assert log.one(ModelFailed).error == log.one(RunFailed).error == BUSY_INFO


@pytest.mark.rows("SX11")
async def test_a_call_of_which_anything_was_seen_is_not_made_again() -> None:
    beginnings: list[Cue] = [
        Text("Hel"),
        ReasoningText("hm"),
        ToolCallFragment(0, id="c", name="t"),
    ]
    for seen in beginnings:
        model = ScriptedModel([[seen, BUSY], say("again")])
        log = await run(Agent("a", model, retry=AT_ONCE))
        assert len(model.requests) == 1
        assert log.one(RunFailed).error == BUSY_INFO
        assert "model.retrying" not in log.types


async def test_a_refusal_is_final() -> None:
    model = ScriptedModel([[ModelRefused("no")], say("again")])
    await run(Agent("a", model, retry=AT_ONCE))
    assert len(model.requests) == 1


@pytest.mark.rows("SX11")
async def test_what_a_provider_asks_for_is_in_the_log() -> None:
    busy = ModelUnavailable("busy", retry_after=0.002)
    log = await run(Agent("a", ScriptedModel([[busy], [Finish("stop")]]), retry=AT_ONCE))
    assert log.one(ModelRetrying).delay_ms == 2.0
    assert log.one(ModelRetrying).error.retry_after == 0.002
    assert log.one(RunCompleted).output == ""


@pytest.mark.rows("SX11")
async def test_the_wait_before_the_next_attempt_can_be_aborted() -> None:
    busy = ModelUnavailable("busy", retry_after=3600.0)
    model = ScriptedModel([[busy], say("ok")])
    agent = Agent("a", model, retry=RetryPolicy(cap=3600.0))
    token = CancelToken()
    heard: list[Event] = []

    def project(event: Event) -> Event:
        return event

    stream: RunStream[Event] = RunStream(agent, request(), project, cancel=token)

    async def listen() -> None:
        async for event in stream:
            heard.append(event)
            if isinstance(event, ModelRetrying):
                token.abort("enough")

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RunAborted, match="enough"):
            await listen()
    assert heard[-1].type == "run.cancelled"
    assert len(model.requests) == 1
