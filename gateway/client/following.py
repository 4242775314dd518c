"""The loop over connections: it hears, waits and comes back; `resume` decides."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.client.backoff import Retry
from gateway.client.endings import Answered, Broken, Ending, Finished, Stop
from gateway.client.errors import ResetOverlooked, Unreachable
from gateway.client.items import Ack, Disconnected, Entry, Reconnected, Reset
from gateway.client.pending import PendingCommand
from gateway.client.resume import Heard, Leave, Resume, Up
from gateway.client.server import Server
from gateway.client.transports import Transport

__all__ = ["Told", "follow", "submit"]

Told = Entry | Reset | Disconnected | Reconnected
"""What following tells."""


class _Absence:
    """How long a server has been away.

    Attributes:
        noticed: Whether it is away.
    """

    def __init__(self, server: Server, patience: float | None) -> None:
        self._server = server
        self._patience = patience
        self._since: float | None = None

    @property
    def noticed(self) -> bool:
        return self._since is not None

    def over(self) -> None:
        self._since = None

    async def wait(self, retry: Retry) -> None:
        """Wait until the next try.

        Raises:
            Unreachable: If the server has been away for too long.
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if self._patience is not None and now - self._since > self._patience:
            raise Unreachable(f"{self._server.url} does not come back")
        await asyncio.sleep(retry.seconds(random.random()))  # noqa: S311 - no secret


async def follow(
    server: Server, session_id: str, resume: Resume, transport: Transport, patience: float | None
) -> AsyncGenerator[Told]:
    """Yield the items of a session over as many connections as it takes, until it is closed.

    The cursor of `resume` moves when the next item is asked for: what was yielded is applied then.

    Raises:
        Refused: If the server says no for good.
        Unreachable: If it is away for longer than `patience`, in seconds.
        ResetOverlooked: If the snapshot of a reset was not read.
    """
    absence = _Absence(server, patience)
    while True:
        connection = _Connection(resume)
        async with aclosing(transport.connect(server, session_id, resume.cursor)) as heard:
            while (told := await connection.next(heard)) is not None:
                if absence.noticed:
                    absence.over()
                    yield Reconnected()
                if isinstance(told, Up):
                    continue
                yield told
                if isinstance(told, Reset) and told.overlooked:
                    raise ResetOverlooked(told.reason)
                resume.applied()
        match resume.ended(connection.ending, lived=connection.lived):
            case Finished():
                return
            case Stop(error):
                raise error
            case Retry() as retry:
                if not absence.noticed:
                    yield Disconnected()
                await absence.wait(retry)


class _Connection:
    """One connection.

    Attributes:
        ending: How it ended.
    """

    def __init__(self, resume: Resume) -> None:
        self.ending: Ending = Broken()
        self._resume = resume
        self._up_at: float | None = None

    @property
    def lived(self) -> float:
        """Seconds since the stream was accepted."""
        return 0.0 if self._up_at is None else time.monotonic() - self._up_at

    async def next(self, heard: AsyncGenerator[Heard | Ending]) -> Entry | Reset | Up | None:
        """Return the next item that is to be applied, or that the stream is up; None at the end."""
        while True:
            try:
                # Silence counts while we listen, not while a loop body takes its time.
                async with asyncio.timeout(self._resume.silence_seconds):
                    each = await anext(heard)
            except TimeoutError:
                return None
            if isinstance(each, Ending):
                self.ending = each
                return None
            step = self._resume.hear(each)
            if isinstance(step, Leave):
                self.ending = step.ending
                return None
            if isinstance(each, Up):
                self._up_at = time.monotonic()
                return each
            if isinstance(step, Entry | Reset):
                return step


async def submit(
    server: Server, session_id: str, pending: PendingCommand, patience: float | None
) -> AsyncGenerator[Disconnected | Reconnected | Ack]:
    """Send a command until it is answered, under one id; yield the ack last.

    Raises:
        Refused: If the server says no. The command had no effect then.
        Unreachable: If the server is away for longer than `patience`, in seconds.
    """
    absence = _Absence(server, patience)
    while True:
        answer = await server.attempt("POST", f"/v1/sessions/{session_id}/commands", pending.body)
        if not isinstance(answer, Answered | Broken):
            if absence.noticed:
                yield Reconnected()
            cursor, forked = answer.get("cursor", ""), answer.get("forked")
            yield Ack(pending.id, answer.get("run_id"), cursor, forked)
            return
        match pending.failed(answer):
            case Stop(error):
                raise error
            case Retry() as retry:
                if not absence.noticed:
                    yield Disconnected()
                await absence.wait(retry)
