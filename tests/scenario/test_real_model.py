"""The main job: several turns with a real model, over every transport, and a stop that works."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.test_kill import check_all_saw_the_same, followed, post
from tests.support.followers import ENDS
from tests.support.server import Server, running_server

CANCEL_LIMIT = 1.0
"""Seconds that PROTOCOL.md gives a cancel, [cancel.bounded]."""

CHANCES = ("s1", "s2", "s3")
"""A session for each try to keep to it: a machine that is busy may take the time for itself."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running_server(tmp_path, real_model=True) as server:
        yield server


async def command(server: Server, session_id: str, **fields: Any) -> dict[str, Any]:
    return await post(server, f"/v1/sessions/{session_id}/commands", fields)


@pytest.mark.timeout(180)
async def test_a_second_turn_with_the_real_model_knows_the_first_over_every_transport(
    server: Server,
) -> None:
    await post(server, "/v1/sessions", {"session_id": "s", "agent": "assistant"})
    options = {"temperature": 0, "max_tokens": 60}
    async with followed(server, "s") as followers:
        for number, text in enumerate(
            ("I have a dog called Rex.", "Write a sentence about my dog."), start=1
        ):
            await command(server, "s", type="send", id=f"c{number}", text=text, options=options)
            for follower in followers:
                await follower.until_runs_ended(number)
        check_all_saw_the_same(followers)
        events = followers[0].events
        ends = [event for event in events if event["type"] in ENDS]
        assert [end["type"] for end in ends] == ["run.completed"] * 2
        assert "Rex" in ends[1]["output"]
        deltas = [event for event in events if event["type"] == "message.delta"]
        assert len(deltas) > 4  # it streamed
        assert ends[0]["usage"]["completion_tokens"] > 0


@pytest.mark.rule("cancel.bounded")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("agent", "text", "seen"),
    [
        ("assistant", "Tell me a very long story about the sea.", "message.delta"),
        ("echo", "one two three", "message.delta"),
        ("tools", "weather in Oslo and Rome", "tool.progress"),
        ("tools", "delete notes.txt", "run.interrupted"),
    ],
)
async def test_a_cancel_ends_the_run_within_a_second_whatever_it_is_doing(
    server: Server, agent: str, text: str, seen: str
) -> None:
    took: list[float] = []
    for session_id in CHANCES:
        await post(server, "/v1/sessions", {"session_id": session_id, "agent": agent})
        options = {"interval_ms": 60_000} if agent == "echo" else {}
        async with followed(server, session_id) as followers:
            await command(server, session_id, type="send", id="c1", text=text, options=options)
            for follower in followers:
                await follower.until(lambda events: any(e["type"] == seen for e in events))
            asked_at = time.monotonic()
            await command(server, session_id, type="cancel", id="c2")
            for follower in followers:
                await follower.until_runs_ended(1)
            took.append(time.monotonic() - asked_at)
            check_all_saw_the_same(followers)
            assert followers[0].events[-1]["type"] == "run.cancelled"
        if took[-1] < CANCEL_LIMIT:
            break
    assert min(took) < CANCEL_LIMIT


@pytest.mark.rule("cancel.bounded")
async def test_a_cancel_ends_a_run_that_waits_in_the_queue(tmp_path: Path) -> None:
    took: list[float] = []
    slow = {"interval_ms": 60_000}
    async with running_server(tmp_path) as server:
        for session_id in CHANCES:
            await post(server, "/v1/sessions", {"session_id": session_id, "agent": "echo"})
            async with followed(server, session_id) as followers:
                await command(server, session_id, type="send", id="c1", text="a b", options=slow)
                queued = await command(
                    server, session_id, type="send", id="c2", text="c d", options=slow
                )
                asked_at = time.monotonic()
                await command(server, session_id, type="cancel", id="c3", run_id=queued["run_id"])
                for follower in followers:
                    await follower.until_runs_ended(1)
                took.append(time.monotonic() - asked_at)
                # The first run may say its first word after that.
                (ended,) = [event for event in followers[0].events if event["type"] in ENDS]
                assert (ended["type"], ended["run_id"]) == ("run.cancelled", queued["run_id"])
            if took[-1] < CANCEL_LIMIT:
                break
    assert min(took) < CANCEL_LIMIT


@pytest.mark.rule("disconnect.not_cancel")
async def test_a_run_goes_on_when_everybody_has_left(server: Server) -> None:
    await post(server, "/v1/sessions", {"session_id": "s", "agent": "echo"})
    words = " ".join(str(number) for number in range(30))
    async with followed(server, "s") as followers:
        await command(server, "s", type="send", id="c1", text=words, options={"interval_ms": 10})
        for follower in followers:
            await follower.until(lambda events: any(e["type"] == "message.delta" for e in events))
        assert not any(e["type"] in ENDS for e in followers[0].events)
    async with followed(server, "s") as followers:
        for follower in followers:
            await follower.until_runs_ended(1)
        check_all_saw_the_same(followers)
        assert followers[0].events[-1]["output"] == words
