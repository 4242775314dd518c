"""What requests carry: bodies, ids in the path, numbers in the query."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.commands import Role
from gateway.errors import CommandMalformed, CommandTooLarge, SessionUnknown, SlowBody
from gateway.transports.messages import read_json

__all__ = [
    "BODY_SECONDS",
    "NO_HTTP",
    "body_of",
    "client_id_of",
    "command_body",
    "is_client_id",
    "json_body",
    "json_object",
    "number_of",
    "role_of",
    "session_id_of",
]

BODY_SECONDS = web.AppKey("body_seconds", float)
"""How long a body may take to come, as the application was told."""

NO_HTTP = (HttpProcessingError, web.RequestPayloadError)
"""What aiohttp raises where a client breaks the rules of HTTP."""

_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def session_id_of(request: web.Request) -> str:
    """Return the session that the path names.

    Raises:
        SessionUnknown: If no session can have this name.
    """
    session_id = request.match_info["session_id"]
    if _SESSION_ID.fullmatch(session_id) is None:
        raise SessionUnknown(session_id)
    return session_id


def is_client_id(text: str) -> bool:
    """Whether a client may call itself so."""
    return _CLIENT_ID.fullmatch(text) is not None


def client_id_of(request: web.Request) -> str:
    """Return the client that the path names.

    Raises:
        CommandMalformed: If it is no client id.
    """
    client_id = request.match_info["client_id"]
    if not is_client_id(client_id):
        raise CommandMalformed("a client id has 1 to 64 of A-Z a-z 0-9 . _ -")
    return client_id


def role_of(request: web.Request) -> Role:
    """Return whether whoever follows controls what it follows, or only watches.

    Raises:
        CommandMalformed: If `?role=` says something else.
    """
    role = request.query.get("role", "controller")
    if role not in {"controller", "observer"}:
        raise CommandMalformed("`role` is `controller` or `observer`")
    return "observer" if role == "observer" else "controller"


def number_of(request: web.Request, name: str, *, default: int, most: int) -> int:
    """Return a number from 1 to `most` of the query.

    Raises:
        CommandMalformed: If it is none.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most))):
        raise CommandMalformed(f"`{name}` is a number from 1 to {most}")
    number = int(text)
    if not 1 <= number <= most:
        raise CommandMalformed(f"`{name}` is a number from 1 to {most}")
    return number


async def json_body(
    request: web.Request, *, optional: bool = False, limit: int | None = None
) -> dict[str, Any]:
    """Return the object that the body holds.

    Only `application/json` is taken: a page of another site cannot send it without asking first.

    Args:
        request: The request.
        optional: Whether no body stands for an empty object.
        limit: Bytes that it may have; default: what the server allows a command.

    Raises:
        CommandMalformed: If it is not a JSON object.
        CommandTooLarge: If it is too large.
        SlowBody: If it did not come in time.
        web.HTTPUnsupportedMediaType: If it is not declared as JSON.
    """
    if optional and not request.body_exists:
        return {}
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="the body must be application/json")
    return json_object(await body_of(request, limit=limit))


async def body_of(request: web.Request, *, limit: int | None = None) -> bytes:
    """Return a request's body.

    Raises:
        CommandMalformed: If it is not encoded as it says.
        CommandTooLarge: If it is too large.
        SlowBody: If it did not come in time.
    """
    most = request.client_max_size if limit is None else limit
    seconds = request.app[BODY_SECONDS]
    try:
        if most != request.client_max_size:
            request = request.clone(client_max_size=most)
        async with asyncio.timeout(seconds):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise CommandTooLarge(most) from error
    except TimeoutError as error:
        raise SlowBody(seconds) from error
    except NO_HTTP as error:
        raise CommandMalformed("the body is not encoded as its headers say") from error


def json_object(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds.

    Raises:
        CommandMalformed: If it is not a JSON object.
    """
    held = read_json(body)
    if not isinstance(held, dict):
        raise CommandMalformed("the body is not a JSON object")
    return held


async def command_body(request: web.Request, *, make_id: bool = False) -> dict[str, Any]:
    """Return the command in the body, completed by the path and the `Idempotency-Key` header.

    Args:
        request: The request.
        make_id: Whether a command without an id gets one; else it will be refused.

    Raises:
        CommandMalformed: If the body contradicts the path or the header.
    """
    body = await json_body(request)
    session_id = session_id_of(request)
    if body.setdefault("session_id", session_id) != session_id:
        raise CommandMalformed("`session_id` is not that of the path")
    key = request.headers.get("Idempotency-Key")
    if key is not None and body.setdefault("id", key) != key:
        raise CommandMalformed("`id` is not the Idempotency-Key")
    if make_id:
        body.setdefault("id", f"cmd_{secrets.token_hex(8)}")
    return body
