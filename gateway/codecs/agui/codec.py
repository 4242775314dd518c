"""The AG-UI codec: events of a run to the events of AG-UI. Pure.

What AG-UI's clients insist on (`@ag-ui/client` 0.0.59 and 1.0.0): a stream begins with RUN_STARTED
or RUN_ERROR; what is opened is opened once and closed before RUN_FINISHED; nothing follows an end
but a new RUN_STARTED; no field is null. Several messages may be open at once, if their ids differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ag_ui.core import BaseEvent, RunErrorEvent

from gateway.codecs.agui import speech, work
from gateway.codecs.agui.ending import Names, interrupt_of
from gateway.codecs.agui.graph_state import show
from gateway.codecs.agui.speech import Told, owner_of
from gateway.codecs.agui.state import AguiState
from gateway.codecs.agui.wire import activity, custom, delta_frame, frames_of
from gateway.codecs.codec import Frame
from gateway.log.entry import Entry
from runtime.events import (
    AgentCompleted,
    AgentHandoff,
    AgentStarted,
    ApprovalRequested,
    ApprovalResolved,
    CheckpointSaved,
    Custom,
    EdgeTaken,
    Event,
    GuardrailTripped,
    HistoryRolledBack,
    InputQueued,
    InputSteered,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ModelRetrying,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStopRequested,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolUnknownOutcome,
)

__all__ = ["AguiCodec"]

_SHUTDOWN = "the server is stopping; the run goes on, connect to see it"
_CUT = "the stream was cut; the run goes on, connect to see it"

Teller = Callable[["AguiCodec", AguiState, Any, Entry], Told]


@dataclass(frozen=True, slots=True)
class AguiCodec:
    """Says a run in AG-UI's words.

    Attributes:
        names: What the client calls the run, and which protocol it speaks.
        answered: The tool calls whose results the client has already: it said them itself.
    """

    names: Names
    answered: frozenset[str] = frozenset()

    def begin(self) -> AguiState:
        """Return the state before the first event."""
        return AguiState()

    def encode(
        self, state: AguiState, event: Event, entry: Entry
    ) -> tuple[AguiState, Sequence[Frame]]:
        """Say an event."""
        match event:  # by far the most events
            case MessageDelta(message_id=id_, text=piece):
                known, kind, name = state.messages, "TEXT_MESSAGE_CONTENT", "messageId"
            case ReasoningDelta(message_id=id_, text=piece):
                known, kind, name = state.reasoning, "REASONING_MESSAGE_CONTENT", "messageId"
            case ToolCallDelta(call_id=id_, arguments=piece):
                known, kind, name = state.calls, "TOOL_CALL_ARGS", "toolCallId"
            case _:
                return self._encode(state, event, entry)
        return state, (delta_frame(kind, name, id_, piece),) if id_ in known else ()

    def _encode(
        self, state: AguiState, event: Event, entry: Entry
    ) -> tuple[AguiState, Sequence[Frame]]:
        told: list[BaseEvent] = []
        begins = state.phase == "before"
        if state.phase == "over":
            # The run had paused. Its own segment of the log begins with one of these.
            begins = isinstance(event, RunResumed | RunCancelled | RunFailed | RunCompleted)
            if not begins:
                return state, ()
        if begins:
            told.append(self.names.started())
            state = _fresh(state)
        teller = _TELLERS.get(type(event))
        if teller is not None:
            state, said = teller(self, state, event, entry)
            told += said
        return state, frames_of(told, entry.at)

    def cut(self, state: AguiState, reason: str) -> Sequence[Frame]:
        """Say that this server cannot go on; a stream that just ends looks like success."""
        if state.phase == "over":
            return ()
        text = _SHUTDOWN if reason == "shutdown" else _CUT
        return frames_of([RunErrorEvent(message=text, code=reason)])


def _fresh(state: AguiState) -> AguiState:
    """Return the state of a run that begins: for a client nothing is open, as after any end."""
    return AguiState(
        phase="on",
        told_calls=state.told_calls,
        activities=state.activities,
        graph=state.graph,
        base=state.base,
    )


# --- ends --------------------------------------------------------------------------------------


def _completed(codec: AguiCodec, state: AguiState, event: RunCompleted, entry: Entry) -> Told:
    told: list[BaseEvent] = []
    if event.state is not None:
        state, told = show(state, event.state)
    spent = ((None, event.usage),) if state.joined else state.usage
    return _over(state), [*told, codec.names.completed(event, spent)]


def _failed(codec: AguiCodec, state: AguiState, event: RunFailed, entry: Entry) -> Told:
    return _over(state), [codec.names.failed(event, _spent(state))]


def _cancelled(codec: AguiCodec, state: AguiState, event: RunCancelled, entry: Entry) -> Told:
    return _over(state), [codec.names.stopped(event, _spent(state))]


def _interrupted(codec: AguiCodec, state: AguiState, event: RunInterrupted, entry: Entry) -> Told:
    told: list[BaseEvent] = []
    if event.state is not None:
        state, told = show(state, event.state)
    waits = [asked for asked in state.approvals if asked.approval_id in event.pending]
    interrupts = [
        interrupt_of(asked, owner_of(state, asked.path)) for asked in waits if asked.wants is None
    ]
    calls = [asked.call_id for asked in waits if asked.wants is not None and asked.call_id]
    state, closed = work.close_agents(state)
    return _over(state), [*told, *closed, codec.names.paused(interrupts, calls, _spent(state))]


def _over(state: AguiState) -> AguiState:
    return replace(state, phase="over")


def _spent(state: AguiState) -> Any:
    return () if state.joined else state.usage


# --- what has no word of its own ---------------------------------------------------------------


def _plain(event: Event, *names: str) -> dict[str, Any]:
    """Return fields of an event as JSON data, those that are None left out."""
    data = event.model_dump(mode="json", include=set(names), exclude_none=True)
    return {_camel(name): value for name, value in data.items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _custom(*names: str) -> Teller:
    """Return what says an event as CUSTOM, under its own type, with these of its fields."""

    def tell(codec: AguiCodec, state: AguiState, event: Any, entry: Entry) -> Told:
        return state, [custom(event.type, _plain(event, *names))]

    return tell


def _said_by_developer(codec: AguiCodec, state: AguiState, event: Custom, entry: Entry) -> Told:
    return state, [custom(event.name, event.payload)]


def _attempt(codec: AguiCodec, state: AguiState, event: RunAttemptStarted, entry: Entry) -> Told:
    """A dead process is followed by another one: what it had not finished is said anew."""
    state, told = speech.supersede(state, lambda said: not said.finished)
    return state, [custom(event.type, _plain(event, "attempt", "reason")), *told]


def _handoff(codec: AguiCodec, state: AguiState, event: AgentHandoff, entry: Entry) -> Told:
    content = _plain(event, "source", "target", "denied")
    owner = owner_of(state, event.path)
    return activity(state, _activity_id(event.run_id, entry), "handoff", content, owner=owner)


def _retrying(codec: AguiCodec, state: AguiState, event: ModelRetrying, entry: Entry) -> Told:
    error = {"code": event.error.code, "message": event.error.message}
    content = {"attempt": event.attempt, "delayMs": event.delay_ms, "error": error}
    owner = owner_of(state, event.path)
    return activity(state, _activity_id(event.run_id, entry), "model_retry", content, owner=owner)


def _activity_id(run_id: str, entry: Entry) -> str:
    return f"{run_id}-{entry.seq}"


def _asks(codec: AguiCodec, state: AguiState, event: ApprovalRequested, entry: Entry) -> Told:
    state = replace(state, approvals=(*state.approvals, event))
    if event.wants is not None:
        return state, []
    interrupt = interrupt_of(event, owner_of(state, event.path))
    return state, [custom(event.type, interrupt.model_dump(mode="json", by_alias=True))]


def _answered(codec: AguiCodec, state: AguiState, event: ApprovalResolved, entry: Entry) -> Told:
    left = tuple(a for a in state.approvals if a.approval_id != event.approval_id)
    value = _plain(event, "approval_id", "decision", "by", "message", "arguments")
    return replace(state, approvals=left), [custom(event.type, value)]


def _of(tell: Callable[[AguiState, Any], Told]) -> Teller:
    return lambda codec, state, event, entry: tell(state, event)


def _agent(tell: Callable[[AguiState, Any], Told]) -> Teller:
    """Tell it to clients that know subagents: those of 1.0."""
    return lambda codec, state, event, entry: (
        tell(state, event) if codec.names.modern else (state, [])
    )


def _result(codec: AguiCodec, state: AguiState, event: Any, entry: Entry) -> Told:
    return work.result(state, event, codec.answered)


def _failed_tool(codec: AguiCodec, state: AguiState, event: ToolFailedEvent, entry: Entry) -> Told:
    return (state, []) if event.will_retry else _result(codec, state, event, entry)


_TELLERS: Mapping[type[Any], Teller] = {
    RunCompleted: _completed,
    RunFailed: _failed,
    RunCancelled: _cancelled,
    RunInterrupted: _interrupted,
    RunAttemptStarted: _attempt,
    RunStopRequested: _custom("command_id"),
    InputQueued: _custom("position"),
    InputSteered: lambda codec, state, event, entry: speech.steer(
        state, event, event.message.message_id or _activity_id(event.run_id, entry)
    ),
    HistoryRolledBack: _custom("message_ids"),
    MessageStarted: _of(speech.begin_message),
    MessageCompleted: _of(speech.end_message),
    ReasoningStarted: _of(speech.begin_reasoning),
    ReasoningCompleted: _of(speech.end_reasoning),
    ToolCallStarted: _of(speech.begin_call),
    ToolCallReady: _of(speech.end_call),
    ModelCompleted: _of(speech.finish_model_call),
    ModelRetrying: _retrying,
    AgentHandoff: _handoff,
    AgentStarted: _agent(work.begin_agent),
    AgentCompleted: _agent(work.end_agent),
    NodeStarted: _of(work.begin_node),
    NodeUpdate: lambda codec, state, event, entry: work.update_node(state, event, event.run_id),
    NodeCompleted: _of(work.end_node),
    NodeFailed: lambda codec, state, event, entry: work.fail_node(
        state, event, _activity_id(event.run_id, entry)
    ),
    EdgeTaken: _custom("source", "target"),
    ToolProgress: _of(work.progress),
    ToolCompleted: _result,
    ToolFailedEvent: _failed_tool,
    ToolUnknownOutcome: _result,
    ApprovalRequested: _asks,
    ApprovalResolved: _answered,
    GuardrailTripped: _custom("name", "stage", "info"),
    CheckpointSaved: _custom("checkpoint_id", "node", "superstep"),
    Custom: _said_by_developer,
}
"""What says each type of event; those that are not here are not said, knowingly: what they tell is
in others, or is no concern of a client."""
