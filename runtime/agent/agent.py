"""Agents: a model with instructions and tools, and the limits and the end of each of its runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pydantic import ValidationError

from runtime.agent.loop import Loop
from runtime.errors import OptionsRefused, RuntimeFault
from runtime.events import ErrorInfo, Event, RunCancelled, RunFailed
from runtime.failure import CANCELLED, error_info, timed_out
from runtime.models.base import Model
from runtime.report import Reporter
from runtime.retry import RetryPolicy
from runtime.runnable import Emit, RunOptions, RunRequest, ToolInfo
from runtime.tools import Tool

__all__ = ["Agent"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Agent:
    """A model that answers, calling tools as it sees fit. It is a `Runnable`.

    Attributes:
        name: The name under which it is registered.
        model: The model that it asks.
        instructions: Told to the model before the conversation.
        tools: What the model may call; their names differ.
        description: One sentence for people who choose an agent.
        max_turns: How often one run may call the model.
        timeout: Seconds that one run may take; None for no limit of its own.
        options_type: What a caller may set for one run.
        retry: When a failed model call is made again.

    Raises:
        ValueError: If there is no model, or two tools have one name, or a limit is not positive.
    """

    name: str
    model: Model
    instructions: str | None = None
    tools: Sequence[Tool] = ()
    description: str = ""
    max_turns: int = 10
    timeout: float | None = 600.0
    options_type: type[RunOptions] = RunOptions
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        if self.model is None:
            raise ValueError(f"agent {self.name!r} has no model; pass one as model=")
        for tool in self.tools:
            if not isinstance(tool, Tool):
                raise TypeError(f"agent {self.name!r}: {tool!r} is no tool; decorate it with @tool")
        if len(self._toolbox) < len(self.tools):
            raise ValueError(f"agent {self.name!r}: two tools have the same name")
        if self.max_turns < 1 or (self.timeout is not None and self.timeout <= 0):
            raise ValueError(f"agent {self.name!r}: max_turns and timeout must be positive")

    @property
    def kind(self) -> Literal["agent"]:
        """What it is."""
        return "agent"

    @cached_property
    def _toolbox(self) -> dict[str, Tool]:
        return {tool.name: tool for tool in self.tools}

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        """Return its tools, as clients see them."""
        return tuple(tool.info for tool in self._toolbox.values())

    async def aclose(self) -> None:
        """Let go of the model. Safe to call twice."""
        await self.model.aclose()

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        """Do a run and report it; the promises are those of `Runnable.execute`."""
        report = Reporter(emit, run_id=request.run_id, path=request.path or (self.name,))
        limit = min((t for t in (self.timeout, request.timeout) if t is not None), default=None)
        clock = asyncio.timeout(limit)
        try:
            async with clock:
                last: Event = await self._loop(request, report, limit).run()
            closing: list[Event] = []
        except asyncio.CancelledError:
            await report.end(_cancelled(report, CANCELLED, "cancel"))
            raise
        except BaseException as error:
            report.check()
            if isinstance(error, TimeoutError) and clock.expired():
                *closing, last = _cancelled(report, timed_out(limit), "timeout")
            elif isinstance(error, Exception):
                *closing, last = _failed(report, error)
            else:
                raise
        await report.end([*closing, last])

    def _loop(self, request: RunRequest, report: Reporter, limit: float | None) -> Loop:
        return Loop(
            agent=self.name,
            model=self.model,
            instructions=self.instructions,
            tools=self._toolbox,
            max_turns=self.max_turns,
            retry=self.retry,
            request=request,
            options=self._options(request.options),
            report=report,
            deadline=None if limit is None else time.monotonic() + limit,
        )

    def _options(self, options: RunOptions) -> RunOptions:
        """Return options as the agent's own type, which may have defaults of its own."""
        if type(options) is self.options_type:
            return options
        try:
            return self.options_type.model_validate(options.model_dump(exclude_unset=True))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
            raise OptionsRefused(
                f"agent {self.name!r} does not take these options: {problems}"
            ) from error


def _cancelled(
    report: Reporter, error: ErrorInfo, reason: Literal["cancel", "timeout"]
) -> list[Event]:
    """Return what ends a run that was stopped before it was done."""
    return [
        *report.boundaries.closing(error),
        RunCancelled(
            run_id=report.run_id,
            path=report.path,
            reason=reason,
            partial_output=report.partial_output(),
        ),
    ]


def _failed(report: Reporter, error: Exception) -> list[Event]:
    """Return what ends a run that failed."""
    if isinstance(error, RuntimeFault):
        _logger.warning("run %s failed: %s", report.run_id, error, exc_info=error.__cause__)
    else:
        _logger.error("run %s failed unexpectedly", report.run_id, exc_info=error)
    info = error_info(error)
    return [
        *report.boundaries.closing(info),
        RunFailed(run_id=report.run_id, path=report.path, error=info).caused_by(error),
    ]
