"""The same client for programs without asyncio: a thread with an event loop does the work."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from gateway.client.client import Client
from gateway.client.following import Told
from gateway.client.items import Ack, Item
from gateway.client.run import Run
from gateway.client.session import Session
from gateway.client.transports import TransportName
from runtime.run_stream import RunEnd

__all__ = ["SyncClient", "SyncRun", "SyncSession"]

Value = TypeVar("Value")


class _ClosedError(RuntimeError):
    def __init__(self) -> None:
        super().__init__("the client is closed")


class _Portal:
    """A thread with an event loop, and the way to it from other threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="tidegate-client", daemon=True
        )
        # Whatever is begun is begun before the end is, so the end finds it; nothing is begun after.
        self._beginning = threading.RLock()  # a signal's handler may cancel, too
        self._closed = False
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Return what a coroutine returns; it is cancelled if this thread is interrupted.

        Raises:
            RuntimeError: If the client is closed, or is closed in the meantime.
        """
        future = self._begin(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _ClosedError from None
        except BaseException:
            future.cancel()
            raise

    def post(self, act: Callable[[], None]) -> None:
        """Have something done on the loop.

        Raises:
            RuntimeError: If the client is closed.
        """
        self._begin(_done(act))

    def iterate(self, items: AsyncGenerator[Value]) -> Iterator[Value]:
        """Yield what an async generator yields, each when it is asked for."""
        nothing = object()

        async def following() -> Any:
            return await anext(items, nothing)

        try:
            while (item := self.call(following())) is not nothing:
                yield item
        finally:
            with suppress(_ClosedError):  # then it has been closed with all else
                # Garbage is collected on any thread, and that of the loop cannot wait for itself.
                here = threading.current_thread() is self._thread
                (self._begin if here else self.call)(_closed(items))

    def close(self) -> None:
        """Close the client and end the thread. Safe to call twice, and from several threads."""
        with self._beginning:
            first, self._closed = not self._closed, True
        if not first:
            self._thread.join()
            return
        try:
            asyncio.run_coroutine_threadsafe(_ended(self._client), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _begin(self, work: Coroutine[Any, Any, Value]) -> concurrent.futures.Future[Value]:
        with self._beginning:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise _ClosedError


async def _done(act: Callable[[], None]) -> None:
    act()


async def _closed(items: AsyncGenerator[Any]) -> None:
    await items.aclose()


async def _ended(client: Client) -> None:
    """End what other threads wait for, and what was left in the middle of a loop."""
    waited_for = asyncio.all_tasks() - {asyncio.current_task()}
    for task in waited_for:
        task.cancel()
    if waited_for:
        await asyncio.wait(waited_for)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await client.aclose()


class SyncRun:
    """`Run`, for a `for` loop."""

    def __init__(self, portal: _Portal, run: Run) -> None:
        """Use `SyncSession.run`."""
        self._portal = portal
        self._run = run

    @property
    def end(self) -> RunEnd | None:
        """The run's last event, once it is known."""
        return self._run.end

    @property
    def run_id(self) -> str | None:
        """The run, once the command is acknowledged."""
        return self._run.run_id

    def cancel(self) -> None:
        """Ask for the run to end. Again is harmless; any thread may."""
        self._portal.post(self._run.cancel)

    def __iter__(self) -> Iterator[Told]:
        return self._portal.iterate(self._run.events())


class SyncSession:
    """`Session`, for a `for` loop and for calls that wait."""

    def __init__(self, portal: _Portal, session: Session) -> None:
        """Use `SyncClient.session`."""
        self._portal = portal
        self._session = session
        self.session_id = session.session_id

    @property
    def cursor(self) -> str | None:
        """That of the last item whose loop body has finished."""
        return self._session.cursor

    def __iter__(self) -> Iterator[Item]:
        return self._portal.iterate(self._session.events())

    def snapshot(self) -> dict[str, Any]:
        """Return the session's state now."""
        return self._portal.call(self._session.snapshot())

    def send(self, text: str, **fields: Any) -> Ack:
        """Say something."""
        return self._portal.call(self._session.send(text, **fields))

    def cancel(self, run_id: str | None = None, **fields: Any) -> Ack:
        """End the active run, or the named one."""
        return self._portal.call(self._session.cancel(run_id, **fields))

    def continue_(
        self,
        run_id: str | None = None,
        decisions: Sequence[Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> Ack:
        """Answer approvals, or go on after a cancelled or failed run."""
        return self._portal.call(self._session.continue_(run_id, decisions, **fields))

    def command(self, type: str, **fields: Any) -> Ack:
        """Give any command."""
        return self._portal.call(self._session.command(type, **fields))

    def run(self, text: str, **fields: Any) -> SyncRun:
        """Return the run that answers: iterate over it to say it, and to see its events."""
        return SyncRun(self._portal, self._session.run(text, **fields))

    def ask(self, text: str, **fields: Any) -> str:
        """Say something, wait for the end of the run, and return its output."""
        return self._portal.call(self._session.ask(text, **fields))


class SyncClient:
    """`Client`, for programs without asyncio; a context manager. What it raises is the same.

    with SyncClient("http://127.0.0.1:8080") as client:
        print(client.create(agent="echo").ask("ahoy"))

    Attributes:
        url: The server, `http://host:port`.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> None:
        """Make a client; the arguments are those of `Client`."""
        self._client = Client(url, headers=headers, patience=patience)
        self._portal = _Portal(self._client)
        self.url = self._client.url

    def agents(self) -> list[dict[str, Any]]:
        """Return whom the server offers; the first is the default."""
        return self._portal.call(self._client.agents())

    def sessions(self) -> Iterator[dict[str, Any]]:
        """Yield what the server says of each session, newest first."""
        return self._portal.iterate(self._client.sessions())

    def create(self, session_id: str | None = None, **fields: Any) -> SyncSession:
        """Return a session, made unless it is there; the fields are those of `Client.create`."""
        return SyncSession(
            self._portal, self._portal.call(self._client.create(session_id, **fields))
        )

    def session(
        self,
        session_id: str,
        *,
        after: str | None = None,
        transport: TransportName = "websocket",
    ) -> SyncSession:
        """Return a session that is there; the arguments are those of `Client.session`."""
        session = self._client.session(session_id, after=after, transport=transport)
        return SyncSession(self._portal, session)

    def delete(self, session_id: str) -> None:
        """Cancel, close and delete a session."""
        self._portal.call(self._client.delete(session_id))

    def close(self) -> None:
        """Close the connections and end the thread; the sessions stay. Safe to call twice.

        What another thread waits for ends with `RuntimeError`.
        """
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
