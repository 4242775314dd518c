"""The loop of an agent: model, tools, model, until the model calls no more tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.agent.aside import Aside
from runtime.agent.bill import Bill, exceeded, untold
from runtime.agent.conversation import Conversation
from runtime.agent.execute import Answered, Asked, Calls
from runtime.agent.handoff import recall
from runtime.agent.hooks import RunContext
from runtime.agent.speech import Speech
from runtime.agent.step import ask
from runtime.conduct import StoppedAfterStep, run_started
from runtime.errors import BudgetExceeded, StepLimitExceeded
from runtime.events import (
    AgentHandoff,
    ApprovalRequested,
    Event,
    InputSteered,
    ModelCompleted,
    RunCompleted,
    RunInterrupted,
)
from runtime.history import legal
from runtime.journal import at
from runtime.messages import Message, ToolCall, Usage
from runtime.models.base import ModelRequest
from runtime.nested import Paused
from runtime.report import Reporter, new_id
from runtime.runnable import RunOptions, RunRequest, ToolInfo

if TYPE_CHECKING:
    from runtime.agent.agent import Agent

__all__ = ["End", "Loop"]

End = RunCompleted | RunInterrupted

CLIENT_TOOL = "client tool"
"""Why a run waits whose model called a tool of the client's."""


@dataclass(slots=True)
class Loop:
    """One run of an agent, from where its request begins.

    Attributes:
        agent: The run's agent: its limits hold, whoever speaks.
        request: What to begin with.
        options: The request's options, checked.
        report: Takes the events.
        deadline: When the run is cut off, on the clock of `time.monotonic()`.
    """

    agent: Agent
    request: RunRequest
    options: RunOptions
    report: Reporter
    deadline: float | None
    _aside: Aside = field(init=False)
    _journal: tuple[Event, ...] = field(init=False)
    _talk: Conversation = field(init=False)
    _call_ids: set[str] = field(init=False)
    _turns: int = field(init=False)
    _bill: Bill = field(init=False)
    _before: Usage = field(init=False)

    def __post_init__(self) -> None:
        request, path = self.request, self.report.path
        self._aside = Aside(request, self.report)
        self._journal = at(request.journal, path)
        self._call_ids = {call.id for message in request.history for call in message.tool_calls}
        self._turns = request.turns
        self._bill = Bill(self.agent, path)
        for event in request.journal:
            self._bill.note(event)
        self._bill.pay(untold(request.usage, self._bill.usage), self.agent.prices)
        # Below another run, what was used before is told by the journal alone: the other run has
        # counted it already.
        self._before = self._bill.usage if request.path else Usage()
        self._bill.usage = request.usage
        self._talk = Conversation(
            recall(self.agent, request.history, self._journal),
            request.history,
            self.report,
            self._aside,
            self._bill,
        )

    @property
    def _speaker(self) -> Agent:
        return self._talk.speaker

    async def run(self) -> End:
        """Do the run and return its last event, which is still to be reported.

        Raises:
            StoppedAfterStep: If it was asked to stop, between two steps.
            StepLimitExceeded: If the model was called `max_turns` times and wants more.
            BudgetExceeded: If it wants more after the run took all that it may.
            GuardrailTripwire: If a guardrail refused the input or the output.
            ToolsRefused: If a tool of the client's has the name of one of the agent's.
            OutputParseError: If the answer does not fit the output type.
            Exception: If the model, a hook or a guardrail failed for good.
        """
        try:
            self.agent.check_tools(self.request.tools)
            await self._begin()
            return await self._go_on()
        finally:
            await self._aside.aclose()

    async def _begin(self) -> None:
        if self.request.announce:
            await self.report(
                run_started(self.report, self.request, agent=self.agent.name, options=self.options)
            )
        if text := _newest_input(self.request.history):
            await self._aside.check(self.agent.input_guardrails, "input", text)
        for hooks in self.agent.hook_list:
            if hooks.before_run is not None:
                await self._aside.call("the hook 'before_run'", hooks.before_run, self._context())

    async def _go_on(self) -> End:
        await self._talk.go_on()
        calls = self._talk.unanswered()
        said = self._said_last()
        ended: End | None = None
        if said is not None and not said.tool_calls:  # it was done, and only its end is missing
            ended = await self._finish(said, said.content or "")
        while ended is None:
            if calls:
                ended = await self._act(calls, said)
                if ended is not None:
                    break
            if self._stopping:
                raise StoppedAfterStep
            self._check_limits()
            await self._hear()
            said = await self._ask()
            calls = said.tool_calls
            if not calls:
                ended = await self._finish(said, said.content or "")
        return ended

    def _said_last(self) -> ModelCompleted | None:
        """Return the answer that a run stands at that goes on; None if the user spoke since."""
        for event in reversed(self._journal):
            if isinstance(event, ModelCompleted | InputSteered):
                return event if isinstance(event, ModelCompleted) else None
        return None

    @property
    def _stopping(self) -> bool:
        return self.request.cancel is not None and self.request.cancel.stopping

    async def _hear(self) -> bool:
        """Take in what the user has said meanwhile; tell whether there was anything.

        A run that is about to stop leaves it to the next one.
        """
        if self.request.steered is None or self._stopping:
            return False
        try:
            messages = await self.request.steered()
        except BaseException as error:
            self.report.broken(error)
            raise
        self._talk.say(*messages)
        if text := _newest_input(messages):
            await self._aside.check(self.agent.input_guardrails, "input", text)
        return bool(messages)

    def _context(self) -> RunContext:
        return RunContext(
            run_id=self.report.run_id,
            agent=self._speaker.name,
            path=self.report.path,
            turn=self._turns,
            messages=tuple(self._talk.seen),
            options=self.options,
        )

    async def _overhear(self, event: Event) -> None:
        """Report what a tool says, or somebody below it."""
        if isinstance(event, ModelCompleted | AgentHandoff):
            self._bill.note(event)
        await self.report(event)

    # --- tools ---------------------------------------------------------------------------------

    async def _act(self, calls: Sequence[ToolCall], said: ModelCompleted | None) -> End | None:
        """Make the calls of an answer; return the run's end, if it ends with them."""
        transfers = [call for call in calls if call.name in self._speaker.handoffs_by_tool]
        others = [call for call in calls if call.name not in self._speaker.handoffs_by_tool]
        outcomes = await self._calls().make(others) if others else []
        answered = [outcome for outcome in outcomes if isinstance(outcome, Answered)]
        self._talk.say(*(outcome.message for outcome in answered))
        pending: list[str] = []
        reasons: list[str] = []
        for outcome in outcomes:
            if isinstance(outcome, Asked):
                pending.append(await self._ask_human(outcome))
                reasons.append(CLIENT_TOOL if outcome.of_client else "approval")
            elif isinstance(outcome, Paused):
                pending += outcome.approvals
                reasons.append(outcome.reason)
        if reasons:  # handing over has to wait: what was asked for belongs to this agent
            return RunInterrupted(
                run_id=self.report.run_id,
                path=self.report.path,
                reason="; ".join(dict.fromkeys(reasons)),
                pending=tuple(pending),
            )
        for call, outcome in zip(others, outcomes, strict=True):
            if (
                isinstance(outcome, Answered)
                and outcome.completed
                and self._speaker.stops_at(call.name)
            ):
                return await self._finish(said, outcome.message.content)
        if transfers:
            await self._talk.hand_over(transfers)
        return None

    def _calls(self) -> Calls:
        return Calls(
            tools=self._speaker.toolbox,
            hooks=self._speaker.hook_list,
            context=self._context(),
            request=self.request,
            approved={
                event.call_id: event.arguments
                for event in self._journal
                if isinstance(event, ApprovalRequested) and event.call_id and event.arguments
            },
            aside=self._aside,
            report=self.report,
            overhear=self._overhear,
            deadline=self.deadline,
        )

    async def _ask_human(self, asked: Asked) -> str:
        """Ask about a call and return the approval's id; one that was asked for keeps its id."""
        call = asked.call
        approval_id = self._asked_before(call)
        if approval_id is not None and self.request.attempt > 1:
            return approval_id  # the attempt that died has reported it, and it is still open
        approval_id = approval_id or new_id("apr")
        await self.report(
            ApprovalRequested(
                run_id=self.report.run_id,
                path=self.report.path,
                approval_id=approval_id,
                call_id=call.id,
                tool=call.name,
                arguments=call.arguments,
                reason=CLIENT_TOOL if asked.of_client else None,
                wants="result" if asked.of_client else None,
            )
        )
        return approval_id

    def _asked_before(self, call: ToolCall) -> str | None:
        for event in reversed(self._journal):
            if isinstance(event, ApprovalRequested) and event.call_id == call.id:
                return event.approval_id
        return None

    # --- the model -----------------------------------------------------------------------------

    async def _ask(self) -> ModelCompleted:
        """Call the model once and remember what it says."""
        self._turns += 1
        speaker = self._speaker
        completed = await ask(
            speaker.model,
            await self._request(),
            turn=self._turns,
            report=self.report,
            retry=speaker.retry,
            listen=self._listen,
            judge=self._judge if speaker.buffered else None,
        )
        self._bill.note(completed)
        self._talk.say(
            Message(
                role="assistant",
                content=completed.content or "",
                message_id=completed.message_id,
                tool_calls=completed.tool_calls,
            )
        )
        for hooks in reversed(speaker.hook_list):
            if hooks.after_model is not None:
                await self._aside.call(
                    "the hook 'after_model'", hooks.after_model, self._context(), completed
                )
        return completed

    def _check_limits(self) -> None:
        if (why := self._exceeded()) is not None:
            raise why

    def _exceeded(self) -> StepLimitExceeded | BudgetExceeded | None:
        """Return why the model may not be called again, if it may not."""
        tokens = self._bill.usage.total_tokens + self._before.total_tokens
        return exceeded(self.agent, self._turns, tokens, self._bill.cost or 0.0)

    async def _request(self) -> ModelRequest:
        speaker = self._speaker
        instructions = speaker.instructions
        if callable(instructions):
            instructions = await self._aside.call("the instructions", instructions, self._context())
        text = "\n\n".join(part for part in (instructions, self.request.instructions) if part)
        told = [Message(role="system", content=text)] if text else []
        clients = (ToolInfo(t.name, t.description, t.parameters) for t in self.request.tools)
        request = ModelRequest(
            messages=legal([*told, *self._talk.seen]),
            tools=(*speaker.tool_infos(), *clients),
            options=self.options,
        )
        if speaker.output_format is not None:
            request = speaker.output_format.ask(request)
        for hooks in speaker.hook_list:
            if hooks.before_model is not None:
                changed = await self._aside.call(
                    "the hook 'before_model'", hooks.before_model, self._context(), request
                )
                request = changed or request
        return request

    def _listen(self) -> Speech:
        return Speech(
            run_id=self.report.run_id,
            path=self.report.path,
            agent=self._speaker.name,
            turn=self._turns,
            taken_ids=self._call_ids,
        )

    # --- the end -------------------------------------------------------------------------------

    async def _judge(self, completed: ModelCompleted) -> None:
        """Ask the output guardrails, unless the run goes on after this answer."""
        guardrails = self._speaker.output_guardrails
        if guardrails and not completed.tool_calls:
            await self._aside.check(guardrails, "output", completed.content or "")

    async def _finish(self, last: ModelCompleted | None, output: str) -> RunCompleted | None:
        """Return the end of a run whose answer is `output`; None if the user has said more.

        An answer that was given is never thrown away: where the model may not be called again, it
        is the last one.
        """
        speaker = self._speaker
        judged = speaker.buffered and last is not None and not last.tool_calls
        if speaker.output_guardrails and not judged:
            await self._aside.check(speaker.output_guardrails, "output", output)
        end = RunCompleted(
            run_id=self.report.run_id,
            path=self.report.path,
            output=output,
            usage=self._bill.usage,
            finish_reason=last.finish_reason if last is not None else None,
            last_agent=speaker.name,
            message_count=len(self._talk.messages),
            num_turns=self._turns,
            cost_usd=self._bill.cost,
        )
        if speaker.output_format is not None:
            parsed, plain = speaker.output_format.parse(output)
            end = end.model_copy(update={"final_output": plain}).parsed_as(parsed)
        if self._exceeded() is None and await self._hear():
            return None
        for hooks in reversed(self.agent.hook_list):
            if hooks.after_run is not None:
                await self._aside.call(
                    "the hook 'after_run'", hooks.after_run, self._context(), end
                )
        return end


def _newest_input(messages: Sequence[Message]) -> str:
    """Return what the user said since anybody else spoke; nothing if somebody did."""
    texts: list[str] = []
    for message in reversed(messages):
        if message.role != "user":
            break
        texts.append(message.content)
    return "\n\n".join(reversed(texts))
