"""One run, from the command that it answers to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

from gateway.client.errors import ClientFault, Refused
from gateway.client.following import Told, follow, submit
from gateway.client.items import Ack, Entry, Reset
from gateway.client.pending import PendingCommand
from gateway.client.resume import Resume
from gateway.client.server import Server
from gateway.client.transports import Transport
from gateway.client.wire import end_told_by
from runtime.run_stream import RunEnd

__all__ = ["Run"]


class Run:
    """Iterate over it once, to see the run's events until it ends or waits for a human.

    Beside entries there are `Reset`, `Disconnected` and `Reconnected`. If the server cannot tell the
    events any more, the run is told from the snapshot of a reset, and `end` from it.

    Attributes:
        command_id: The id of the command; empty if the run was only followed.
        run_id: The run, once the command is acknowledged.
        cursor: That of the last entry that was seen, of other runs too; None before there is one.
        end: The run's last event, once it is known.
    """

    def __init__(
        self,
        server: Server,
        session_id: str,
        transport: Transport,
        patience: float | None,
        *,
        command: PendingCommand | None = None,
        run_id: str | None = None,
        after: str | None = None,
    ) -> None:
        """Use `Session.run` and `Session.follow_run`."""
        self.command_id = command.id if command is not None else ""
        self.run_id = run_id
        self.cursor = after
        self.end: RunEnd | None = None
        self._server = server
        self._session_id = session_id
        self._transport = transport
        self._patience = patience
        self._command = command
        self._cancel_wanted = False
        self._cancelling: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Ask for the run to end: at once, or as soon as it is known. Again is harmless."""
        if self._cancel_wanted:
            return
        self._cancel_wanted = True
        self._cancel_known_run()

    def __aiter__(self) -> AsyncIterator[Told]:
        return self.events()

    async def events(self) -> AsyncGenerator[Told]:
        """Yield what is told of the run; the generator that iterating uses, for who has to close it.

        Raises:
            Refused: If the server refused the command, or has lost the run.
            Unreachable: If it is away for longer than the client's patience.
        """
        try:
            if self._command is not None:
                answers = submit(self._server, self._session_id, self._command, self._patience)
                async with aclosing(answers) as waiting:
                    async for answer in waiting:
                        if isinstance(answer, Ack):
                            self.run_id = answer.run_id
                            self.cursor = self.cursor or answer.cursor
                        else:
                            yield answer
                self._cancel_known_run()
            async with aclosing(self._follow()) as told:
                async for each in told:
                    yield each
        finally:
            if self._cancelling is not None:
                self._cancelling.cancel()
                await asyncio.wait([self._cancelling])

    async def _follow(self) -> AsyncGenerator[Told]:
        resume = Resume(self._session_id, self.cursor, heartbeat=self._transport.heartbeat)
        told = follow(self._server, self._session_id, resume, self._transport, self._patience)
        async with aclosing(told) as items:
            async for item in items:
                match item:
                    case Entry():
                        self.cursor = item.cursor
                        if item.data.get("run_id") != self.run_id:
                            continue
                        if isinstance(item.event, RunEnd):
                            self.end = item.event
                        yield item
                    case Reset():
                        self.cursor = item.cursor
                        self.end = self._end_told_by(item)
                        yield item
                    case _:
                        yield item
                if self.end is not None:
                    return
        raise Refused("session_closed", f"session {self._session_id!r} was closed")

    def _end_told_by(self, reset: Reset) -> RunEnd | None:
        try:
            return end_told_by(reset.snapshot, str(self.run_id))
        except LookupError:
            raise Refused("run_lost", f"the server has lost this run ({reset.reason})") from None

    def _cancel_known_run(self) -> None:
        if self._cancel_wanted and self.run_id is not None:
            self._cancelling = asyncio.create_task(self._cancel(self.run_id))

    async def _cancel(self, run_id: str) -> None:
        # Cancelling twice is cancelling once, so an id that is made from the run's will do.
        command = PendingCommand({"type": "cancel", "run_id": run_id}, f"cancel_{run_id}")
        with suppress(ClientFault):  # whoever follows the run sees what became of it
            async for _ in submit(self._server, self._session_id, command, self._patience):
                pass
