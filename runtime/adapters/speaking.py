"""How the answers and tools of another framework become events.

An adapter listens to its framework and tells a `Speaker` what it hears; the speaker gives the events
their ids, opens and closes what has to be, counts, and knows what the run says at its end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from runtime.adapters.answer import Answer
from runtime.conduct import StoppedAfterStep, run_started
from runtime.events import (
    ApprovalRequested,
    ErrorInfo,
    ModelCompleted,
    ModelStarted,
    RunCompleted,
    RunInterrupted,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.messages import ToolCall, Usage
from runtime.plain import plain
from runtime.report import Reporter, new_id
from runtime.runnable import Decision, RunRequest

__all__ = ["Speaker", "rejection"]


class Speaker:
    """Tells what happens in one run of another framework's agent.

    Attributes:
        report: Takes the events.
        agent: Who speaks now.
        turns: Model calls so far.
        usage: What they took.
        output: What was said last.
        finish_reason: Of the last model call.
    """

    def __init__(
        self, report: Reporter, request: RunRequest, agent: str, *, graph: bool = False
    ) -> None:
        """Prepare for a run of `agent`, or of the graph of that name."""
        self.report = report
        self.agent = agent
        self._graph = graph
        self.turns = request.turns
        self.usage = request.usage
        self.output = ""
        self.finish_reason: str | None = None
        self._request = request
        self._said = len(request.history)
        self._began: dict[str, tuple[str, float, tuple[str, ...]]] = {}

    async def begins(self) -> None:
        """Report that the run begins, if that is still to be reported."""
        request = self._request
        if request.announce:
            await self.report(
                run_started(
                    self.report,
                    request,
                    agent=None if self._graph else self.agent,
                    graph=self.agent if self._graph else None,
                    options=request.options,
                )
            )

    def after_step(self) -> None:
        """Say that a step is over: between two steps, a run may be asked to stop.

        Raises:
            StoppedAfterStep: If it was.
        """
        if self._request.cancel is not None and self._request.cancel.stopping:
            raise StoppedAfterStep

    # --- a model's answers ---------------------------------------------------------------------

    async def asks(
        self, model: str, messages: int | None = None, path: tuple[str, ...] | None = None
    ) -> Answer:
        """Report that a model is called, and return what takes its answer.

        Args:
            model: The model's name.
            messages: How many messages it is given, if that is known.
            path: From where it is called; by default the run's own.
        """
        answer = self.says(path)
        await self.report(
            ModelStarted(
                run_id=self.report.run_id,
                path=answer.path,
                turn=answer.turn,
                model=model,
                message_count=self._said if messages is None else messages,
            )
        )
        return answer

    def says(self, path: tuple[str, ...] | None = None) -> Answer:
        """Return what takes an answer that no model makes, or whose beginning nobody reported."""
        self.turns += 1
        return Answer(
            self.report,
            agent=self.agent,
            turn=self.turns,
            path=self.report.path if path is None else path,
            note=self._note,
        )

    def _note(self, completed: ModelCompleted) -> None:
        """Take a whole answer into account."""
        self.usage += completed.usage or Usage()
        self.finish_reason = completed.finish_reason
        self.output = completed.content or ""
        self._said += 1

    # --- tools ---------------------------------------------------------------------------------

    async def tool_starts(
        self, call_id: str, name: str, arguments: str, path: tuple[str, ...] | None = None
    ) -> None:
        """Report that a tool runs. A call that runs already is not told twice."""
        if call_id in self._began:
            return
        path = self.report.path if path is None else path
        self._began[call_id] = name, time.monotonic(), path
        await self.report(
            ToolStarted(
                run_id=self.report.run_id,
                path=path,
                call_id=call_id,
                name=name,
                arguments=arguments,
                idempotency_key=f"{self.report.run_id}:{call_id}",
            )
        )

    async def tool_ends(
        self, call_id: str, name: str, result: Any = None, *, error: ErrorInfo | None = None
    ) -> None:
        """Report the result of a tool, or its error; one that never started may fail too."""
        path = self.report.path
        began = time.monotonic()
        if call_id in self._began:
            name, began, path = self._began.pop(call_id)
        self._said += 1
        if error is not None:
            await self.report(
                ToolFailedEvent(
                    run_id=self.report.run_id, path=path, call_id=call_id, name=name, error=error
                )
            )
            return
        await self.report(
            ToolCompleted(
                run_id=self.report.run_id,
                path=path,
                call_id=call_id,
                name=name,
                result=plain(result, f"tool {name!r}"),
                duration_ms=round((time.monotonic() - began) * 1000, 3),
            )
        )

    async def tool_unknown(self, call: ToolCall) -> None:
        """Report that nobody knows whether a call took effect: its run died meanwhile."""
        self._said += 1
        await self.report(
            ToolUnknownOutcome(
                run_id=self.report.run_id,
                path=self.report.path,
                call_id=call.id,
                name=call.name,
            )
        )

    # --- the end -------------------------------------------------------------------------------

    async def wants_approval(
        self, call_id: str, name: str, arguments: str, reason: str | None = None
    ) -> str:
        """Report that a human must agree to a call, and return the approval's id."""
        approval_id = new_id("apr")
        await self.report(
            ApprovalRequested(
                run_id=self.report.run_id,
                path=self.report.path,
                approval_id=approval_id,
                call_id=call_id,
                tool=name,
                arguments=arguments,
                reason=reason,
            )
        )
        return approval_id

    def waits(self, approvals: Sequence[str], *, node: str | None = None) -> RunInterrupted:
        """Return the end of a run that waits for a human."""
        return RunInterrupted(
            run_id=self.report.run_id,
            path=self.report.path,
            reason="approval",
            node=node,
            pending=tuple(approvals),
        )

    def completes(
        self, output: str | None = None, final_output: Any = None, state: Any = None
    ) -> RunCompleted:
        """Return the end of a run that is done; by default, its output is what was said last."""
        return RunCompleted(
            run_id=self.report.run_id,
            path=self.report.path,
            output=self.output if output is None else output,
            final_output=final_output,
            state=state,
            usage=self.usage,
            finish_reason=self.finish_reason,
            last_agent=None if self._graph else self.agent,
            message_count=self._said,
            num_turns=self.turns,
        )


def rejection(decision: Decision) -> str:
    """Return what a model is told of a call that a human did not want."""
    if decision.kind == "expired":
        return "nobody approved this call in time"
    return "a human rejected this call" + (f": {decision.message}" if decision.message else "")
