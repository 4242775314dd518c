"""JSON-RPC 2.0: how requests are read, and how answers and errors are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from a2a.utils.error_handlers import build_error_details
from a2a.utils.errors import (
    JSON_RPC_ERROR_CODE_MAP,
    A2AError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    JSONParseError,
    TaskNotFoundError,
    UnsupportedOperationError,
    VersionNotSupportedError,
)
from aiohttp import web

from gateway.errors import (
    ApprovalAlreadyResolved,
    ApprovalUnknown,
    CommandConflict,
    CommandMalformed,
    CommandTooLarge,
    CursorInvalid,
    CursorMalformed,
    GatewayError,
    RunActive,
    RunNotResumable,
    RunUnknown,
    SessionClosed,
    SessionGone,
    SessionUnknown,
    SlowBody,
)
from gateway.frontends.a2a.cards import VERSION
from gateway.http.bodies import body_of
from gateway.http.problems import retry_after
from gateway.transports.messages import read_json

__all__ = ["Asked", "check_version", "read", "refusal", "response", "translated"]

_ERRORS: tuple[tuple[tuple[type[GatewayError], ...], type[A2AError]], ...] = (
    ((SessionUnknown, SessionGone, RunUnknown), TaskNotFoundError),
    (
        (
            ApprovalUnknown,
            CommandConflict,
            CommandMalformed,
            CommandTooLarge,
            CursorInvalid,
            CursorMalformed,
        ),
        InvalidParamsError,
    ),
    (
        (ApprovalAlreadyResolved, RunActive, RunNotResumable, SessionClosed),
        UnsupportedOperationError,
    ),
)
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        id: As JSON; the answer carries it.
        method: What is asked for.
        params: Its parameters, as they came.
        agent: The agent that the path names.
        http: The request of HTTP that it came in.
    """

    id: bytes
    method: str
    params: dict[str, Any]
    agent: str
    http: web.Request


async def read(request: web.Request, agent: str) -> Asked:
    """Read a request.

    Raises:
        JSONParseError: If the body is not JSON.
        InvalidRequestError: If it is no request, or too large, or a batch.
        web.HTTPUnsupportedMediaType: If it is not declared as JSON, as any page may send it.
    """
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="the body must be application/json")
    try:
        body = read_json(await body_of(request))
    except CommandMalformed as error:
        raise JSONParseError(str(error)) from error
    except (CommandTooLarge, SlowBody) as error:
        raise InvalidRequestError(str(error)) from error
    if not isinstance(body, dict):
        raise InvalidRequestError("the body is not a request object; there are no batches")
    method, params = body.get("method"), body.get("params", {})
    if body.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise InvalidRequestError('a request has `"jsonrpc": "2.0"` and a `method`')
    request_id = body.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | None):
        raise InvalidRequestError("`id` is a text, a whole number or null")
    if not isinstance(params, dict):
        raise InvalidRequestError("`params` is an object")
    return Asked(orjson.dumps(request_id), method, params, agent, request)


def check_version(request: web.Request) -> None:
    """Check which A2A the client speaks; one that does not say speaks 0.3, by the specification.

    Raises:
        VersionNotSupportedError: If it is not ours, whatever the patch number.
    """
    told = request.headers.get("A2A-Version") or request.query.get("A2A-Version") or "0.3"
    if told.split(".")[:2] != VERSION.split("."):
        raise VersionNotSupportedError(
            f"A2A {told} is not spoken here; send A2A-Version: {VERSION}"
        )


def translated(error: GatewayError) -> A2AError:
    """Return our error as the one of A2A that says the same."""
    data = {"code": error.code}
    for ours, theirs in _ERRORS:
        if isinstance(error, ours):
            return theirs(str(error), data)
    return InternalError(str(error), data)


def refusal(request_id: bytes, error: A2AError, cause: GatewayError | None = None) -> web.Response:
    """Return an error.

    Args:
        request_id: Of the request, as JSON; `null` if it could not be read.
        error: It.
        cause: Our own error, where one was translated.
    """
    body = {
        "code": JSON_RPC_ERROR_CODE_MAP[type(error)],
        "message": error.message,
        "data": build_error_details(error),
    }
    answer = response(request_id, b'"error":' + orjson.dumps(body))
    if cause is not None and cause.retryable:
        answer.set_status(_UNAVAILABLE)
        answer.headers["Retry-After"] = retry_after()
    return answer


def response(request_id: bytes, member: bytes) -> web.Response:
    """Return a response with its `result` or `error`, given as a member of a JSON object."""
    body = b'{"jsonrpc":"2.0","id":%b,%b}' % (request_id, member)
    return web.Response(
        body=body, content_type="application/json", headers={"Cache-Control": "no-store"}
    )
