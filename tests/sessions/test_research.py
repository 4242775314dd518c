"""The built-in graph `research`, without a transport."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from gateway.builtin import build_registry
from gateway.builtin.research import research
from gateway.config import Settings
from gateway.engines.memory import MemoryEngine
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, say
from tests.support.sessions import Desk, desk


async def asked(at: Desk, topic: str) -> dict[str, Any]:
    """Send a topic and return the question that comes of it."""
    await at.send(topic)
    question = await at.until("approval.requested")
    await at.until("run.interrupted")
    return question


async def decide(at: Desk, question: dict[str, Any], decision: str, **fields: Any) -> None:
    answer = {"approval_id": question["approval_id"], "decision": decision, **fields}
    await at.command("continue", decisions=[answer])


async def test_the_notes_of_three_sources_are_shown_and_written_down_as_they_are() -> None:
    async with desk(MemoryEngine(), research(None, pace=0)) as at:
        question = await asked(at, "Tell me of the\ntides")
        brief = orjson.loads(question["arguments"])
        assert brief["topic"] == "Tell me of the tides"
        assert [note.split(":")[0] for note in brief["notes"]] == [
            "Coast almanac",
            "Harbour archive",
            "Field notes",
        ]
        await decide(at, question, "approve")
        report = (await at.until("run.completed"))["output"]
        for note in brief["notes"]:
            source, said = note.split(": ", 1)
            assert said in report
            assert source in report


async def test_a_topic_that_no_source_knows_is_said_to_be_so() -> None:
    async with desk(MemoryEngine(), research(None, pace=0)) as at:
        question = await asked(at, "pizza")
        notes = orjson.loads(question["arguments"])["notes"]
        assert all("Nothing on this topic" in note for note in notes)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [({"topic": "x", "notes": "not a list"}, "notes: "), ('"go ahead"', "the answer: ")],
)
async def test_an_edit_that_is_no_brief_is_told_what_is_wrong_and_asked_again(
    answer: object, wrong: str
) -> None:
    async with desk(MemoryEngine(), research(None, pace=0)) as at:
        question = await asked(at, "tides")
        await decide(at, question, "edit", arguments=answer)
        again = await at.until("approval.requested", 2)
        assert again["reason"].startswith(wrong)
        assert again["arguments"] == question["arguments"]
        await at.until("run.interrupted", 2)
        await decide(at, again, "approve")
        assert "Coast almanac" in (await at.until("run.completed"))["output"]


async def test_a_second_topic_in_the_same_session_begins_anew() -> None:
    async with desk(MemoryEngine(), research(None, pace=0)) as at:
        await decide(at, await asked(at, "tides"), "reject")
        await at.until("run.completed")
        await at.send("salt")
        question = await at.until("approval.requested", 2)
        brief = orjson.loads(question["arguments"])
        assert brief["topic"] == "salt"
        assert len(brief["notes"]) == 3


async def test_a_model_is_asked_with_the_approved_notes_and_streams_the_report() -> None:
    prompts: list[str] = []

    def script(request: ModelRequest) -> Iterable[Cue]:
        prompts.append(request.messages[-1].content)
        return say("A report.")

    async with desk(MemoryEngine(), research(ScriptedModel(script), pace=0)) as at:
        question = await asked(at, "tides")
        edit = {"topic": "Ebb", "notes": ["It is low."]}
        await decide(at, question, "edit", arguments=edit)
        assert (await at.until("run.completed"))["output"] == "A report."
        assert prompts == ["Write a short report that answers: Ebb\n\nNotes:\n- It is low."]
        deltas = [e for e in await at.events() if e["type"] == "message.delta"]
        assert {tuple(e["path"]) for e in deltas} == {("research", "write", "writer")}


@pytest.mark.parametrize(
    ("settings", "writer"),
    [({}, "by a script."), ({"openai_base_url": "http://x/v1", "model": "big"}, "by big.")],
)
def test_its_description_says_who_writes(settings: dict[str, str], writer: str) -> None:
    registry = build_registry(Settings.model_validate(settings))
    assert [agent.name for agent in registry] == ["assistant", "echo", "tools", "research"]
    description = registry.get("research").description
    assert description.startswith("Scripted. ")
    assert description.endswith(writer)
    asyncio.run(registry.aclose())
