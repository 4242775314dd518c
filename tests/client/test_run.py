"""A run that is followed, against a server that says what a test wants."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from gateway.client import (
    Disconnected,
    Entry,
    Reconnected,
    Refused,
    Reset,
    Run,
    RunNotCompleted,
    SessionGone,
    Unreachable,
)
from runtime.events import MessageDelta, RunCancelled, RunCompleted
from tests.client.server_played import (
    PATIENCE,
    Line,
    Played,
    ack,
    completed,
    delta,
    event,
    playing,
    problem,
    reset,
)


async def followed(run: Run) -> list[Any]:
    async with asyncio.timeout(PATIENCE), aclosing(run.events()) as told:
        return [each async for each in told]


def begun(played: Played) -> Run:
    return played.client.session("s").run("hi")


def texts(told: list[Any]) -> str:
    return "".join(
        each.event.text
        for each in told
        if isinstance(each, Entry) and isinstance(each.event, MessageDelta)
    )


async def test_a_run_is_followed_from_its_command_on_and_ends_with_its_end() -> None:
    async def play(line: Line) -> None:
        assert line.after == "e.4.t"
        await line.say(delta(5, "a"), delta(5, "a"), delta(6, "b"))
        await line.say(event(7, "message.sung"), {"type": "stream.new"}, delta(8, "c"))
        await line.say(delta(9, "not ours", run_id="another"), delta(10, "d"), completed(11))
        await line.until_gone()

    async with playing(play) as played:
        run = begun(played)
        told = await followed(run)
    assert texts(told) == "abcd"
    assert isinstance(run.end, RunCompleted)
    assert (run.run_id, run.cursor) == ("r", "e.11.t")


@pytest.mark.rule("resume.exact")
async def test_after_a_gap_it_comes_back_with_the_last_event_that_it_handed_over() -> None:
    async def hole(line: Line) -> None:
        await line.say(delta(5, "a"), delta(7, "c"))
        await line.until_gone()

    async def whole(line: Line) -> None:
        assert line.after == "e.5.t"
        await line.say(delta(6, "b"), delta(7, "c"), completed(8))
        await line.until_gone()

    async with playing(hole, whole) as played:
        told = await followed(begun(played))
    assert texts(told) == "abc"
    lines = [type(each) for each in told if isinstance(each, Disconnected | Reconnected)]
    assert lines == [Disconnected, Reconnected]


@pytest.mark.rule("command.once")
async def test_a_command_is_sent_again_under_its_id_until_it_is_answered() -> None:
    async def drop(command: dict[str, Any]) -> web.Response:
        raise ConnectionResetError

    async def play(line: Line) -> None:
        await line.say(completed(5))
        await line.until_gone()

    busy = problem(503, "engine_unavailable", "later")
    async with playing(play, answers=[busy, busy, ack]) as played:
        told = await followed(begun(played))
    assert len(played.commands) == 3
    assert played.commands[0] == played.commands[1] == played.commands[2]
    assert [type(each) for each in told[:2]] == [Disconnected, Reconnected]


async def test_an_answered_command_is_not_sent_again() -> None:
    async def first(line: Line) -> None:
        await line.close(1013)

    async def second(line: Line) -> None:
        await line.say(completed(5))
        await line.until_gone()

    async with playing(first, second) as played:
        await followed(begun(played))
    assert len(played.commands) == 1


@pytest.mark.parametrize("code", [4400, 4404, 4410])
async def test_a_close_code_that_says_so_ends_the_tries(code: int) -> None:
    async def play(line: Line) -> None:
        await line.close(code)

    async with playing(play) as played:
        with pytest.raises(Refused) as refused:
            await followed(begun(played))
    assert isinstance(refused.value, SessionGone) == (code == 4410)


async def test_a_refusal_is_raised_with_its_code() -> None:
    async with playing(answers=[problem(409, "run_active", "run 'x' is active")]) as played:
        with pytest.raises(Refused, match="run 'x' is active") as refused:
            await followed(begun(played))
    assert refused.value.code == "run_active"


@pytest.mark.rule("cancel.bounded")
async def test_a_cancel_waits_until_the_run_is_known_and_is_said_once() -> None:
    came, asked, said, again = (asyncio.Event() for _ in range(4))

    async def late(command: dict[str, Any]) -> web.Response:
        came.set()
        await asked.wait()
        return ack(command)

    async def cancelled(command: dict[str, Any]) -> web.Response:
        said.set()
        return ack(command)

    async def play(line: Line) -> None:
        await again.wait()
        await line.say(event(5, "run.cancelled", reason="cancel"))
        await line.until_gone()

    async with playing(play, answers=[late, cancelled]) as played, asyncio.timeout(PATIENCE):
        run = begun(played)
        task = asyncio.create_task(followed(run))
        await came.wait()
        run.cancel()
        run.cancel()
        asked.set()
        await said.wait()
        run.cancel()
        again.set()
        await task
    assert isinstance(run.end, RunCancelled)
    assert [(each["type"], each.get("run_id")) for each in played.commands] == [
        ("send", None),
        ("cancel", "r"),
    ]


async def test_a_reset_hands_the_snapshot_over_and_the_run_goes_on_from_its_cursor() -> None:
    snapshot = {"run": {"run_id": "r", "status": "running"}, "messages": [], "queue": []}

    async def play(line: Line) -> None:
        await line.say(delta(5, "a"), reset("fork", "f.2.t", snapshot))
        await line.close(1012)

    async def again(line: Line) -> None:
        assert line.after == "f.2.t"
        await line.say(delta(3, "b"), completed(4))
        await line.until_gone()

    async with playing(play, again) as played:
        told = await followed(begun(played))
    (found,) = [each for each in told if isinstance(each, Reset)]
    assert (found.reason, found.snapshot) == ("fork", snapshot)
    assert texts(told) == "ab"


@pytest.mark.parametrize("status", ["completed", "cancelled"])
async def test_a_run_that_ended_while_nobody_could_hear_ends_with_the_snapshot(status: str) -> None:
    snapshot = {"run": {"run_id": "r", "status": status}, "messages": [], "queue": []}

    async def play(line: Line) -> None:
        await line.say(reset("trimmed", "f.2.t", snapshot))
        await line.until_gone()

    async with playing(play) as played:
        run = begun(played)
        await followed(run)
    assert run.end is not None
    assert run.end.type == f"run.{status}"


async def test_a_run_that_the_server_has_lost_is_told_to_be_lost() -> None:
    async def play(line: Line) -> None:
        await line.say(reset("epoch_changed", "f.0.t", {}))
        await line.until_gone()

    async with playing(play) as played:
        with pytest.raises(Refused, match="lost this run") as refused:
            await followed(begun(played))
    assert refused.value.code == "run_lost"


async def test_a_server_that_does_not_come_back_is_given_up_when_patience_is_over() -> None:
    async with playing(patience=0.0) as played:
        with pytest.raises(Unreachable, match="does not come back"):
            await followed(begun(played))


async def test_asking_raises_how_a_run_ended_that_gave_no_answer() -> None:
    async def play(line: Line) -> None:
        await line.say(event(5, "run.failed", error={"code": "x", "message": "y"}))
        await line.until_gone()

    async with playing(play) as played, asyncio.timeout(PATIENCE):
        with pytest.raises(RunNotCompleted) as told:
            await played.client.session("s").ask("hi")
    assert told.value.end.type == "run.failed"
