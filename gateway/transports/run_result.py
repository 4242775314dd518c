"""`POST …/messages`: say something and get the answer of that run, whole or as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import orjson
from aiohttp import web

from gateway.codecs.native import event_json
from gateway.commands import Ack, Send
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.transports.following import check_readable, follow_run, run_of
from gateway.transports.ndjson import stream_lines
from gateway.transports.negotiate import EVENT_STREAM, NDJSON
from gateway.transports.services import Services
from gateway.transports.sse import stream_steps

__all__ = ["answer_message"]

_STATUS = {
    "run.completed": "completed",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
    "run.interrupted": "interrupted",
}
_FIELDS = ("usage", "error", "finish_reason", "reason")


async def answer_message(
    request: web.Request, services: Services, command: Send, media_type: str
) -> web.StreamResponse:
    """Obey a `send` and answer with what comes of it; the client controls the session for as long.

    Args:
        request: The request.
        services: The server's parts.
        command: The command.
        media_type: `application/json` waits for the end of the run; the others stream it.

    Raises:
        GatewayError: If the command is refused, or nothing can be read of its run any more.
    """
    services.streams.check()
    with services.manager.attending(command.session_id):
        return await _answer(request, services, command, media_type)


async def _answer(
    request: web.Request, services: Services, command: Send, media_type: str
) -> web.StreamResponse:
    ack = await services.manager.obey(command)
    assert isinstance(ack, Ack)  # noqa: S101 - only a ping gets a pong
    position = Position.parse(ack.cursor)
    # A command that is repeated may point at what was trimmed: say so before a stream begins.
    await check_readable(services, command.session_id, position)
    place = await run_of(services, ack)
    steps = follow_run(services, place, after=position, idle=services.settings.keepalive_s)
    if media_type == EVENT_STREAM:
        return await stream_steps(request, services, steps, start=position)
    if media_type == NDJSON:
        return await stream_lines(request, services, steps)
    async with services.streams.until_drained(), aclosing(steps):
        result = await _result(steps, ack)
    return web.Response(body=orjson.dumps(result), content_type="application/json")


async def _result(batches: AsyncGenerator[Sequence[Entry]], ack: Ack) -> dict[str, Any]:
    """Wait for the end of the run and sum it up."""
    approvals: dict[str, dict[str, Any]] = {}
    event: dict[str, Any] = {}
    async for batch in batches:
        for entry in batch:
            event = orjson.loads(entry.encoded(event_json))
            if event["type"] == "approval.requested":
                approvals[event["approval_id"]] = _approval(event)
    result = {
        "session_id": ack.session_id,
        "run_id": event["run_id"],
        "status": _STATUS[event["type"]],
        "output": event.get("output", event.get("partial_output", "")),
        "cursor": event["cursor"],
    }
    result |= {name: event[name] for name in _FIELDS if name in event}
    if "pending" in event:
        result["approvals"] = [approvals[key] for key in event["pending"] if key in approvals]
    return result


def _approval(event: dict[str, Any]) -> dict[str, Any]:
    """Return an approval as the snapshot shows it."""
    names = (
        "approval_id",
        "run_id",
        "call_id",
        "node",
        "tool",
        "arguments",
        "reason",
        "expires_at",
    )
    return {name: event[name] for name in names if name in event}
