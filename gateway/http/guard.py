"""Who may ask: the `Host` and `Origin` of a request.

Browsers send `Origin` with WebSocket upgrades, cross-site requests and POSTs. A page of another site
may open a WebSocket to this machine, CORS or not; only this check stands in its way. `Host` is
checked where the server listens on the loopback: a name that an attacker lets point here carries
his own name (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.errors import NotPermitted
from gateway.http.problems import Answering

__all__ = ["Rules", "check", "guard", "is_loopback", "share_with"]

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_METHODS = "GET, POST, PUT, DELETE"
_HEADERS = "Content-Type, Idempotency-Key, Last-Event-ID"
_HEADER_LIST = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2048}", re.ASCII)
_PREFLIGHT_SECONDS = "600"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is allowed.

    Attributes:
        bound_host: Where the server listens.
        hosts: More names in `Host`.
        origins: More origins than the server's own.
    """

    bound_host: str
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()


def is_loopback(host: str) -> bool:
    """Whether an address, or the name `localhost`, is this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(rules: Rules, *, host: str | None, origin: str | None) -> None:
    """Check a request's headers.

    Raises:
        NotPermitted: If the server does not answer to this `Host`, or not to this `Origin`.
    """
    name, port = _split(host)
    loopback = is_loopback(rules.bound_host)
    if loopback and name not in {*_LOOPBACK_NAMES, rules.bound_host, *rules.hosts}:
        raise NotPermitted(f"this server does not answer to the host {name!r}")
    if origin is None or origin in rules.origins:
        return
    if not _is_own(origin, name, port, loopback=loopback):
        raise NotPermitted(f"the origin {origin!r} is not allowed")


def _is_own(origin: str, name: str, port: int | None, *, loopback: bool) -> bool:
    """Whether an origin is the server itself, under the name that the request uses for it."""
    try:
        parts = urlsplit(origin)
        origin_port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return False
    if parts.scheme not in _DEFAULT_PORTS or parts.hostname is None:
        return False
    if origin_port != (port or _DEFAULT_PORTS[parts.scheme]):
        return False
    both = {parts.hostname, name}
    return len(both) == 1 or (loopback and both <= _LOOPBACK_NAMES)


def _split(host: str | None) -> tuple[str, int | None]:
    """Split `Host` into name and port; a header that is missing or broken names nothing."""
    try:
        parts = urlsplit(f"//{host or ''}")
        return parts.hostname or "", parts.port
    except ValueError:
        return "", None


def guard(rules: Rules) -> Middleware:
    """Return the middleware that lets no other request through, and answers preflights."""

    @web.middleware
    async def checked(request: web.Request, handler: Answering) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        check(rules, host=request.headers.get("Host"), origin=origin)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            wanted = request.headers.get("Access-Control-Request-Headers", "")
            return web.Response(
                status=204,
                headers={
                    "Access-Control-Allow-Methods": _METHODS,
                    # The SDKs of other protocols send dozens of headers of their own. The origin
                    # was allowed, so it may send what it likes.
                    "Access-Control-Allow-Headers": (
                        wanted if _HEADER_LIST.fullmatch(wanted) else _HEADERS
                    ),
                    "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
                },
            )
        return await handler(request)

    return checked


def share_with(
    rules: Rules,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return the signal that lets pages of allowed origins read the answers, streams included."""

    async def share(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        if origin is not None and origin in rules.origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "*"
            response.headers["Vary"] = "Origin"

    return share
