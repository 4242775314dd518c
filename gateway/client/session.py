"""A session on a server, as a program uses it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from gateway.client.errors import RunNotCompleted
from gateway.client.following import follow, submit
from gateway.client.items import Ack, Entry, Item, Reset
from gateway.client.pending import PendingCommand
from gateway.client.resume import Resume
from gateway.client.run import Run
from gateway.client.server import Server
from gateway.client.transports import TRANSPORTS, TransportName
from runtime.events import RunCompleted

__all__ = ["Session"]


class Session:
    """One session: `async for` over it yields its events, and methods give it commands.

    Iterating goes on for ever, across lost connections, restarts and resets: each event once and in
    order, or a `Reset` first that says why not and brings a snapshot. It ends when the session is
    closed. To leave and iterate again goes on at `cursor`. Have one loop at a time on one object.

    Commands travel by HTTP, whether or not anybody iterates. Each has an id of its own and is sent
    until it is answered, so that it has one effect.

    Attributes:
        session_id: The session.
    """

    def __init__(
        self,
        server: Server,
        session_id: str,
        *,
        after: str | None,
        transport: TransportName,
        patience: float | None,
    ) -> None:
        """Use `Client.session`."""
        self.session_id = session_id
        self._server = server
        self._transport = TRANSPORTS[transport]
        self._patience = patience
        self._resume = self._resumed(after)

    @property
    def cursor(self) -> str | None:
        """That of the last item whose loop body has finished; None before the first.

        A body that was left by `break` or by an exception has not finished: its item comes again.
        A program that leaves so, or that has to survive being killed, keeps `Entry.cursor` itself.
        """
        return self._resume.cursor

    def __aiter__(self) -> AsyncIterator[Item]:
        return self.events()

    async def events(self) -> AsyncGenerator[Item]:
        """Yield the events; the generator that iterating uses, for who has to close it.

        Raises:
            SessionUnknown, SessionGone, NotPermitted, Refused: If the server says no for good.
            Unreachable: If it is away for longer than the client's patience.
            ResetOverlooked: If the snapshot of a reset was not read.
        """
        self._resume = self._resumed(self.cursor)
        told = follow(self._server, self.session_id, self._resume, self._transport, self._patience)
        async with aclosing(told) as items:
            async for item in items:
                if isinstance(item, Entry | Reset):
                    yield item

    async def snapshot(self) -> dict[str, Any]:
        """Return the session's state now (PROTOCOL.md, section 3). It does not move the cursor.

        Raises:
            Unreachable, Refused: If it cannot be had.
        """
        snapshot: dict[str, Any] = await self._server.ask("GET", f"/v1/sessions/{self.session_id}")
        return snapshot

    # --- commands ------------------------------------------------------------------------------

    async def send(self, text: str, **fields: Any) -> Ack:
        """Say something; the ack names the run that answers. For `fields` see PROTOCOL.md, section 4.

        Raises:
            Refused: If the server says no.
            Unreachable: If it is away for longer than the client's patience.
        """
        return await self.command("send", text=text, **fields)

    async def cancel(self, run_id: str | None = None, **fields: Any) -> Ack:
        """End the active run, or the named one. Raises as `send` does."""
        return await self.command("cancel", **_named(run_id=run_id), **fields)

    async def continue_(
        self,
        run_id: str | None = None,
        decisions: Sequence[Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> Ack:
        """Answer approvals, or go on after a cancelled or failed run. Raises as `send` does."""
        return await self.command(
            "continue", **_named(run_id=run_id, decisions=decisions), **fields
        )

    async def command(self, type: str, **fields: Any) -> Ack:
        """Give any command.

        Args:
            type: Which.
            fields: Its fields. Give `id` to send one again that an earlier process may have sent.

        Raises:
            Refused: If the server says no; the command had no effect.
            Unreachable: If it is away for longer than the client's patience.
        """
        command = self._command(type, fields)
        ack: Ack | None = None
        async for answer in submit(self._server, self.session_id, command, self._patience):
            if isinstance(answer, Ack):
                ack = answer
        if ack is None:  # `submit` ends with an ack or raises
            raise AssertionError
        return ack

    # --- runs ----------------------------------------------------------------------------------

    def run(self, text: str, **fields: Any) -> Run:
        """Return the run that answers: iterate over it to say it, and to see its events."""
        return self.command_run("send", text=text, **fields)

    def command_run(self, type: str, *, after: str | None = None, **fields: Any) -> Run:
        """Return the run that a command is about: iterate over it to give the command.

        Args:
            type: `send` or `continue`.
            after: From where on; default: from where the command took effect.
            fields: Of the command.
        """
        return Run(
            self._server,
            self.session_id,
            self._transport,
            self._patience,
            command=self._command(type, fields),
            after=after,
        )

    def follow_run(self, run_id: str, *, after: str) -> Run:
        """Return a run that was started elsewhere, to see its events after a cursor."""
        return Run(
            self._server,
            self.session_id,
            self._transport,
            self._patience,
            run_id=run_id,
            after=after,
        )

    async def ask(self, text: str, **fields: Any) -> str:
        """Say something, wait for the end of the run, and return its output.

        Raises:
            RunNotCompleted: If it ended in another way, or waits for a human.
            Refused, Unreachable: As `send` does.
        """
        run = self.run(text, **fields)
        async with aclosing(run.events()) as events:
            async for _ in events:
                pass
        if not isinstance(run.end, RunCompleted):
            raise RunNotCompleted(run.end) if run.end is not None else AssertionError
        return run.end.output

    def _command(self, type: str, fields: Mapping[str, Any]) -> PendingCommand:
        return PendingCommand({"type": type, **fields}, f"cmd_{secrets.token_hex(12)}")

    def _resumed(self, after: str | None) -> Resume:
        return Resume(self.session_id, after, heartbeat=self._transport.heartbeat)


def _named(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
