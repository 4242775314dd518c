"""Composition root: puts the server together."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.config import Settings
from gateway.errors import StartupRefused
from gateway.frontends.table import routes as frontends
from gateway.http.bodies import BODY_SECONDS
from gateway.http.connections import Runner
from gateway.http.guard import Rules, guard, share_with
from gateway.http.page import bundled_files
from gateway.http.problems import problems
from gateway.http.routes import Routes
from gateway.sessions.manager import SessionManager
from gateway.sessions.retention import DAY_MS, HOUR_MS, Keep
from gateway.stores import open_store
from gateway.transports.draining import OpenStreams
from gateway.transports.services import Services
from gateway.transports.stream import DRAIN_PATIENCE
from runtime.registry import Registry

__all__ = ["Running", "build_app", "running", "serve"]

_LOGGER = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that may wait to be accepted: with aiohttp's 128, a few hundred clients that come back
at once are accepted twenty times slower (measured)."""

STREAMS_PER_SECOND = 1000
"""How fast streams are ended: so 5,000, which one server is made for, take all of `drain_spread_s`."""

LAST_REQUESTS_SECONDS = 1.0
"""What requests that are no streams get to end, once all else is done."""

ENDS_SECONDS = DRAIN_PATIENCE + LAST_REQUESTS_SECONDS + 0.5
"""What is kept of `shutdown_timeout_s` for clients that are stuck, and for the last requests."""

SHARED_PLACES = 256
"""Runs at work at once in a server that shares its database, unless it is told otherwise: most of the
time a run waits for a model, and a core writes the events of a few hundred."""

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        url: Its address, with the port that it really has.
        manager: Its sessions.
    """

    url: str
    manager: SessionManager


def build_app(
    manager: SessionManager,
    settings: Settings,
    *,
    streams: OpenStreams | None = None,
    page: Mapping[str, Path] | None = None,
) -> web.Application:
    """Return the web application.

    Args:
        manager: The sessions.
        settings: The server's settings.
        streams: The open streams; given by whoever wants to end them.
        page: The page's files by their path in URLs; without, there is no page.
    """
    services = Services(manager, settings, streams or OpenStreams())
    rules = Rules(
        settings.host, frozenset(settings.allowed_hosts), frozenset(settings.allowed_origins)
    )
    app = web.Application(
        middlewares=[problems, guard(rules)], client_max_size=settings.max_body_bytes
    )
    app[BODY_SECONDS] = settings.body_timeout_s
    app.on_response_prepare.append(share_with(rules))
    routes = Routes(services, page or {})
    if settings.role == "worker":
        app.add_routes(routes.of_worker())
    else:
        app.add_routes(routes.table())
        app.add_routes(frontends(services))
    return app


async def serve(settings: Settings, registry: Registry, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then stop in order. A second signal stops at once.

    Args:
        settings: The server's settings.
        registry: What sessions may run.
        ready: Called with the server's address once it answers.

    Raises:
        StartupRefused: If it cannot start.
    """
    with _stop_signal() as stop:
        async with running(settings, registry) as server:
            ready(server.url)
            await stop.wait()


@contextmanager
def _stop_signal() -> Iterator[asyncio.Event]:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)

    def on_signal() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def running(settings: Settings, registry: Registry) -> AsyncIterator[Running]:
    """Run a server for the length of a block.

    At the end it takes no more work, lets runs come to the end of a step and hands them over, and
    tells streams to come back. All that gets `shutdown_timeout_s`; no client, however stuck, can hold
    it longer.

    Raises:
        StartupRefused: If it cannot start.
    """
    engine = await open_store(settings)
    try:
        manager = SessionManager(
            engine,
            registry,
            delta_interval=settings.delta_interval_ms / 1000,
            keep=_keep(settings),
            command_timeout=settings.command_timeout_s,
            lease=settings.lease_s,
            places=_places(settings, shared=engine.shared),
        )
        streams = OpenStreams()
        page = await asyncio.to_thread(bundled_files)
        runner = Runner(
            build_app(manager, settings, streams=streams, page=page),
            settings,
            handler_cancellation=True,  # a client that went away ends its reading at once
            access_log=None,
            shutdown_timeout=LAST_REQUESTS_SECONDS,
        )
        await runner.setup()
        try:
            # First this: a crowd that comes back must not make those runs wait.
            await manager.start()
            url = await _listen(runner, settings)
            async with _warming(registry, settings):
                yield Running(url, manager)
        finally:
            await _stop(runner, streams, manager, settings)
            await registry.aclose()
    finally:
        await engine.aclose()


@asynccontextmanager
async def _warming(registry: Registry, settings: Settings) -> AsyncIterator[None]:
    """Let models get ready beside a block: loading one takes seconds, and nobody waits for it."""
    if settings.role == "edge":
        yield
        return
    task = asyncio.get_running_loop().create_task(registry.start())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _keep(settings: Settings) -> Keep:
    return Keep(
        events=settings.keep_events,
        age_ms=round(settings.keep_hours * HOUR_MS),
        unused_ms=round(settings.forget_sessions_after_days * DAY_MS),
        every=settings.sweep_s,
    )


def _places(settings: Settings, *, shared: bool) -> int | None:
    """Return how many runs may be at work at once; None: no end of them.

    Raises:
        StartupRefused: If others would have to do what this server's role leaves to them.
    """
    if settings.role != "all" and not shared:
        raise StartupRefused(
            f"the role `{settings.role}` is for servers that share a database: name it with --engine"
        )
    if settings.role == "edge":
        return 0
    return settings.max_runs or (SHARED_PLACES if shared else None)


async def _listen(runner: web.AppRunner, settings: Settings) -> str:
    """Begin to accept connections and return the address."""
    host, port = settings.host, settings.port
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartupRefused(f"port {port} on {host} is taken") from error
        raise StartupRefused(f"cannot listen on {host} port {port}") from error
    except OverflowError as error:
        raise StartupRefused(f"{port} is not a port") from error
    real_port = runner.addresses[0][1]
    name = _EVERYWHERE.get(host, host)
    return f"http://[{name}]:{real_port}" if ":" in name else f"http://{name}:{real_port}"


async def _stop(
    runner: web.AppRunner, streams: OpenStreams, manager: SessionManager, settings: Settings
) -> None:
    """Stop in the order of PROTOCOL.md, rule `drain.orderly`."""
    _LOGGER.info("the server stops", extra={"streams": streams.count})
    streams.unready()
    await asyncio.sleep(settings.drain_delay_s)
    runs, spread = _shares(settings, streams.count)
    try:
        async with asyncio.timeout(settings.shutdown_timeout_s):
            streams.refuse()
            await manager.hand_over(runs)
            streams.drain(within=spread)
            await streams.ended()
            await manager.aclose()
            await runner.cleanup()
        _LOGGER.info("the server has stopped")
    except TimeoutError:
        _LOGGER.warning(
            "the server stopped before all was ended",
            extra={"seconds": settings.shutdown_timeout_s},
        )


def _shares(settings: Settings, streams: int) -> tuple[float, float]:
    """Return what of `shutdown_timeout_s` runs get at most, and over how long streams are ended."""
    limit = settings.shutdown_timeout_s
    spread = min(settings.drain_spread_s, streams / STREAMS_PER_SECOND, limit / 3)
    runs = min(settings.drain_runs_s, limit - spread - min(ENDS_SECONDS, limit / 3))
    # Nobody goes on with what is kept in this process alone.
    return (0.0 if settings.engine == "memory" else runs), spread
