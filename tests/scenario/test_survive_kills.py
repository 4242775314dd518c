"""Servers that are killed by what they run: at each moment of a tool, again and again, after an ack."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.patient import TALK, patient_server
from tests.scenario.test_hand_over import effects, following, of, of_kind, send
from tests.scenario.test_kill import post
from tests.support.file_gates import let
from tests.support.followers import check_history
from tests.support.server import Server
from tests.support.survivors import MOMENTS

BOTH = frozenset({"pay", "store"})
UNKNOWN = {"after_intent", "after_effect"}
"""When a tool that must not be run twice has begun, and nobody knows whether it did anything."""

MADE = {
    "token": ["pay", "store"],
    "before_intent": ["pay", "store"],
    "after_intent": ["store"],
    "after_effect": ["pay", "store", "store"],
    "after_result": ["pay", "store"],
}
"""The effects of a run that is killed once: `pay` at most once, `store` again under its key."""


async def revived(server: Server) -> None:
    """Wait until the server has killed itself, and start it again."""
    await server.ended()
    await server.restart()


@pytest.mark.fault("F2", holds=("I5", "I6"))
@pytest.mark.rule("run.taken_over", "run.one_end", "run.boundaries")
@pytest.mark.timeout(120)
async def test_a_kill_at_any_moment_of_a_tool_has_no_more_effects_than_the_tool_allows(
    tmp_path: Path,
) -> None:
    async with patient_server(tmp_path) as server:
        for moment in MOMENTS:
            await post(server, "/v1/sessions", {"session_id": moment, "agent": moment})
        async with following(server, *MOMENTS) as seen:
            for moment in MOMENTS:
                await send(server, moment)
                await revived(server)
                await seen[moment].until_runs_ended(1)
        for moment in MOMENTS:
            events = seen[moment].events
            check_history(events)
            assert events[-1]["type"] == "run.completed", moment
            assert events[-1]["output"] == "both done"
            (taken,) = of(seen[moment], "run.attempt_started")
            assert taken["attempt"] == 2
            unknown = [e["name"] for e in of(seen[moment], "tool.unknown_outcome")]
            assert unknown == (["pay"] if moment in UNKNOWN else [])
            completed = {e["name"] for e in of(seen[moment], "tool.completed")}
            assert completed == BOTH - set(unknown)
            steps = 3 if moment == "token" else 2
            assert len(of(seen[moment], "model.started")) == steps + (moment == "after_result")
            run_id = taken["run_id"]
            made = [line.split() for line in effects(tmp_path) if line.startswith(f"{moment} ")]
            assert sorted(name for _, name, _ in made) == MADE[moment]
            assert {(name, key) for _, name, key in made} <= {
                (name, f"{run_id}:c_{name}") for name in BOTH
            }, "a call that is made again has the key that it had"


@pytest.mark.fault("F5", holds=("I6", "I12"))
@pytest.mark.rule("run.taken_over", "run.one_end")
async def test_a_run_that_kills_every_server_is_given_up_after_three(tmp_path: Path) -> None:
    async with patient_server(tmp_path) as server:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "killer"})
        async with following(server, "s") as seen:
            await send(server, "s")
            for _ in range(3):
                await server.ended()
                await server.start(wait_ready=False)
            await seen["s"].until_runs_ended(1)
            await send(server, "s", agent="brief")
            await seen["s"].until(of_kind("run.completed"))  # the session is as good as ever
        check_history(seen["s"].events)
        (failed,) = of(seen["s"], "run.failed")
        assert failed["error"]["code"] == "attempts_exhausted"
        assert [e["attempt"] for e in of(seen["s"], "run.attempt_started")] == [2, 3]
        assert effects(tmp_path) == ["killer asked"] * 3, "three calls of the model, and no more"


@pytest.mark.fault("F34", holds=("I6", "I10"))
@pytest.mark.rule("cancel.bounded", "command.ack", "run.one_end")
async def test_an_acknowledged_cancel_ends_the_run_although_the_server_is_killed_then(
    tmp_path: Path,
) -> None:
    sessions = ("talking", "working", "asking", "waiting")
    agents = ("talker", "worker", "asker", "talker")
    async with patient_server(tmp_path) as server:
        for session_id, agent in zip(sessions, agents, strict=True):
            await post(server, "/v1/sessions", {"session_id": session_id, "agent": agent})
        async with following(server, *sessions) as seen:
            for session_id in sessions:
                await send(server, session_id)
            await send(server, "waiting", agent="brief")
            await seen["asking"].until(of_kind("run.interrupted"))
            await seen["talking"].until(of_kind("message.delta"))
            await seen["working"].until(of_kind("tool.started"))
            await seen["waiting"].until(of_kind("input.queued"))
            queued = of(seen["waiting"], "input.queued")[0]["run_id"]
            async with asyncio.TaskGroup() as group:
                for session_id in sessions:
                    named = {"run_id": queued} if session_id == "waiting" else {}
                    group.create_task(_cancel(server, session_id, named))
            await server.kill()
            let(tmp_path, TALK)
            await server.restart()
            for session_id in sessions:
                await seen[session_id].until(of_kind("run.cancelled"))
            await seen["waiting"].until_runs_ended(2)
        for session_id in sessions:
            events: Sequence[dict[str, Any]] = seen[session_id].events
            check_history(events)
            (cancelled,) = of(seen[session_id], "run.cancelled")
            assert cancelled["reason"] == "cancel"
            after = events[cancelled["seq"] :]
            assert all(event.get("run_id") != cancelled["run_id"] for event in after)
        assert "launched" not in effects(tmp_path)


async def _cancel(server: Server, session_id: str, named: dict[str, str]) -> None:
    command = {"type": "cancel", "id": "stop", **named}
    await post(server, f"/v1/sessions/{session_id}/commands", command)
