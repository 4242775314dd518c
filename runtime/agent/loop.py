"""The loop of an agent: model, tools, model, until the model calls no more tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtime.agent.execute import execute
from runtime.agent.plan import Ask, plan
from runtime.agent.speech import Speech
from runtime.agent.step import ask
from runtime.errors import StepLimitExceeded
from runtime.events import (
    ApprovalRequested,
    ModelCompleted,
    RunCompleted,
    RunInterrupted,
    RunStarted,
)
from runtime.history import legal, pending_calls
from runtime.messages import Message, ToolCall, Usage
from runtime.models.base import Model, ModelRequest
from runtime.report import Reporter, new_id
from runtime.retry import RetryPolicy
from runtime.runnable import RunOptions, RunRequest
from runtime.tools import Tool

__all__ = ["Loop"]


@dataclass(slots=True)
class Loop:
    """One run of an agent, from where its request begins.

    Attributes:
        agent: The agent's name.
        model: Its model.
        instructions: Told to the model before the conversation.
        tools: Its tools by name.
        max_turns: How often a run may call the model.
        retry: When a failed model call is made again.
        request: What to begin with.
        options: The request's options, checked.
        report: Takes the events.
        deadline: When the run is cut off, on the clock of `time.monotonic()`.
    """

    agent: str
    model: Model
    instructions: str | None
    tools: Mapping[str, Tool]
    max_turns: int
    retry: RetryPolicy
    request: RunRequest
    options: RunOptions
    report: Reporter
    deadline: float | None
    _messages: list[Message] = field(init=False)
    _call_ids: set[str] = field(init=False)
    _turns: int = field(init=False)
    _usage: Usage = field(init=False)

    def __post_init__(self) -> None:
        self._messages = list(self.request.history)
        self._call_ids = {call.id for message in self._messages for call in message.tool_calls}
        self._turns = self.request.turns
        self._usage = self.request.usage

    async def run(self) -> RunCompleted | RunInterrupted:
        """Do the run and return its last event, which is still to be reported.

        Raises:
            StepLimitExceeded: If the model was called `max_turns` times and wants more.
            Exception: If the model failed for good.
        """
        if self.request.announce:
            await self._announce()
        calls = self._unanswered()
        while True:
            if calls and (approvals := await self._act(calls)):
                return RunInterrupted(
                    run_id=self.report.run_id,
                    path=self.report.path,
                    reason="approval",
                    pending=approvals,
                )
            completed = await self._ask()
            calls = completed.tool_calls
            if not calls:
                return self._completed(completed)

    async def _announce(self) -> None:
        await self.report(
            RunStarted(
                run_id=self.report.run_id,
                path=self.report.path,
                agent=self.agent,
                attempt=self.request.attempt,
                parent_run_id=self.request.parent_run_id,
                options=self.options.model_dump(mode="json", exclude_defaults=True) or None,
            )
        )

    def _unanswered(self) -> tuple[ToolCall, ...]:
        """Return the calls that the history leaves open; they are the first work."""
        calls = {call.id: call for message in self._messages for call in message.tool_calls}
        return tuple(calls[call_id] for call_id in pending_calls(self._messages))

    async def _act(self, calls: Sequence[ToolCall]) -> tuple[str, ...]:
        """Run tools; return the approvals that the run must wait for."""
        plans = [
            plan(
                call,
                self.tools,
                decision=self.request.decisions.get(call.id),
                started=call.id in self.request.started,
            )
            for call in calls
        ]
        work = [planned for planned in plans if not isinstance(planned, Ask)]
        self._messages += await execute(work, self.report, deadline=self.deadline)
        approvals: list[str] = []
        for planned in plans:
            if isinstance(planned, Ask):
                approvals.append(new_id("apr"))
                await self.report(
                    ApprovalRequested(
                        run_id=self.report.run_id,
                        path=self.report.path,
                        approval_id=approvals[-1],
                        call_id=planned.call.id,
                        tool=planned.call.name,
                        arguments=planned.call.arguments,
                    )
                )
        return tuple(approvals)

    async def _ask(self) -> ModelCompleted:
        """Call the model once and remember what it says."""
        if self._turns >= self.max_turns:
            raise StepLimitExceeded(self.max_turns)
        self._turns += 1
        instructions = [Message(role="system", content=self.instructions or "")]
        completed = await ask(
            self.model,
            ModelRequest(
                messages=legal(instructions * bool(self.instructions) + self._messages),
                tools=tuple(tool.info for tool in self.tools.values()),
                options=self.options,
            ),
            turn=self._turns,
            report=self.report,
            retry=self.retry,
            listen=self._listen,
        )
        self._usage += completed.usage or Usage()
        self._messages.append(
            Message(
                role="assistant",
                content=completed.content or "",
                message_id=completed.message_id,
                tool_calls=completed.tool_calls,
            )
        )
        return completed

    def _listen(self) -> Speech:
        return Speech(
            run_id=self.report.run_id,
            path=self.report.path,
            agent=self.agent,
            turn=self._turns,
            taken_ids=self._call_ids,
        )

    def _completed(self, last: ModelCompleted) -> RunCompleted:
        return RunCompleted(
            run_id=self.report.run_id,
            path=self.report.path,
            output=last.content or "",
            usage=self._usage,
            finish_reason=last.finish_reason,
            last_agent=self.agent,
            message_count=len(self._messages),
            num_turns=self._turns,
        )
