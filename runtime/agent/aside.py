"""Calling what an agent's author has written for the run: hooks, guardrails, instructions."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar

from runtime.errors import GuardrailTripwire, RuntimeFault
from runtime.events import GuardrailTripped
from runtime.outbox import Outbox
from runtime.plain import plain
from runtime.report import Reporter
from runtime.runnable import RunRequest
from runtime.scope import Scope
from runtime.tools.guardrail import Guardrail, Trip, name_of, tripped

__all__ = ["Aside", "Stage"]

T = TypeVar("T")
Stage = Literal["input", "output", "tool_input", "tool_output"]


class Aside:
    """Calls functions in the scope of the run, so that they can speak in it."""

    def __init__(self, request: RunRequest, report: Reporter) -> None:
        """Prepare for a run, on the running loop."""
        self._report = report
        self._scope = Scope(request=request, path=report.path, outbox=Outbox(report))

    async def call(self, what: str, function: Callable[..., T | Awaitable[T]], *given: Any) -> T:
        """Call a function, async or sync; return its result once all that it said is reported.

        Args:
            what: What it is, for the error.
            function: The function.
            given: Its arguments.

        Raises:
            RuntimeFault: If it raised; the cause is `__cause__`, unless it is a fault itself.
            BaseException: What made reporting fail.
        """
        try:
            with self._scope.active():
                result = function(*given)
                if inspect.isawaitable(result):
                    result = await result
        except Exception as error:
            await self._scope.outbox.flush()
            if isinstance(error, RuntimeFault):
                raise
            raise RuntimeFault(f"{what} failed: {type(error).__name__}") from error
        await self._scope.outbox.flush()
        return result

    async def check(self, guardrails: Sequence[Guardrail], stage: Stage, checked: Any) -> None:
        """Ask guardrails one after the other.

        Raises:
            GuardrailTripwire: If one says no; that it did was reported.
            RuntimeFault: If one fails, or its answer is no verdict: what could not be checked does
                not pass.
        """
        for guardrail in guardrails:
            name = name_of(guardrail)
            verdict: Any = await self.call(f"the guardrail {name!r}", guardrail, checked)
            if not isinstance(verdict, Trip | bool | None):
                said = type(verdict).__name__
                raise RuntimeFault(
                    f"the guardrail {name!r} answered with {said}, which means nothing"
                )
            trip = tripped(verdict)
            if trip is None:
                continue
            info = None if trip.info is None else plain(trip.info, f"guardrail {name!r}")
            await self._report(
                GuardrailTripped(
                    run_id=self._report.run_id,
                    path=self._report.path,
                    name=name,
                    stage=stage,
                    info=info,
                )
            )
            raise GuardrailTripwire(name, stage, trip.message)

    async def aclose(self) -> None:
        """Let nobody speak any more."""
        await self._scope.outbox.aclose()
