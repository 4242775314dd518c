"""Graphs on a real server: questions that outlive it, and nodes that are done once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.scenario.test_kill import check_all_saw_the_same, followed, post
from tests.support.followers import Follower
from tests.support.gates import open_gate
from tests.support.server import Server, running_server
from tests.support.team import EFFECTS

HELD = ["tests.support.held_research:registry"]
COMMANDS = "/v1/sessions/s/commands"


def count(events: Sequence[dict[str, Any]], kind: str, node: str) -> int:
    return sum(e["type"] == kind and e.get("node") == node for e in events)


async def until(follower: Follower, kind: str, number: int = 1, **fields: Any) -> dict[str, Any]:
    """Wait for the nth event with these fields, and return it."""

    def found(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [e for e in events if e["type"] == kind and fields.items() <= e.items()]

    await follower.until(lambda events: len(found(events)) >= number)
    return found(follower.events)[number - 1]


async def tell(server: Server, how: str, command: dict[str, Any]) -> None:
    """Send a command over HTTP or WebSocket, and see that it was accepted."""
    if how == "http":
        await post(server, COMMANDS, command)
        return
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}/v1/ws") as socket,
        asyncio.timeout(30),
    ):
        assert (await socket.receive_json())["type"] == "hello"
        await socket.send_json({**command, "session_id": "s"})
        answer = await socket.receive_json()
        assert (answer["type"], answer["id"]) == ("ack", command["id"])


@pytest.mark.rule("approval.shared", "approval.node", "graph.run")
@pytest.mark.parametrize("how", ["http", "websocket"])
@pytest.mark.timeout(120)
async def test_a_node_that_was_asked_about_runs_once_after_a_kill_and_finished_ones_not_again(
    tmp_path: Path, how: str
) -> None:
    effects = tmp_path / "effects"
    async with running_server(
        tmp_path / "data", ["tests.support.team:registry"], {EFFECTS: str(effects)}
    ) as server:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "guarded"})
        async with followed(server, "s") as followers:
            watcher = followers[0]
            await post(server, COMMANDS, {"type": "send", "id": "c1", "text": "go"})
            await until(watcher, "run.interrupted")
            asked = await until(watcher, "approval.requested", node="risky")
            assert "call_id" not in asked
            await server.kill()
            await server.restart()
            decision = {"approval_id": asked["approval_id"], "decision": "approve"}
            command = {"type": "continue", "id": "c2", "decisions": [decision]}
            await tell(server, how, command)
            for follower in followers:
                await follower.until_runs_ended(1)
            check_all_saw_the_same(followers)
            events = watcher.events
            assert events[-1]["output"] == "planned, done, checked"
            for node in ("plan", "risky", "last"):
                assert count(events, "node.started", node) == 1
                assert count(events, "node.completed", node) == 1
    assert effects.read_text().split() == ["plan", "risky", "last"]


@pytest.mark.rule("run.taken_over", "snapshot.nodes")
@pytest.mark.timeout(120)
async def test_research_goes_on_after_kills_in_every_stage(tmp_path: Path) -> None:
    async with running_server(tmp_path, HELD) as server:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "research"})
        async with followed(server, "s") as followers:
            watcher = followers[0]
            send = {"type": "send", "id": "c1", "text": "How do tides work?"}
            await post(server, COMMANDS, send)
            await open_gate(server.url)  # of the plan
            await open_gate(server.url)  # of one fetch; the others stand at theirs
            first = (await until(watcher, "node.completed", 2))["node"]
            await server.kill()
            await server.restart()
            for _ in range(2):
                await open_gate(server.url)
            await until(watcher, "run.interrupted")
            asked = await until(watcher, "approval.requested", node="approve")
            await server.kill()
            await server.restart()
            async with aiohttp.ClientSession() as http:
                snapshot = await (await http.get(f"{server.url}/v1/sessions/s")).json()
            stands = {node["node"]: node["status"] for node in snapshot["run"]["nodes"]}
            fetched = {f"fetch_{number}": "completed" for number in (1, 2, 3)}
            assert stands == {"plan": "completed", **fetched, "approve": "interrupted"}
            decision = {"approval_id": asked["approval_id"], "decision": "approve"}
            await post(server, COMMANDS, {"type": "continue", "id": "c2", "decisions": [decision]})
            await until(watcher, "message.delta")
            await server.kill()
            await server.restart()
            await open_gate(server.url)  # of the report
            for follower in followers:
                await follower.until_runs_ended(1)
            check_all_saw_the_same(followers)
            events = watcher.events
            assert count(events, "node.started", "plan") == 1
            fetches = ["fetch_1", "fetch_2", "fetch_3"]
            begun = [count(events, "node.started", name) for name in fetches]
            assert begun == [1 if name == first else 2 for name in fetches]
            assert [count(events, "node.completed", name) for name in fetches] == [1, 1, 1]
            assert count(events, "node.completed", "approve") == 1
            said = [e for e in events if e["type"] == "message.completed"]
            assert [e.get("superseded", False) for e in said] == [True, False]
            assert said[1]["text"] == events[-1]["output"]
            assert "Coast almanac" in said[1]["text"]


async def test_a_graph_that_is_cancelled_while_it_fetches_ends_at_once_and_can_be_continued(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path, HELD) as server:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "research"})
        async with followed(server, "s") as followers:
            watcher = followers[0]
            send = {"type": "send", "id": "c1", "text": "Why is the sea salty?"}
            await post(server, COMMANDS, send)
            await open_gate(server.url)  # of the plan; each fetch stands at a gate of its own
            for number in (1, 2, 3):
                await until(watcher, "node.update", 2, node=f"fetch_{number}")
            await post(server, COMMANDS, {"type": "cancel", "id": "c2"})
            await until(watcher, "run.cancelled")
            await post(server, COMMANDS, {"type": "continue", "id": "c3"})
            asked = await until(watcher, "approval.requested")
            decision = {
                "approval_id": asked["approval_id"],
                "decision": "reject",
                "message": "not today",
            }
            await post(server, COMMANDS, {"type": "continue", "id": "c4", "decisions": [decision]})
            for follower in followers:
                await follower.until_runs_ended(2)
            check_all_saw_the_same(followers)
            events = watcher.events
            assert events[-1]["output"] == "Nothing was written. You said: not today"
            assert count(events, "node.started", "plan") == 1
            closed = [e["node"] for e in events if e["type"] == "node.failed"]
            assert closed == ["fetch_3", "fetch_2", "fetch_1", "approve"]
