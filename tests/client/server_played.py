"""A server that says what a test wants, over real connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from gateway.client import Client

__all__ = [
    "PATIENCE",
    "Line",
    "Played",
    "ack",
    "completed",
    "delta",
    "event",
    "playing",
    "problem",
    "reset",
]

PATIENCE = 30.0

Answer = Callable[[dict[str, Any]], Awaitable[web.Response] | web.Response]


class Line:
    """One WebSocket, from the server's side; the client has subscribed."""

    def __init__(self, socket: web.WebSocketResponse, subscription: dict[str, Any]) -> None:
        self._socket = socket
        self.after = subscription.get("after")

    async def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self._socket.send_json(message)

    async def close(self, code: int) -> None:
        await self._socket.close(code=code)

    async def until_gone(self) -> None:
        while (await self._socket.receive()).type is WSMsgType.TEXT:
            pass


Play = Callable[[Line], Awaitable[None]]


class Played:
    """What came to the server.

    Attributes:
        client: A client of it.
        commands: All commands, in order, repeats included.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.commands: list[dict[str, Any]] = []


@asynccontextmanager
async def playing(
    *plays: Play,
    answers: Sequence[Answer] = (),
    patience: float | None = None,
    heartbeat: float = 25,
) -> AsyncIterator[Played]:
    """Run a server that plays these, a connection each.

    Args:
        plays: What happens on each WebSocket, after the subscription was acknowledged.
        answers: To commands, in order; all others are acknowledged.
        patience: The client's.
        heartbeat: What the server announces.
    """
    waiting, answering = list(plays), list(answers)
    failures: list[BaseException] = []

    async def talk(request: web.Request) -> web.StreamResponse:
        if not waiting:
            return web.Response(status=503)
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        try:
            await socket.send_json({"type": "hello", "v": 1, "heartbeat_s": heartbeat})
            asked = await socket.receive_json(timeout=PATIENCE)
            where = "e.7.t" if asked.get("after") == "$" else asked.get("after", "e.0.t")
            await socket.send_json({"type": "ack", "id": asked["id"], "cursor": where})
            await waiting.pop(0)(Line(socket, asked))
        except AssertionError as error:  # the test's own; told at its end
            failures.append(error)
        return socket

    async def obey(request: web.Request) -> web.Response:
        command = orjson.loads(await request.read())
        played.commands.append(command)
        answer = answering.pop(0) if answering else ack
        answered = answer(command)
        return answered if isinstance(answered, web.Response) else await answered

    app = web.Application()
    app.add_routes([web.get("/v1/ws", talk), web.post("/v1/sessions/s/commands", obey)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with Client(address, patience=patience) as client:
            played = Played(client)
            yield played
    finally:
        await runner.cleanup()
    assert failures == []
    assert waiting == [], "a connection was never made"


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


def delta(seq: int, text: str, run_id: str = "r") -> dict[str, Any]:
    return event(seq, "message.delta", message_id="m", text=text, run_id=run_id)


def completed(seq: int) -> dict[str, Any]:
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return event(seq, "run.completed", output="", usage=usage, message_count=1, num_turns=1)


def reset(reason: str, cursor: str, snapshot: dict[str, Any]) -> dict[str, Any]:
    return {"type": "stream.reset", "reason": reason, "cursor": cursor, "snapshot": snapshot}


def ack(command: dict[str, Any]) -> web.Response:
    told = {"type": "ack", "id": command["id"], "run_id": "r", "cursor": "e.4.t"}
    return web.json_response(told, status=202)


def problem(status: int, code: str, detail: str, **headers: str) -> Answer:
    body = {"code": code, "detail": detail, "status": status}

    def answer(command: dict[str, Any]) -> web.Response:
        return web.json_response(body, status=status, headers=headers)

    return answer
