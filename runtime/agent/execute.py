"""Running tools side by side, and telling the log and the model how it went."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from runtime.agent.plan import Doubt, Refuse, Run
from runtime.errors import ToolFailed
from runtime.events import (
    ErrorInfo,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.failure import error_info
from runtime.history import UNKNOWN_OUTCOME, failure_text, result_text
from runtime.messages import Message, ToolCall
from runtime.plain import plain
from runtime.report import Reporter
from runtime.tools import ToolContext

__all__ = ["execute"]

_logger = logging.getLogger(__name__)


async def execute(
    plans: Sequence[Run | Refuse | Doubt], report: Reporter, *, deadline: float | None
) -> list[Message]:
    """Do all that is planned at the same time and return the answers for the model, in order.

    Args:
        plans: What to do; one that fails does not disturb the others.
        report: Takes the events.
        deadline: When the run is cut off, on the clock of `time.monotonic()`.

    Raises:
        BaseException: Whatever `report` raises, maybe in an exception group.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_do(plan, report, deadline)) for plan in plans]
    return [task.result() for task in tasks]


async def _do(plan: Run | Refuse | Doubt, report: Reporter, deadline: float | None) -> Message:
    match plan:
        case Run():
            return await _run(plan, report, deadline)
        case Refuse(call, error):
            return await _fail(call, error, report)
        case Doubt(call):
            await report(
                ToolUnknownOutcome(
                    run_id=report.run_id, path=report.path, call_id=call.id, name=call.name
                )
            )
            return _answer(call, failure_text(UNKNOWN_OUTCOME))


async def _run(plan: Run, report: Reporter, deadline: float | None) -> Message:
    """Run one tool. Its start is in the log before it has any effect."""
    call, tool = plan.call, plan.tool
    # The same for each attempt at this call, so that a tool can tell that it was here before.
    idempotency_key = f"{report.run_id}:{call.id}"
    await report(
        ToolStarted(
            run_id=report.run_id,
            path=report.path,
            call_id=call.id,
            name=call.name,
            arguments=call.arguments,
            idempotency_key=idempotency_key,
        )
    )
    began = time.monotonic()
    limits = [deadline, None if tool.timeout is None else began + tool.timeout]
    context = ToolContext(
        call_id=call.id,
        run_id=report.run_id,
        idempotency_key=idempotency_key,
        deadline=min((limit for limit in limits if limit is not None), default=None),
    )

    async def progress(data: Any) -> None:
        await report(
            ToolProgress(
                run_id=report.run_id,
                path=report.path,
                call_id=call.id,
                data=plain(data, f"tool {tool.name!r}"),
            )
        )

    try:
        result = await tool.run(plan.arguments, context, progress)
    except Exception as failure:  # noqa: BLE001 - any failure of a tool is told, and logged
        report.check()  # the log's failure is not the tool's
        return await _fail(call, _tool_error(tool.name, failure), report)
    await report(
        ToolCompleted(
            run_id=report.run_id,
            path=report.path,
            call_id=call.id,
            name=call.name,
            result=result,
            duration_ms=round((time.monotonic() - began) * 1000, 3),
        )
    )
    return _answer(call, result_text(result))


def _tool_error(name: str, failure: Exception) -> ErrorInfo:
    if isinstance(failure, ToolFailed):
        return error_info(failure)
    _logger.error("tool %r failed", name, exc_info=failure)
    text = f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__
    return ErrorInfo(code="tool_error", message=plain(text, f"tool {name!r}"))


async def _fail(call: ToolCall, error: ErrorInfo, report: Reporter) -> Message:
    await report(
        ToolFailedEvent(
            run_id=report.run_id, path=report.path, call_id=call.id, name=call.name, error=error
        )
    )
    return _answer(call, failure_text(error))


def _answer(call: ToolCall, content: str) -> Message:
    return Message(role="tool", content=content, tool_call_id=call.id)
