"""A client against a server that says what a test wants, over a real WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import WSMsgType, web

from gateway.remote import session as session_module
from gateway.remote.errors import RemoteRefused, RemoteUnreachable
from gateway.remote.server import RemoteServer
from gateway.remote.session import Back, Lost, RemoteSession, Reset
from runtime.events import Event, MessageDelta, RunCancelled, RunCompleted

PATIENCE = 10.0


class Line:
    """One connection, from the server's side."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._socket.receive_json(timeout=PATIENCE)
        return message

    async def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self._socket.send_json(message)

    async def close(self, code: int) -> None:
        await self._socket.close(code=code)

    async def until_gone(self) -> list[dict[str, Any]]:
        """Return what was said until the client left."""
        heard = []
        while (message := await self._socket.receive()).type is WSMsgType.TEXT:
            heard.append(orjson.loads(message.data))
        return heard


Play = Callable[[Line], Awaitable[None]]


@asynccontextmanager
async def playing(*plays: Play) -> AsyncIterator[RemoteSession]:
    """Run a server that plays these, a connection each, and a session of a client on it."""
    waiting = list(plays)
    failures: list[BaseException] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if not waiting:
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        try:
            await waiting.pop(0)(Line(socket))
        except AssertionError as error:  # the test's own; told at its end
            failures.append(error)
        return socket

    app = web.Application()
    app.add_routes([web.get("/v1/ws", answer)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = RemoteServer(f"127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield RemoteSession(server, "s", "e.3.t")
    finally:
        await server.aclose()
        await runner.cleanup()
    assert failures == []
    assert waiting == [], "a connection was never made"


async def followed(session: RemoteSession, **command: Any) -> list[Any]:
    async with (
        asyncio.timeout(PATIENCE),
        aclosing(session.run({"type": "send", "text": "hi", **command})) as run,
    ):
        return [each async for each in run]


def event(seq: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "type": kind,
        "session_id": "s",
        "seq": seq,
        "cursor": f"e.{seq}.t",
        "ts": "2026-11-21T02:00:00.123Z",
        "run_id": "r",
        **fields,
    }


def accepted(seq: int, command: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "user", "content": "hi"}
    return event(seq, "input.accepted", message=message, command_id=command["id"], policy="enqueue")


def delta(seq: int, text: str, run_id: str = "r") -> dict[str, Any]:
    return event(seq, "message.delta", message_id="m", text=text, run_id=run_id)


def completed(seq: int) -> dict[str, Any]:
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return event(seq, "run.completed", output="", usage=usage, message_count=1, num_turns=1)


def ack(command: dict[str, Any]) -> dict[str, Any]:
    return {"type": "ack", "id": command["id"], "session_id": "s", "run_id": "r", "cursor": "e.4.t"}


def texts(heard: list[Any]) -> str:
    return "".join(each.text for each in heard if isinstance(each, MessageDelta))


async def test_what_comes_twice_is_dropped_and_what_is_unknown_counts() -> None:
    async def play(line: Line) -> None:
        assert (await line.hear())["after"] == "e.3.t"
        command = await line.hear()
        await line.say({"type": "hello", "v": 1}, ack(command), accepted(4, command))
        await line.say(delta(5, "a"), delta(5, "a"), accepted(4, command), delta(6, "b"))
        await line.say(event(7, "message.sung"), {"type": "stream.new"}, delta(8, "c"))
        await line.say(delta(9, "not ours", run_id="another"), delta(10, "d"), completed(11))
        await line.until_gone()

    async with playing(play) as session:
        heard = await followed(session)
        assert texts(heard) == "abcd"
        assert isinstance(heard[-1], RunCompleted)
        assert session.cursor == "e.11.t"


async def test_after_a_gap_it_comes_back_with_the_last_event_that_it_handed_over() -> None:
    async def hole(line: Line) -> None:
        await line.hear()
        command = await line.hear()
        await line.say(ack(command), accepted(4, command), delta(5, "a"), delta(7, "c"))
        await line.until_gone()

    async def whole(line: Line) -> None:
        assert (await line.hear())["after"] == "e.5.t"
        await line.say({"type": "hello"}, delta(6, "b"), delta(7, "c"), completed(8))
        await line.until_gone()

    async with playing(hole, whole) as session:
        heard = await followed(session)
    assert texts(heard) == "abc"
    assert [type(each) for each in heard if isinstance(each, Lost | Back)] == [Lost, Back]


async def test_a_command_is_sent_again_under_its_id_until_it_is_answered() -> None:
    ids = []

    async def deaf(line: Line) -> None:
        await line.hear()
        ids.append((await line.hear())["id"])
        await line.close(1012)

    async def busy(line: Line) -> None:
        await line.hear()
        for _ in range(2):
            command = await line.hear()
            ids.append(command["id"])
            error = {"code": "engine_unavailable", "message": "later", "retryable": True}
            await line.say({"type": "nack", "id": command["id"], "error": error})
        command = await line.hear()
        ids.append(command["id"])
        await line.say(ack(command), accepted(4, command), completed(5))
        await line.until_gone()

    async with playing(deaf, busy) as session:
        await followed(session)
    assert len(ids) == 4
    assert len(set(ids)) == 1


async def test_an_answered_command_is_not_sent_again() -> None:
    async def first(line: Line) -> None:
        await line.hear()
        await line.say(ack(await line.hear()))
        await line.close(1013)

    async def second(line: Line) -> None:
        assert (await line.hear())["type"] == "subscribe"
        await line.say(completed(4))
        assert await line.until_gone() == []

    async with playing(first, second) as session:
        await followed(session)


@pytest.mark.parametrize("code", [4400, 4404, 4410])
async def test_a_close_code_that_says_so_ends_the_tries(code: int) -> None:
    async def play(line: Line) -> None:
        await line.hear()
        await line.close(code)

    async with playing(play) as session:
        with pytest.raises(RemoteRefused):
            await followed(session)


async def test_a_refusal_is_raised_with_its_code() -> None:
    async def play(line: Line) -> None:
        await line.hear()
        command = await line.hear()
        error = {"code": "run_active", "message": "run 'x' is active", "retryable": False}
        await line.say({"type": "nack", "id": command["id"], "error": error})
        await line.until_gone()

    async with playing(play) as session:
        with pytest.raises(RemoteRefused, match="run 'x' is active") as refused:
            await followed(session)
    assert refused.value.code == "run_active"


async def test_a_cancel_waits_until_the_run_is_known_and_is_said_once() -> None:
    heard: list[dict[str, Any]] = []
    came, asked, said, again = (asyncio.Event() for _ in range(4))

    async def play(line: Line) -> None:
        await line.hear()
        command = await line.hear()
        came.set()
        await asked.wait()
        await line.say(ack(command), accepted(4, command))
        heard.append(await line.hear())
        said.set()
        await again.wait()
        await line.say(event(5, "run.cancelled", reason="cancel"))
        heard.extend(await line.until_gone())

    async with playing(play) as session, asyncio.timeout(PATIENCE):
        task = asyncio.create_task(followed(session))
        await came.wait()
        session.cancel()
        session.cancel()
        asked.set()
        await said.wait()
        session.cancel()
        again.set()
        events = await task
    assert isinstance(events[-1], RunCancelled)
    assert [(each["type"], each["run_id"]) for each in heard] == [("cancel", "r")]


async def test_a_reset_hands_the_snapshot_over_and_goes_on_from_its_cursor() -> None:
    snapshot = {"run": {"run_id": "r", "status": "running"}, "messages": [], "queue": []}

    async def play(line: Line) -> None:
        await line.hear()
        command = await line.hear()
        await line.say(ack(command), accepted(4, command), delta(5, "a"))
        await line.say(
            {"type": "stream.reset", "reason": "fork", "cursor": "f.2.t", "snapshot": snapshot}
        )
        await line.close(1012)

    async def again(line: Line) -> None:
        assert (await line.hear())["after"] == "f.2.t"
        await line.say(delta(3, "b"), completed(4))
        await line.until_gone()

    async with playing(play, again) as session:
        heard = await followed(session)
    (reset,) = [each for each in heard if isinstance(each, Reset)]
    assert (reset.reason, reset.snapshot) == ("fork", snapshot)
    assert texts(heard) == "ab"


@pytest.mark.parametrize("status", ["completed", "cancelled"])
async def test_a_run_that_ended_while_nobody_could_hear_ends_with_the_snapshot(status: str) -> None:
    snapshot = {"run": {"run_id": "r", "status": status}, "messages": [], "queue": []}

    async def play(line: Line) -> None:
        await line.hear()
        await line.say(ack(await line.hear()))
        await line.say(
            {"type": "stream.reset", "reason": "trimmed", "cursor": "f.2.t", "snapshot": snapshot}
        )
        await line.until_gone()

    async with playing(play) as session:
        end: Event = (await followed(session))[-1]
    assert end.type == f"run.{status}"


async def test_a_run_that_the_server_has_lost_is_told_to_be_lost() -> None:
    async def play(line: Line) -> None:
        await line.hear()
        await line.say(ack(await line.hear()))
        await line.say(
            {"type": "stream.reset", "reason": "epoch_changed", "cursor": "f.0.t", "snapshot": {}}
        )
        await line.until_gone()

    async with playing(play) as session:
        with pytest.raises(RemoteRefused, match="lost this run") as refused:
            await followed(session)
    assert refused.value.code == "run_lost"


async def test_a_server_that_does_not_come_back_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "GIVE_UP_SECONDS", 0.0)
    async with playing() as session:
        with pytest.raises(RemoteUnreachable, match="does not come back"):
            await followed(session)
