"""The scripted model keeps to what is asked as a real one does."""

from __future__ import annotations

import pytest

from runtime.errors import ModelRefused
from runtime.models.base import Delta, Finish, ModelRequest, ReasoningText, Text
from runtime.models.fold import fold
from runtime.models.scripted import KEPT_REQUESTS, Cue, ScriptedModel, say
from runtime.runnable import RunOptions
from tests.runtime.support import user


async def said(model: ScriptedModel, **options: object) -> list[Delta]:
    asked = ModelRequest((user("hi there"),), options=RunOptions.model_validate(options))
    return [delta async for delta in model.stream(asked)]


async def test_requests_are_remembered_but_not_for_ever() -> None:
    model = ScriptedModel(lambda _: say("ok"))
    for _ in range(KEPT_REQUESTS + 5):
        await said(model, max_tokens=model.calls + 1)
    assert model.calls == KEPT_REQUESTS + 5
    assert [request.options.max_tokens for request in model.requests] == list(
        range(6, KEPT_REQUESTS + 6)
    )


async def test_a_script_that_runs_out_refuses() -> None:
    model = ScriptedModel([say("one")])
    await said(model)
    with pytest.raises(ModelRefused, match="ends after 1 calls"):
        await said(model)


@pytest.mark.parametrize(
    ("cues", "text", "reason", "words"),
    [
        (["one two three"], "one two", "length", 2),
        (["one ", "two ", "three ", "four"], "one two ", "length", 2),
        (["one", " two"], "one two", "stop", 2),
        (["one two \n"], "one two \n", "stop", 2),
        (["one two", "\n"], "one two\n", "stop", 2),
        ([" one  two  three "], " one  two", "length", 2),
    ],
)
@pytest.mark.rows("K18")
async def test_an_answer_has_no_more_words_than_it_may(
    cues: list[str], text: str, reason: str, words: int
) -> None:
    answer = fold(await said(ScriptedModel([[*cues, Finish("stop")]]), max_tokens=2))
    assert (answer.text, answer.finished().reason) == (text, reason)
    usage = answer.finished().usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (2, words)


async def test_it_thinks_aloud_word_by_word() -> None:
    cues: tuple[Cue, ...] = say("So it is.", reasoning="Let me see.")
    deltas = await said(ScriptedModel([cues]))
    assert fold(deltas).reasoning == "Let me see."
    assert deltas[2:4] == [ReasoningText(" see."), Text("So")]
