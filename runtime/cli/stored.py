"""Runs of a graph that are kept in a file, so that another process can go on with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.cancel import CancelToken
from runtime.cli.talk import Heard, Offer
from runtime.events import ApprovalRequested, ApprovalResolved, Event
from runtime.graph.compiled import CompiledGraph
from runtime.graph.runner import Runner, RunState
from runtime.graph.sqlite_store import SqliteStore
from runtime.messages import Message
from runtime.run_stream import RunEnd
from runtime.runnable import Decision

__all__ = ["StoredTalk"]


class StoredTalk:
    """One graph and one session in a file. It is a `Talk` in which nobody says anything."""

    def __init__(
        self, compiled: CompiledGraph, path: Path, session_id: str, *, timeout: float | None = None
    ) -> None:
        """Prepare a session; call `open` before anything else.

        Args:
            compiled: The graph.
            path: The file; it is made if it is not there.
            session_id: The session.
            timeout: Seconds that one run may take.
        """
        self._compiled = compiled
        self._path = path
        self._session_id = session_id
        self._timeout = timeout
        self._store = SqliteStore(path)
        self._runner = Runner(compiled, self._store)
        self._approvals: dict[str, ApprovalRequested] = {}
        self._cancel: CancelToken | None = None

    async def open(self) -> str | None:
        """Return how the session's newest run stands; None if there is none.

        Raises:
            RuntimeFault: If the file cannot be used.
        """
        if await self._store.load(self._session_id) is None:
            return None
        self._approvals = {
            asked.approval_id: asked for asked in await self._runner.pending(self._session_id)
        }
        return (await self._runner.state(self._session_id)).status

    @property
    def agent(self) -> str:
        """The graph."""
        return self._compiled.name

    @property
    def where(self) -> str:
        """Where it is kept."""
        return f"session {self._session_id} in {self._path}"

    @property
    def way_on(self) -> str:
        """How to decide later."""
        return (
            f"go on with --store {self._path} --session {self._session_id} "
            "and --approve, --reject or --answer"
        )

    @property
    def approvals(self) -> Sequence[ApprovalRequested]:
        """What waits for a human's word."""
        return tuple(self._approvals.values())

    def offers(self) -> Sequence[Offer]:
        """Return the graph."""
        return (Offer(self._compiled.name, self._compiled.description),)

    def choose(self, name: str) -> None:
        """There is nobody else."""

    def say(self, text: str) -> AsyncGenerator[Heard, None]:
        """Begin a run with what the user says."""
        said = Message(role="user", content=text)
        return self.begin(self._compiled.definition.first((said,)))

    def begin(self, state: Mapping[Any, Any]) -> AsyncGenerator[Heard, None]:
        """Begin a run with these first values."""
        self._approvals.clear()
        self._cancel = CancelToken()
        return self._follow(
            self._runner.run(self._session_id, state, cancel=self._cancel, timeout=self._timeout)
        )

    def decide(self, decisions: Mapping[str, Decision]) -> AsyncGenerator[Heard, None]:
        """Answer approvals and go on; without any, go on with a run whose process died."""
        self._cancel = CancelToken()
        return self._follow(
            self._runner.resume(
                self._session_id, decisions, cancel=self._cancel, timeout=self._timeout
            )
        )

    async def _follow(self, work: Coroutine[Any, Any, RunState]) -> AsyncGenerator[Heard, None]:
        events = self._runner.stream(self._session_id, modes=["debug"])
        task = asyncio.get_running_loop().create_task(work)
        ended = False
        try:
            await asyncio.sleep(
                0
            )  # it claims the session: from now on the stream is that of its run
            if task.done():
                await task  # it was refused
            async for shown in events:
                event: Event = shown.event
                self._note(event)
                ended = ended or isinstance(event, RunEnd)
                yield event
            try:
                await task
            except Exception:
                if not ended:  # else the run's last event has said it
                    raise
        finally:
            if not task.done():
                self.stop()
                await asyncio.wait([task])

    def _note(self, event: Event) -> None:
        match event:
            case ApprovalRequested():
                self._approvals[event.approval_id] = event
            case ApprovalResolved():
                self._approvals.pop(event.approval_id, None)
            case _:
                pass

    def stop(self) -> None:
        """Ask the run to end."""
        if self._cancel is not None:
            self._cancel.abort()

    async def renew(self) -> None:
        """A session is named on the command line."""

    async def aclose(self) -> None:
        """Let go of the graph and of the file."""
        await self._runner.aclose()
        await self._store.aclose()
        await self._compiled.aclose()
