"""A few runs that many checks look at. Each happens once; see `Target.once`.

Nobody writes to their sessions afterwards.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from gateway.conformance.check import Role
from gateway.conformance.events import Log
from gateway.conformance.target import Target

__all__ = [
    "STORIES",
    "WORDS",
    "Story",
    "deletion",
    "many_writers",
    "research",
    "stopped_research",
    "talk",
    "weather",
]

WORDS = " ".join(f"word{number}" for number in range(30))
"""What `echo` is told: long enough to be in the middle of it, with a text for each word."""

SLOW_MS = 40
"""Milliseconds between two words: slow enough to do something in between."""


@dataclass(frozen=True, slots=True)
class Story:
    """A session and its log at the end. `snapshots` were taken on the way."""

    session_id: str
    log: Log
    snapshots: tuple[dict[str, Any], ...] = ()


async def talk(target: Target) -> Story:
    """Two answers, one of them stopped in the middle."""
    session_id = await target.session("echo")
    await target.say(session_id, "Nothing lost, nothing twice.")
    ack = await target.send(session_id, WORDS, options={"interval_ms": SLOW_MS})
    run_id = ack["run_id"]
    await target.until(
        session_id,
        lambda event: event.type == "message.delta" and event.get("run_id") == run_id,
        "message.delta",
    )
    middle = await target.snapshot(session_id)
    (await target.command(session_id, "cancel")).must_be(202)
    return Story(session_id, await target.ended(session_id, run_id), (middle,))


async def many_writers(target: Target) -> Story:
    """Inputs that come at the same time: one works, the others wait."""
    session_id = await target.session("echo")
    async with asyncio.TaskGroup() as tasks:
        sent = [tasks.create_task(target.send(session_id, f"input {each}")) for each in range(6)]
    middle = await target.snapshot(session_id)
    for each in sent:
        await target.ended(session_id, each.result()["run_id"])
    return Story(session_id, await target.log(session_id), (middle,))


async def weather(target: Target) -> Story:
    """Two tools side by side."""
    session_id = await target.session("tools")
    ack = await target.send(session_id, "weather in Oslo and Rome")
    await target.until(session_id, lambda event: event.type == "tool.started", "tool.started")
    middle = await target.snapshot(session_id)
    return Story(session_id, await target.ended(session_id, ack["run_id"]), (middle,))


async def deletion(target: Target) -> Story:
    """A tool that needs an approval, which is given."""
    session_id = await target.session("tools")
    log = await target.say(session_id, "delete notes.txt")
    waits = await target.snapshot(session_id)
    run_id = log[-1].get("run_id")
    await _approve(target, session_id, waits)
    return Story(session_id, await target.decided(session_id, run_id), (waits,))


async def research(target: Target) -> Story:
    """A graph: nodes side by side, a human, an agent that speaks."""
    session_id = await target.session("research")
    ack = await target.send(session_id, "tides")
    await target.until(session_id, lambda event: event.type == "node.update", "node.update")
    middle = await target.snapshot(session_id)
    await target.ended(session_id, ack["run_id"])
    waits = await target.snapshot(session_id)
    await _approve(target, session_id, waits)
    log = await target.decided(session_id, ack["run_id"])
    return Story(session_id, log, (middle, waits))


async def stopped_research(target: Target) -> Story:
    """A graph that is stopped while its nodes work."""
    session_id = await target.session("research")
    ack = await target.send(session_id, "salt")
    await target.until(session_id, lambda event: event.get("index") == 2, "superstep 2")  # noqa: PLR2004
    (await target.command(session_id, "cancel")).must_be(202)
    return Story(session_id, await target.ended(session_id, ack["run_id"]))


async def _approve(target: Target, session_id: str, waits: dict[str, Any]) -> None:
    decisions = [
        {"approval_id": approval["approval_id"], "decision": "approve"}
        for approval in waits["approvals"]
    ]
    (await target.command(session_id, "continue", decisions=decisions)).must_be(202)


STORIES: dict[Role, tuple[Any, ...]] = {
    "echo": (talk, many_writers),
    "tools": (weather, deletion),
    "research": (research, stopped_research),
}
"""Which can be had from whom."""
