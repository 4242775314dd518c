"""From the deltas of one model call to the events that report them."""

from __future__ import annotations

from runtime.errors import ModelSpokeNonsense
from runtime.events import (
    Event,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
)
from runtime.messages import ToolCall
from runtime.models.base import Delta, Finish, ReasoningText, Text, ToolCallFragment
from runtime.models.fold import Answer, CallDraft
from runtime.report import new_id

__all__ = ["Speech"]


class Speech:
    """One answer of a model while it is being said.

    - A message begins with its first text and ends with the answer.
    - Reasoning ends when something else begins; what is reasoned later is a new piece.
    - A tool call begins once its name is known, and is ready when the answer is over, or when the
      next call begins and its own arguments are a whole JSON object: calls may interleave.

    Attributes:
        answer: What was said so far.
        begun: Whether anything was reported: from then on the call cannot be made again.
    """

    def __init__(
        self, *, run_id: str, path: tuple[str, ...], agent: str, turn: int, taken_ids: set[str]
    ) -> None:
        """Prepare for an answer.

        Args:
            run_id: The run.
            path: From the root to the agent.
            agent: The agent that speaks.
            turn: Which model call of the run this is, from 1.
            taken_ids: Ids of earlier tool calls; those of this answer are added. A provider's id
                that is taken, as some local models give, is replaced. Below another run all of
                them are: nobody there knows the ids of its neighbours.
        """
        self.answer = Answer()
        self.begun = False
        self._run_id = run_id
        self._path = path
        self._agent = agent
        self._turn = turn
        self._taken_ids = taken_ids
        self._message_id = new_id("msg")
        self._message_open = False
        self._reasoning_id: str | None = None
        self._reasoning: list[str] = []
        self._call_ids: dict[int, str] = {}
        self._ready: set[int] = set()

    def take(self, delta: Delta) -> list[Event]:
        """Return the events that a delta makes; none for one that says nothing.

        Raises:
            ModelSpokeNonsense: If a tool call goes on after it was complete, or it is no delta.
        """
        events: list[Event] = []
        match delta:
            case Text():
                events = self._take_text(delta) if delta.text else []
            case ReasoningText():
                events = self._take_reasoning(delta) if delta.text else []
            case ToolCallFragment():
                events = self._take_fragment(delta)
            case Finish():
                self.answer.add(delta)
            case _:
                raise ModelSpokeNonsense(
                    f"the model gave {type(delta).__name__}, which is no delta"
                )
        self.begun = self.begun or bool(events)
        return events

    def complete(self) -> tuple[list[Event], ModelCompleted]:
        """Return the events that close what is open of a whole answer, and its last event.

        Raises:
            ModelSpokeNonsense: If the answer is not whole.
        """
        finish = self.answer.finished()
        events = self._end_reasoning()
        for index, call in sorted(self.answer.calls.items()):
            events += self._end_call(index, call)
        if self._message_open:
            events.append(
                MessageCompleted(
                    run_id=self._run_id,
                    path=self._path,
                    message_id=self._message_id,
                    text=self.answer.text,
                )
            )
        completed = ModelCompleted(
            run_id=self._run_id,
            path=self._path,
            message_id=self._message_id,
            content=self.answer.text or None,
            tool_calls=tuple(
                ToolCall(id=self._call_ids[index], name=call.name, arguments=call.arguments)
                for index, call in sorted(self.answer.calls.items())
            ),
            usage=finish.usage,
            finish_reason=finish.reason,
            model=finish.model,
            response_id=finish.response_id,
            turn=self._turn,
        )
        return events, completed

    def _take_text(self, delta: Text) -> list[Event]:
        self.answer.add(delta)
        events = self._end_reasoning()
        if not self._message_open:
            self._message_open = True
            events.append(
                MessageStarted(
                    run_id=self._run_id,
                    path=self._path,
                    message_id=self._message_id,
                    agent=self._agent,
                    turn=self._turn,
                )
            )
        events.append(
            MessageDelta(
                run_id=self._run_id,
                path=self._path,
                message_id=self._message_id,
                text=delta.text,
            )
        )
        return events

    def _take_reasoning(self, delta: ReasoningText) -> list[Event]:
        self.answer.add(delta)
        self._reasoning.append(delta.text)
        events: list[Event] = []
        if self._reasoning_id is None:
            self._reasoning_id = new_id("msg")
            events.append(
                ReasoningStarted(
                    run_id=self._run_id, path=self._path, message_id=self._reasoning_id
                )
            )
        events.append(
            ReasoningDelta(
                run_id=self._run_id,
                path=self._path,
                message_id=self._reasoning_id,
                text=delta.text,
            )
        )
        return events

    def _end_reasoning(self) -> list[Event]:
        if self._reasoning_id is None:
            return []
        completed = ReasoningCompleted(
            run_id=self._run_id,
            path=self._path,
            message_id=self._reasoning_id,
            text="".join(self._reasoning),
        )
        self._reasoning_id, self._reasoning = None, []
        return [completed]

    def _take_fragment(self, delta: ToolCallFragment) -> list[Event]:
        index = delta.index
        if index in self._ready:
            if delta.arguments.strip():
                raise ModelSpokeNonsense("the model went on with a tool call that was complete")
            return []
        events = self._end_reasoning()
        self.answer.add(delta)
        for other, call in self.answer.calls.items():
            if other != index and call.whole:
                events += self._end_call(other, call)
        call = self.answer.calls[index]
        if index in self._call_ids:
            fragment = delta.arguments
        elif call.name:
            events.append(self._begin_call(index, call))
            fragment = call.arguments
        else:
            fragment = ""
        if fragment:
            events.append(
                ToolCallDelta(
                    run_id=self._run_id,
                    path=self._path,
                    call_id=self._call_ids[index],
                    arguments=fragment,
                )
            )
        return events

    def _begin_call(self, index: int, call: CallDraft) -> ToolCallStarted:
        call_id = call.id
        if not call_id or call_id in self._taken_ids or len(self._path) > 1:
            call_id = new_id("call")
        self._taken_ids.add(call_id)
        self._call_ids[index] = call_id
        return ToolCallStarted(
            run_id=self._run_id,
            path=self._path,
            call_id=call_id,
            name=call.name,
            message_id=self._message_id,
            index=index,
        )

    def _end_call(self, index: int, call: CallDraft) -> list[Event]:
        if index in self._ready or index not in self._call_ids:
            return []
        self._ready.add(index)
        return [
            ToolCallReady(
                run_id=self._run_id,
                path=self._path,
                call_id=self._call_ids[index],
                name=call.name,
                arguments=call.arguments,
            )
        ]
