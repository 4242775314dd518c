"""What a connection is made with, what its errors mean, and how an outage is logged."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg

from gateway.errors import EngineUnavailable

__all__ = ["CONNECT_SECONDS", "ERRORS", "Outage", "arguments", "is_lost", "line", "translated"]

CONNECT_SECONDS = 10.0
"""How long each of the two halves of connecting may take: until the server takes us, and until we know
which one it is. Together that is 5 round trips, more with TLS and passwords: enough even where each
takes a second."""

KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds, seconds, probes: a server that vanished without a word is noticed within 25 s."""

USER_TIMEOUT_MS = 25_000
"""How long the kernel sends again what nobody acknowledges; by itself it would for a quarter of an
hour (tcp_retries2)."""

ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Everything that a connection raises. `TimeoutError` is an `OSError`."""

_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a primary that is one no more
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.InterfaceError,
    OSError,
)

_logger = logging.getLogger(__name__)


def is_lost(error: BaseException | None) -> bool:
    """Say whether an error means that this connection is of no use any more, and another may be."""
    if isinstance(error, (TimeoutError, asyncpg.DataError)):
        return False  # too slow, or a value that cannot be sent
    fatal = getattr(error, "severity_en", None) in ("FATAL", "PANIC")
    return fatal or isinstance(error, _LOST)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what a connection raises into `EngineUnavailable`, with that as its cause."""
    try:
        yield
    except ERRORS as error:
        raise EngineUnavailable from error


class _Connection(asyncpg.Connection):
    """A connection that notices when the other end has vanished."""

    __slots__ = ()

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        watch(transport.get_extra_info("socket"))


def watch(link: socket.socket | None) -> None:
    """Let the kernel find out, and tell, when the other end of a TCP connection has vanished."""
    if link is None or link.family not in (socket.AF_INET, socket.AF_INET6):
        return
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {**KEEPALIVE, "TCP_USER_TIMEOUT": USER_TIMEOUT_MS}.items():
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Outage:
    """Says once that the store is away, and once that it is back."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._is_on = False

    def on(self, error: BaseException) -> None:
        """Note that something failed."""
        if not is_lost(error) and not isinstance(error, TimeoutError):
            _logger.error("the store failed", exc_info=error)
        elif not self._is_on:
            self._is_on = True
            _logger.error("the store %s is not available: %s", self._place, line(error))

    def over(self) -> None:
        """Note that something was done."""
        if self._is_on:
            self._is_on = False
            _logger.warning("the store %s is available again", self._place)


def arguments(url: str, name: str) -> dict[str, Any]:
    """Return the arguments for asyncpg.

    Args:
        url: Of the database. What it says counts more than what we would say.
        name: What the connection is called in `pg_stat_activity`.

    Raises:
        ValueError: If the URL cannot be read; the text may hold parts of it.
    """
    parts = urlsplit(url)
    asked = parse_qsl(parts.query, keep_blank_values=True)
    said = dict(asked)
    given: dict[str, Any] = {"connection_class": _Connection, "timeout": CONNECT_SECONDS}
    if "application_name" not in said:
        given["server_settings"] = {"application_name": name}
    if "target_session_attrs" not in said:
        given["target_session_attrs"] = "read-write"
    if "statement_cache_size" in said:  # asyncpg takes it beside the URL, not in it
        given["statement_cache_size"] = int(said["statement_cache_size"])
        rest = [(key, value) for key, value in asked if key != "statement_cache_size"]
        url = f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(rest)}"
    return {"dsn": url, **given}


def line(error: BaseException) -> str:
    """Return an error's text as one line."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__
