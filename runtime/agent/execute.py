"""Making the tool calls of one answer side by side, and telling the log and the model how it went.

One call goes through: arguments, hooks before, a human, guardrails, the tool (maybe again), its
guardrails, hooks after. What fails on the way is told to the model; the run goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from runtime.agent.aside import Aside
from runtime.agent.hooks import Allow, Change, Deny, Hooks, Replace, RunContext, ToolUse
from runtime.agent.plan import Doubt, Given, Hand, Plan, Refuse, Run, hand, plan, replan
from runtime.conduct import shortest
from runtime.errors import GuardrailTripwire, RuntimeFault, ToolTimedOut
from runtime.events import (
    ErrorInfo,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.failure import error_info
from runtime.history import UNKNOWN_OUTCOME, failure_text, result_text
from runtime.messages import Message, ToolCall
from runtime.nested import Paused
from runtime.plain import plain
from runtime.report import Reporter
from runtime.runnable import Emit, RunRequest
from runtime.tools import Guardrail, Tool, ToolContext

__all__ = ["Answered", "Asked", "Calls", "Outcome", "answer"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """The call has an answer for the model; `result` is the tool's, if it was run to its end."""

    message: Message
    completed: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A human is to be asked about this call; its arguments are those that would be used.

    Attributes:
        of_client: It is the client who is asked, for the result: the tool is the client's.
    """

    call: ToolCall
    of_client: bool = False


Outcome = Answered | Asked | Paused
"""What became of a call. `Paused`: something below the tool waits for a human."""


def answer(call: ToolCall, content: str) -> Message:
    """Return the message that answers a call."""
    return Message(role="tool", content=content, tool_call_id=call.id)


@dataclass(frozen=True, slots=True)
class Calls:
    """Makes the calls of one agent's answers.

    Attributes:
        tools: The agent's tools by name.
        hooks: Its hooks.
        context: The run, for hooks.
        request: What the run was asked: decisions, and calls that had started.
        approved: The arguments that humans were shown, by `call_id`.
        aside: Calls hooks and guardrails.
        report: Takes the events.
        overhear: Takes what tools say, and what is said below them.
        deadline: When the run is cut off, on the clock of `time.monotonic()`.
    """

    tools: Mapping[str, Tool]
    hooks: Sequence[Hooks]
    context: RunContext
    request: RunRequest
    approved: Mapping[str, str]
    aside: Aside
    report: Reporter
    overhear: Emit
    deadline: float | None

    async def make(self, calls: Sequence[ToolCall]) -> list[Outcome]:
        """Make calls at the same time and return what became of each; none disturbs the others.

        Raises:
            BaseException: Whatever `report` raises, maybe in an exception group.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._make(call)) for call in calls]
        return [task.result() for task in tasks]

    async def _make(self, call: ToolCall) -> Outcome:
        planned = plan(
            call,
            self.tools,
            decision=self.request.decisions.get(call.id),
            started=call.id in self.request.started,
            approved=self.approved.get(call.id),
            clients={tool.name for tool in self.request.tools},
        )
        if isinstance(planned, Run | Hand):
            planned = await self._hooked(planned)
        match planned:
            case Hand(call):
                return Asked(call, of_client=True)
            case Given():
                return await self._give(planned)
            case Doubt():
                await self._say(ToolUnknownOutcome, call)
                return Answered(answer(call, failure_text(UNKNOWN_OUTCOME)))
            case Refuse(call, error):
                return await self._fail(call, error)
            case Run() if not planned.settled and await self._asks_approval(planned):
                return Asked(planned.call)
            case Run():
                return await self._guarded(planned)

    # --- before --------------------------------------------------------------------------------

    async def _hooked(self, planned: Run | Hand) -> Plan:
        """Ask the hooks; return what is to be done then."""
        for hooks in self.hooks:
            if hooks.before_tool is None or not hooks.concern(planned.call.name):
                continue
            try:
                said: Any = await self.aside.call(
                    "the hook 'before_tool'", hooks.before_tool, self._use(planned.call)
                )
            except RuntimeFault as error:
                self._check(error)
                return Refuse(planned.call, error_info(error))
            match said:
                case Deny():
                    return Refuse(planned.call, ErrorInfo(code="denied", message=said.message))
                case Change():
                    arguments = orjson.dumps(plain(dict(said.arguments), "a hook")).decode()
                    changed = _changed(planned, arguments)
                    if not isinstance(changed, Run | Hand):
                        return changed
                    planned = changed
                case None | Allow():
                    pass
                case _:
                    return Refuse(planned.call, error_info(_no_answer("before_tool", said)))
        return planned

    def _use(self, call: ToolCall) -> ToolUse:
        arguments = json.loads(call.arguments) if call.arguments.strip() else {}
        return ToolUse(self.context, call.id, call.name, arguments)

    async def _asks_approval(self, planned: Run) -> bool:
        """Tell whether a human must agree to this call. A check that fails counts as yes."""
        needed = planned.tool.needs_approval
        if not callable(needed):
            return needed
        try:
            return await self.aside.call("needs_approval", needed, planned.arguments)
        except RuntimeFault:
            self.report.check()
            _logger.exception("asking a human about tool %r", planned.tool.name)
            return True

    async def _guarded(self, planned: Run) -> Outcome:
        try:
            await self._guard(planned.tool.input_guardrails, "tool_input", planned.arguments)
        except RuntimeFault as error:
            self._check(error)
            return await self._fail(planned.call, error_info(error))
        return await self._run(planned)

    async def _guard(
        self,
        guardrails: Sequence[Guardrail],
        stage: Literal["tool_input", "tool_output"],
        checked: Any,
    ) -> None:
        if guardrails:
            await self.aside.check(guardrails, stage, checked)

    # --- the tool ------------------------------------------------------------------------------

    async def _run(self, planned: Run) -> Outcome:
        """Run a tool. Its start is in the log before it has any effect."""
        call, tool = planned.call, planned.tool
        # The same for each attempt at this call, so that a tool can tell that it was here before.
        idempotency_key = f"{self.report.run_id}:{call.id}"
        await self._say(
            ToolStarted, call, arguments=call.arguments, idempotency_key=idempotency_key
        )
        began = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                result = await tool.run(
                    planned.arguments, self._tool_context(planned, idempotency_key, attempt)
                )
                result = await self._after(planned, result)
            except Paused as paused:
                return paused
            except Exception as failure:  # noqa: BLE001 - any failure of a tool is told, and logged
                self.report.check()  # the log's failure is not the tool's
                await self._close_below(call, failure)
                delay = _delay(tool, attempt, failure)
                told = _tool_error(tool.name, failure)
                if delay is None:
                    return await self._fail(call, told)
                await self._say(ToolFailedEvent, call, error=told, will_retry=True)
                await asyncio.sleep(delay)
            else:
                duration = round((time.monotonic() - began) * 1000, 3)
                return await self._complete(call, result, duration)

    def _tool_context(self, planned: Run, idempotency_key: str, attempt: int) -> ToolContext:
        timeout = planned.tool.timeout
        until = None if timeout is None else time.monotonic() + timeout
        return ToolContext(
            call_id=planned.call.id,
            request=self.request,
            path=self.report.path,
            report=self.overhear,
            idempotency_key=idempotency_key,
            deadline=shortest(self.deadline, until),
            attempt=attempt,
        )

    async def _after(self, planned: Run, result: Any) -> Any:
        """Return the result that counts, after guardrails and hooks.

        Raises:
            _Final: If one of them failed: making the call again would not help.
        """
        try:
            try:
                await self._guard(planned.tool.output_guardrails, "tool_output", result)
            except GuardrailTripwire as tripwire:
                result = str(tripwire)
            return await self._hooked_after(planned.call, result)
        except RuntimeFault as error:
            raise _Final(error) from error

    async def _hooked_after(self, call: ToolCall, result: Any) -> Any:
        """Ask the hooks about a result; return the one that counts.

        Raises:
            RuntimeFault: If one of them failed.
        """
        for hooks in reversed(self.hooks):
            if hooks.after_tool is None or not hooks.concern(call.name):
                continue
            said: Any = await self.aside.call(
                "the hook 'after_tool'", hooks.after_tool, self._use(call), result
            )
            if isinstance(said, Replace):
                result = plain(said.result, "a hook")
            elif said is not None:
                raise _no_answer("after_tool", said)
        return result

    # --- tools of the client's -----------------------------------------------------------------

    async def _give(self, given: Given) -> Outcome:
        """Take what the client says came of a call. How long it took is not known here."""
        call = given.call
        try:
            result = await self._hooked_after(call, plain(given.result, "the client's result"))
        except RuntimeFault as error:
            self._check(error)
            return await self._fail(call, error_info(error))
        return await self._complete(call, result, 0.0)

    async def _close_below(self, call: ToolCall, failure: Exception) -> None:
        """Close what an agent below the tool has left open because it was cut off."""
        depth, part = len(self.report.path), f"{call.id}:"
        for event in self.report.boundaries.closing(error_info(failure)):
            if len(event.path) > depth and event.path[depth].startswith(part):
                await self.report(event)

    # --- telling -------------------------------------------------------------------------------

    def _check(self, error: RuntimeFault) -> None:
        """Log what a hook or guardrail raised, unless it is the log that has failed."""
        self.report.check()
        if error.__cause__ is not None:
            _logger.error("%s", error, exc_info=error.__cause__)

    async def _complete(self, call: ToolCall, result: Any, duration_ms: float) -> Answered:
        await self._say(ToolCompleted, call, result=result, duration_ms=duration_ms)
        return Answered(answer(call, result_text(result)), completed=True)

    async def _fail(self, call: ToolCall, error: ErrorInfo) -> Answered:
        await self._say(ToolFailedEvent, call, error=error)
        return Answered(answer(call, failure_text(error)))

    async def _say(self, event: Callable[..., Any], call: ToolCall, **fields: Any) -> None:
        report = self.report
        await report(
            event(run_id=report.run_id, path=report.path, call_id=call.id, name=call.name, **fields)
        )


def _changed(planned: Run | Hand, arguments: str) -> Plan:
    """Return the plan for a call with other arguments."""
    if isinstance(planned, Hand):
        return hand(planned.call, arguments=arguments)
    return replan(planned.call, planned.tool, settled=planned.settled, arguments=arguments)


class _Final(Exception):
    """A call failed after the tool was done; `fault` is told, and the tool is not run again."""

    def __init__(self, fault: RuntimeFault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def _no_answer(hook: str, said: Any) -> RuntimeFault:
    """Return the fault of a hook whose answer means nothing: it may have been meant as a no."""
    return RuntimeFault(
        f"the hook {hook!r} answered with {type(said).__name__}, which means nothing"
    )


def _delay(tool: Tool, attempt: int, failure: Exception) -> float | None:
    """Return how many seconds to wait until the call is made again; None if it is not."""
    if tool.retry is None or isinstance(failure, ToolTimedOut | _Final):
        return None
    return tool.retry.delay(attempt, failure)


def _tool_error(name: str, failure: Exception) -> ErrorInfo:
    if isinstance(failure, _Final):
        _logger.error("tool %r: %s", name, failure, exc_info=failure.fault.__cause__)
        return error_info(failure.fault)
    if isinstance(failure, RuntimeFault):
        return error_info(failure)
    _logger.error("tool %r failed", name, exc_info=failure)
    text = f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__
    return ErrorInfo(code="tool_error", message=plain(text, f"tool {name!r}"))
