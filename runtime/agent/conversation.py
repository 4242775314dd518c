"""The conversation of a run: what was said, who has it, and how it is handed over."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.agent.aside import Aside
from runtime.agent.bill import Bill
from runtime.agent.execute import answer
from runtime.agent.handoff import Handoff, Recalled
from runtime.errors import RuntimeFault
from runtime.events import AgentHandoff, ErrorInfo, ToolCompleted, ToolFailedEvent
from runtime.history import failure_text, pending_calls
from runtime.messages import Message, ToolCall
from runtime.report import Reporter

if TYPE_CHECKING:
    from runtime.agent.agent import Agent

__all__ = ["Conversation"]

_logger = logging.getLogger(__name__)


class Conversation:
    """What was said in a run, and who goes on.

    Attributes:
        messages: All of it, the history that the run began with included.
        seen: What the speaker sees of it.
        speaker: The agent that has it.
    """

    def __init__(
        self,
        where: Recalled,
        history: Sequence[Message],
        report: Reporter,
        aside: Aside,
        bill: Bill,
    ) -> None:
        """Begin where the run stands."""
        self.messages = list(history)
        self.seen = where.seen
        self.speaker: Agent = where.agent
        self._owed = where.owed
        self._report = report
        self._aside = aside
        self._bill = bill

    def say(self, *messages: Message) -> None:
        """Add to the conversation."""
        self.messages += messages
        self.seen += messages

    def unanswered(self) -> tuple[ToolCall, ...]:
        """Return the calls that nobody has answered."""
        calls = {call.id: call for message in self.messages for call in message.tool_calls}
        return tuple(calls[call_id] for call_id in pending_calls(self.messages))

    async def go_on(self) -> None:
        """Answer the call of a handoff that was reported just before a crash."""
        handoff, self._owed = self._owed, None
        if handoff is None:
            return
        for call in self.unanswered():
            if call.name == handoff.info.name:
                await self._accept(call, handoff)
        self.seen = handoff.seen(self.seen)

    async def hand_over(self, transfers: Sequence[ToolCall]) -> None:
        """Answer the calls that hand over; the first one that may takes the conversation."""
        taken: Handoff | None = None
        for call in transfers:
            handoff = self.speaker.handoffs_by_tool[call.name]
            if taken is not None:
                await self._refuse(call, "the conversation was handed over already")
            elif not await self._may(handoff):
                await self._announce(handoff, denied=True)
                await self._refuse(call, f"handing over to {handoff.target.name} is not allowed")
            else:
                await self._announce(handoff)
                await self._accept(call, handoff)
                taken = handoff
        if taken is not None:
            self.seen = taken.seen(self.seen)
            self.speaker = taken.target

    async def _may(self, handoff: Handoff) -> bool:
        if handoff.allow is None:
            return True
        try:
            return await self._aside.call("a handoff's allow", handoff.allow, tuple(self.seen))
        except RuntimeFault:
            self._report.check()
            _logger.exception("the handoff to %r is denied", handoff.target.name)
            return False

    async def _announce(self, handoff: Handoff, *, denied: bool | None = None) -> None:
        event = AgentHandoff(
            run_id=self._report.run_id,
            path=self._report.path,
            source=self.speaker.name,
            target=handoff.target.name,
            denied=denied,
        )
        self._bill.note(event)
        await self._report(event)

    async def _accept(self, call: ToolCall, handoff: Handoff) -> None:
        text = f"the conversation was handed over to {handoff.target.name}"
        await self._report(
            ToolCompleted(
                run_id=self._report.run_id,
                path=self._report.path,
                call_id=call.id,
                name=call.name,
                result=text,
                duration_ms=0.0,
            )
        )
        self.say(answer(call, text))

    async def _refuse(self, call: ToolCall, message: str) -> None:
        error = ErrorInfo(code="handoff_denied", message=message)
        await self._report(
            ToolFailedEvent(
                run_id=self._report.run_id,
                path=self._report.path,
                call_id=call.id,
                name=call.name,
                error=error,
            )
        )
        self.say(answer(call, failure_text(error)))
