"""Errors as `application/problem+json` (RFC 9457), for every route and every cause."""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from gateway.errors import CursorInvalid, GatewayError

__all__ = ["Answering", "problem", "problems", "retry_after"]

_LOGGER = logging.getLogger(__name__)

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What answers a request."""

_CODES = {
    400: "bad_request",
    404: "route_unknown",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "command_too_large",
    415: "media_type_unsupported",
    417: "expectation_failed",
}
_RETRY_AFTER_SECONDS = (1, 4)
"""Spread, so that those who were refused together do not come back together."""


def retry_after() -> str:
    """Return what `Retry-After` says: whole seconds, another number each time."""
    return str(random.randint(*_RETRY_AFTER_SECONDS))  # noqa: S311 - spreads load, keeps no secret


def problem(
    status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> web.Response:
    """Return a problem.

    Args:
        status: The HTTP status.
        code: The word that programs look at.
        detail: A sentence for people.
        headers: More headers.
        more: More members of the object.
    """
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


@web.middleware
async def problems(request: web.Request, handler: Answering) -> web.StreamResponse:
    """Answer with a problem whatever goes wrong. The outermost middleware."""
    try:
        return await handler(request)
    except GatewayError as error:
        return _of_gateway(error)
    except web.HTTPException as error:
        return _of_http(request, error)
    except ConnectionError:
        return web.Response()  # the client is gone: nobody reads this
    except Exception:
        request_id = secrets.token_hex(8)
        extra = {"request_id": request_id, "method": request.method, "path": request.path}
        _LOGGER.exception("a request failed", extra=extra)
        detail = "the server failed; its log says more under this request id"
        return problem(500, "internal_error", detail, request_id=request_id)


def _of_gateway(error: GatewayError) -> web.Response:
    more: dict[str, Any] = {"reason": error.reason} if isinstance(error, CursorInvalid) else {}
    headers = {"Retry-After": retry_after()} if error.retryable else {}
    return problem(error.http_status, error.code, str(error), headers=headers, **more)


def _of_http(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status < HTTPStatus.BAD_REQUEST:
        raise error
    details = {
        404: f"there is nothing at {request.path}",
        405: f"{request.method} is not possible at {request.path}",
    }
    detail = details.get(error.status) or error.text or error.reason
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return problem(error.status, _CODES.get(error.status, "http_error"), detail, headers=headers)
