"""kill -9 of a real server, at many moments: nothing lost, nothing twice, one end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.scenario.patient import TALK, WORK, patient_server
from tests.support.file_gates import let
from tests.support.followers import Follower, Transport, check_history
from tests.support.server import Server, running_server

TRANSPORTS: tuple[Transport, ...] = ("sse", "websocket", "ndjson")
WORDS = " ".join(f"word{number}" for number in range(40))
ECHO = {"options": {"interval_ms": 16}}
EACH_WORD = {"TIDEGATE_DELTA_INTERVAL_MS": "1"}


@asynccontextmanager
async def followed(server: Server, session_id: str) -> AsyncIterator[list[Follower]]:
    """Follow a session over every transport at once."""
    followers = [Follower(server.url, session_id, transport) for transport in TRANSPORTS]
    tasks = [asyncio.create_task(follower.run()) for follower in followers]
    try:
        yield followers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def post(server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{server.url}{path}", json=body) as response,
    ):
        answer: dict[str, Any] = await response.json()
        assert response.status < 300, answer
        return answer


def words_said(events: Sequence[dict[str, Any]], run_id: str) -> int:
    """Count the words of a run; a busy machine merges deltas, so these cannot be counted."""
    return sum(
        len(event["text"].split())
        for event in events
        if event["type"] == "message.delta" and event["run_id"] == run_id
    )


def check_all_saw_the_same(followers: list[Follower]) -> None:
    check_history(followers[0].events)
    for follower in followers:
        assert follower.resets == []
        assert follower.lines == followers[0].lines


@pytest.mark.rule(
    "resume.exact", "resume.no_hole", "run.one_end", "run.taken_over", "log.order", "wire.same"
)
@pytest.mark.timeout(240)
async def test_nothing_is_lost_and_nothing_comes_twice_when_the_server_is_killed_in_mid_answer(
    tmp_path: Path,
) -> None:
    moments = (0, 1, 2, 3, 5, 8, 13, 17, 21, 26, 31, 36)  # so many words have been seen
    async with running_server(tmp_path, environment=EACH_WORD) as server:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "echo"})
        async with followed(server, "s") as followers:
            for number, words in enumerate(moments, start=1):
                sent = await post(
                    server,
                    "/v1/sessions/s/commands",
                    {"type": "send", "id": f"c{number}", "text": WORDS, **ECHO},
                )
                run_id = sent["run_id"]
                await followers[number % len(followers)].until(
                    lambda events, run_id=run_id, words=words: (  # type: ignore[misc]
                        words_said(events, run_id) >= words
                    )
                )
                await server.kill()
                await server.restart()
                for follower in followers:
                    await follower.until_runs_ended(number)
            check_all_saw_the_same(followers)
            events = followers[0].events
            assert sum(e["type"] == "run.completed" for e in events) == len(moments)
            assert all(e["output"] == WORDS for e in events if e["type"] == "run.completed")
            taken = [e for e in events if e["type"] == "run.attempt_started"]
            assert len(taken) >= len(moments) // 2  # a run may have ended before it was killed
            assert all(f.connections > len(moments) for f in followers)


@pytest.mark.rule("command.once")
@pytest.mark.timeout(120)
async def test_a_send_whose_answer_was_lost_in_a_kill_takes_effect_once(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "echo"})
        async with followed(server, "s") as followers:
            for number in range(1, 7):
                body = {"type": "send", "id": f"c{number}", "text": WORDS, **ECHO}
                sending = asyncio.create_task(post(server, "/v1/sessions/s/commands", body))
                await asyncio.sleep(number * 0.0007)  # another moment of the sending each time
                await server.kill()
                await asyncio.wait([sending])
                sending.exception()  # whatever it saw: it cannot know, so it sends again
                await server.restart()
                again = await post(server, "/v1/sessions/s/commands", body)
                assert again == await post(server, "/v1/sessions/s/commands", body)
                for follower in followers:
                    await follower.until_runs_ended(number)
            check_all_saw_the_same(followers)
            accepted = [e for e in followers[0].events if e["type"] == "input.accepted"]
            assert [e["command_id"] for e in accepted] == [f"c{n}" for n in range(1, 7)]


@pytest.mark.timeout(120)
async def test_finished_tools_are_not_run_again_after_a_kill(tmp_path: Path) -> None:
    async with patient_server(tmp_path) as server:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "scout"})
        async with followed(server, "s") as followers:
            watcher = followers[0]
            await post(
                server,
                "/v1/sessions/s/commands",
                {"type": "send", "id": "c1", "text": "go"},
            )
            await watcher.until(lambda es: sum(e["type"] == "tool.completed" for e in es) == 2)
            await watcher.until(lambda es: any(e["type"] == "message.delta" for e in es))
            await server.kill()
            let(tmp_path, TALK)
            await server.restart()
            for follower in followers:
                await follower.until_runs_ended(1)
            check_all_saw_the_same(followers)
            types = [e["type"] for e in watcher.events]
            assert types.count("tool.started") == 2
            assert sorted((tmp_path / "effects").read_text().splitlines()) == [
                "looked here",
                "looked there",
            ]
            assert types.count("run.attempt_started") == 1
            superseded = [e for e in watcher.events if e.get("superseded")]
            assert len(superseded) == 1


@pytest.mark.timeout(120)
async def test_a_tool_that_was_cut_off_is_not_run_again_and_its_outcome_is_called_unknown(
    tmp_path: Path,
) -> None:
    async with patient_server(tmp_path) as server:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "worker"})
        async with followed(server, "s") as followers:
            watcher = followers[0]
            await post(
                server,
                "/v1/sessions/s/commands",
                {"type": "send", "id": "c1", "text": "go"},
            )
            await watcher.until(lambda es: any(e["type"] == "tool.progress" for e in es))
            await server.kill()
            let(tmp_path, WORK)
            await server.restart()
            for follower in followers:
                await follower.until_runs_ended(1)
            check_all_saw_the_same(followers)
            types = [e["type"] for e in watcher.events]
            assert types.count("tool.started") == 1
            assert types.count("tool.unknown_outcome") == 1
            assert types[-1] == "run.completed"
            assert (tmp_path / "effects").read_text().splitlines() == ["ship begun"]


@pytest.mark.rule("approval.shared")
@pytest.mark.timeout(120)
async def test_an_approval_survives_a_kill(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "tools"})
        async with followed(server, "s") as followers:
            await post(
                server,
                "/v1/sessions/s/commands",
                {"type": "send", "id": "c1", "text": "delete notes.txt"},
            )
            watcher = followers[0]
            await watcher.until(lambda es: any(e["type"] == "run.interrupted" for e in es))
            await server.kill()
            await server.restart()
            asked = next(e for e in watcher.events if e["type"] == "approval.requested")
            decision = {"approval_id": asked["approval_id"], "decision": "approve"}
            await post(
                server,
                "/v1/sessions/s/commands",
                {"type": "continue", "id": "c2", "decisions": [decision]},
            )
            for follower in followers:
                await follower.until_runs_ended(1)
            check_all_saw_the_same(followers)
            assert "tool.completed" in [e["type"] for e in watcher.events]


async def test_a_server_that_is_asked_to_stop_ends_in_order_and_the_next_goes_on(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path) as server:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "echo"})
        async with followed(server, "s") as followers:
            await post(
                server,
                "/v1/sessions/s/commands",
                {"type": "send", "id": "c1", "text": WORDS, **ECHO},
            )
            await followers[0].until(lambda es: any(e["type"] == "message.delta" for e in es))
            assert await server.stop() == 0
            await server.restart()
            for follower in followers:
                await follower.until_runs_ended(1)
            check_all_saw_the_same(followers)
