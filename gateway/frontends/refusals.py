"""Refusals in the words of each protocol: before a stream begins, an error is an HTTP error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps

from aiohttp import web

from gateway.errors import GatewayError
from gateway.http.problems import retry_after

__all__ = ["Handler", "Refusal", "refusing"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Refusal = Callable[[int, str, str], web.Response]
"""Makes the response from the HTTP status, the code, and a sentence for people."""


def refusing(refusal: Refusal) -> Callable[[Handler], Handler]:
    """Return a decorator for handlers whose errors are told in the words of a protocol."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def answering(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except GatewayError as error:
                response = refusal(error.http_status, error.code, str(error))
                if error.retryable:
                    response.headers["Retry-After"] = retry_after()
                return response
            except web.HTTPUnsupportedMediaType as error:
                return refusal(error.status, "media_type_unsupported", error.text or error.reason)

        return answering

    return decorate
