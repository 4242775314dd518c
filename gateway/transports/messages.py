"""What a client may say on a WebSocket, and what it is answered. Pure."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from gateway.commands import (
    COMMAND_TYPES,
    CommandId,
    Ping,
    Role,
    SessionCommand,
    SessionId,
    explain,
    parse_command,
)
from gateway.errors import CommandMalformed, GatewayError

__all__ = [
    "Auth",
    "ClientMessage",
    "Subscribe",
    "Unsubscribe",
    "nack",
    "named",
    "parse_message",
    "read_json",
    "refusal",
]


MOST_NESTED = 100
"""Levels of arrays and objects in what clients send. What reads them may go to 1,024, but what
writes them again gives up at 254 (orjson), and an event has levels of its own around them."""


def read_json(text: str | bytes) -> object:
    """Return what a text of JSON holds.

    Raises:
        CommandMalformed: If it is not JSON, or nested more than `MOST_NESTED` levels deep.
    """
    try:
        held: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CommandMalformed("this is not JSON") from error
    level = [held]
    for _ in range(MOST_NESTED):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return held
    raise CommandMalformed(f"JSON may be nested {MOST_NESTED} levels deep")


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: CommandId | None = None


class Subscribe(_Said):
    """Read a session from `after`; again: from there anew. With an `id` it is acknowledged."""

    type: Literal["subscribe"]
    session_id: SessionId
    after: str | None = None
    role: Role = "controller"


class Unsubscribe(_Said):
    """Stop reading a session."""

    type: Literal["unsubscribe"]
    session_id: SessionId


class Auth(_Said):
    """Show a token."""

    type: Literal["auth"]
    token: str


ClientMessage = Subscribe | Unsubscribe | Auth | SessionCommand | Ping

_OWN: dict[str, TypeAdapter[Subscribe | Unsubscribe | Auth]] = {
    "subscribe": TypeAdapter(Subscribe),
    "unsubscribe": TypeAdapter(Unsubscribe),
    "auth": TypeAdapter(Auth),
}


def parse_message(data: object) -> ClientMessage:
    """Read one message from decoded JSON.

    Raises:
        CommandMalformed: If it is none; the text names what is wrong.
    """
    if not isinstance(data, dict):
        raise CommandMalformed("a message is a JSON object")
    kind = data.get("type")
    if not isinstance(kind, str):
        raise CommandMalformed("missing field `type`")
    if kind in COMMAND_TYPES:
        return parse_command(data)
    if kind not in _OWN:
        raise CommandMalformed(f"unknown `type`; known: {', '.join((*_OWN, *COMMAND_TYPES))}")
    try:
        return _OWN[kind].validate_python(data)
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error


def named(data: object) -> dict[str, str]:
    """Return what an answer to a message that may be malformed can name: `id`, `session_id`."""
    if not isinstance(data, dict):
        return {}
    names = {key: data.get(key) for key in ("id", "session_id")}
    return {key: name for key, name in names.items() if isinstance(name, str)}


def refusal(error: GatewayError) -> dict[str, Any]:
    """Return an error as the `error` object of a `nack`."""
    return {"code": error.code, "message": str(error), "retryable": error.retryable}


def nack(names: dict[str, str], error: dict[str, Any]) -> bytes:
    """Return a refusal as JSON; `id` is null if the message had none that could be read."""
    return orjson.dumps({"type": "nack", "id": None, **names, "error": error})
