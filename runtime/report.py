"""The one place through which a run's events leave it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable

from runtime.abandon import undisturbed
from runtime.boundaries import Boundaries
from runtime.events import Event
from runtime.runnable import Emit

__all__ = ["Reporter", "new_id"]


def new_id(prefix: str) -> str:
    """Return a fresh id such as `msg_3f9c…`: 96 random bits, so that none is ever met twice."""
    return f"{prefix}_{secrets.token_hex(12)}"


class Reporter:
    """Reports events of one run, and knows what is open. Once `emit` has failed it says no more.

    An event counts as reported from the moment that `emit` is called: cancelling the wait for it
    does not take it back.

    Attributes:
        run_id: The run.
        path: From the root to the agent.
        boundaries: What is open.
        failure: What `emit` raised, if it did.
        emit: Takes the events, and looks at nothing.
        ended: Whether the last event is reported, or is being reported.
    """

    def __init__(self, emit: Emit, *, run_id: str, path: tuple[str, ...]) -> None:
        self.run_id = run_id
        self.path = path
        self.boundaries = Boundaries()
        self.failure: BaseException | None = None
        self.ended = False
        self.emit = emit

    async def __call__(self, event: Event) -> None:
        """Report one event.

        Raises:
            BaseException: Whatever `emit` raises, now or at an earlier event.
        """
        if self.failure is not None:
            raise self.failure
        self.boundaries.note(event)
        try:
            await self.emit(event)
        except BaseException as error:
            self.broken(error)
            raise

    def broken(self, error: BaseException) -> None:
        """Know what `emit` raised: nothing more can be reported, unless the run was cancelled."""
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the run, and not `emit` itself
                return
        self.failure = error

    def check(self) -> None:
        """Raise what `emit` raised, if it did."""
        if self.failure is not None:
            raise self.failure

    def partial_output(self) -> str | None:
        """Return the text of a message that is not complete yet."""
        return "".join(said.text for said in self.boundaries.messages.values()) or None

    async def end(self, events: Iterable[Event]) -> None:
        """Report the last events of a run, all of them, also when the task is cancelled meanwhile.

        A run ends once: a later call does nothing.

        Raises:
            asyncio.CancelledError: After the last event, if the task was cancelled meanwhile.
            BaseException: Whatever `emit` raises.
        """
        if self.ended:
            return
        self.ended = True

        async def say() -> None:
            for event in events:
                await self(event)

        await undisturbed(say())
