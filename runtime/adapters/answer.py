"""How one answer of another framework's model becomes events."""

from __future__ import annotations

from collections.abc import Callable

from runtime.events import (
    ErrorInfo,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ModelFailed,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
)
from runtime.messages import ToolCall, Usage
from runtime.report import Reporter, new_id

__all__ = ["Answer"]


class Answer:
    """One answer of a model while it is being said. Made by `Speaker.asks`.

    A message begins with its first text and ends with the answer. Reasoning ends when something
    else begins. A tool call is ready when it is said to be, or when the answer ends.

    Attributes:
        path: From where the model was called.
        turn: Which model call of the run this is, from 1.
        text: What was said so far.
    """

    def __init__(
        self,
        report: Reporter,
        *,
        agent: str,
        turn: int,
        path: tuple[str, ...],
        note: Callable[[ModelCompleted], None],
    ) -> None:
        """Prepare for an answer; `note` is told when it is whole, before it is reported."""
        self.path = path
        self.turn = turn
        self.text = ""
        self._agent = agent
        self._note = note
        self._report = report
        self._message_id = new_id("msg")
        self._open = False
        self._reasoning: str | None = None
        self._reasoning_id = ""
        self._calls: dict[str, _Call] = {}

    async def says(self, piece: str) -> None:
        """Take a piece of text."""
        if not piece:
            return
        await self._end_reasoning()
        run_id = self._report.run_id
        if not self._open:
            self._open = True
            await self._report(
                MessageStarted(
                    run_id=run_id,
                    path=self.path,
                    message_id=self._message_id,
                    agent=self._agent,
                    turn=self.turn,
                )
            )
        self.text += piece
        await self._report(
            MessageDelta(run_id=run_id, path=self.path, message_id=self._message_id, text=piece)
        )

    async def thinks(self, piece: str) -> None:
        """Take a piece of reasoning."""
        if not piece:
            return
        run_id = self._report.run_id
        if self._reasoning is None:
            self._reasoning = ""
            self._reasoning_id = new_id("msg")
            await self._report(
                ReasoningStarted(run_id=run_id, path=self.path, message_id=self._reasoning_id)
            )
        self._reasoning += piece
        await self._report(
            ReasoningDelta(run_id=run_id, path=self.path, message_id=self._reasoning_id, text=piece)
        )

    async def calls(self, call_id: str, name: str, piece: str = "") -> None:
        """Take the beginning of a tool call, or the next piece of its arguments."""
        await self._end_reasoning()
        run_id = self._report.run_id
        if call_id not in self._calls:
            await self._report(
                ToolCallStarted(
                    run_id=run_id,
                    path=self.path,
                    call_id=call_id,
                    name=name,
                    message_id=self._message_id,
                    index=len(self._calls),
                )
            )
            self._calls[call_id] = _Call(name)
        if piece:
            self._calls[call_id].arguments += piece
            await self._report(
                ToolCallDelta(run_id=run_id, path=self.path, call_id=call_id, arguments=piece)
            )

    def arguments(self, call_id: str) -> str:
        """Return the arguments of a call as far as they were told."""
        call = self._calls.get(call_id)
        return "" if call is None else call.arguments

    async def ready(self, call_id: str, name: str, arguments: str) -> None:
        """Take a call whose arguments are complete, whether or not its pieces were told before."""
        known = self._calls.get(call_id)
        if known is None or not known.arguments:
            await self.calls(call_id, name, arguments)
        call = self._calls[call_id]
        if call.ready:
            return
        call.ready = True
        call.arguments = arguments
        await self._report(
            ToolCallReady(
                run_id=self._report.run_id,
                path=self.path,
                call_id=call_id,
                name=call.name,
                arguments=arguments,
            )
        )

    async def ends(
        self,
        usage: Usage | None = None,
        *,
        finish_reason: str | None = None,
        model: str | None = None,
        response_id: str | None = None,
    ) -> ModelCompleted:
        """Report that the answer is whole."""
        run_id = self._report.run_id
        await self._end_reasoning()
        for call_id, call in self._calls.items():
            await self.ready(call_id, call.name, call.arguments)
        if self._open:
            await self._report(
                MessageCompleted(
                    run_id=run_id, path=self.path, message_id=self._message_id, text=self.text
                )
            )
        completed = ModelCompleted(
            run_id=run_id,
            path=self.path,
            message_id=self._message_id,
            content=self.text or None,
            tool_calls=tuple(
                ToolCall(id=call_id, name=call.name, arguments=call.arguments)
                for call_id, call in self._calls.items()
            ),
            usage=usage,
            finish_reason=finish_reason or ("tool_calls" if self._calls else "stop"),
            model=model,
            response_id=response_id,
            turn=self.turn,
        )
        self._note(completed)
        await self._report(completed)
        return completed

    async def fails(self, error: ErrorInfo) -> None:
        """Report that the model call failed. What is open is closed by the end of the run."""
        await self._report(
            ModelFailed(run_id=self._report.run_id, path=self.path, error=error, will_retry=False)
        )

    async def _end_reasoning(self) -> None:
        if self._reasoning is None:
            return
        text, self._reasoning = self._reasoning, None
        await self._report(
            ReasoningCompleted(
                run_id=self._report.run_id,
                path=self.path,
                message_id=self._reasoning_id,
                text=text,
            )
        )


class _Call:
    """A tool call as far as it was said."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.arguments = ""
        self.ready = False
