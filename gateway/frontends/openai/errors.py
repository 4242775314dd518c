"""Errors in the shape that OpenAI's clients read: `{"error": {message, type, param, code}}`.

Shared by the endpoints that speak as OpenAI's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from http import HTTPStatus

import orjson
from aiohttp import web

from gateway.codecs.openai.error import InvalidRequest, error_object
from gateway.frontends.refusals import Handler, refusing

__all__ = ["NO_RETRY", "InvalidRequest", "answering_openai", "error_object", "error_response"]

NO_RETRY: Mapping[str, str] = {"x-should-retry": "false"}
"""OpenAI's SDKs try again by themselves after 408, 409, 429 and 5xx, unless they are told this."""


def error_response(
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return an error. A conflict stays one, so clients are told not to try again.

    Args:
        status: The HTTP status; 422 becomes 400, as OpenAI answers to whatever it cannot take.
        code: As for `error_object`.
        message: A sentence for people.
        param: The field of the request that is wrong.
        headers: More headers.
    """
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    advice = NO_RETRY if status == HTTPStatus.CONFLICT else {}
    return web.Response(
        status=status,
        body=orjson.dumps({"error": error_object(status, code, message, param=param)}),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **advice, **(headers or {})},
    )


def answering_openai(handler: Handler) -> Handler:
    """Decorate a handler: what it refuses is told in the shape of OpenAI's errors."""

    @wraps(handler)
    async def pointing(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except InvalidRequest as error:
            return error_response(error.http_status, error.word, str(error), param=error.param)

    return refusing(error_response)(pointing)
