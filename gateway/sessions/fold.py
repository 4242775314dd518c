"""The fold: what each event makes of a session's state. Pure.

Live, it is fed each committed event; after a restart, the stored ones. Both give the same state,
which is what the rule [snapshot.fold] promises.
"""

from __future__ import annotations

from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.sessions.snapshot import ApprovalView, MessageView, QueueView, ToolCallView
from gateway.sessions.state import Resolution, RunState, SessionState
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    Event,
    InputAccepted,
    InputDequeued,
    InputQueued,
    MessageCompleted,
    ModelCompleted,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStarted,
    SessionClosed,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.history import UNKNOWN_OUTCOME
from runtime.messages import Usage

__all__ = ["apply", "fold"]


def fold(state: SessionState, entry: Entry, event: Event | None) -> None:
    """Take the next entry into the state.

    Args:
        state: Changed in place.
        entry: The entry right after `state.position`.
        event: Its event; None if this version does not know its type, and then only the position
            moves.
    """
    if event is not None:
        apply(state, event)
    place(state, entry.position)


def place(state: SessionState, position: Position) -> None:
    """Say up to where the state is folded."""
    state.epoch, state.seq, state.tag = position.epoch, position.seq, position.tag


def apply(state: SessionState, event: Event) -> None:
    """Do what the event means to the state, its position apart."""
    match event:
        case SessionClosed():
            state.closed = True
        case InputAccepted() | InputQueued() | InputDequeued():
            _input(state, event)
        case RunStarted() | RunAttemptStarted() | RunResumed():
            _begin(state, event)
        case RunCompleted() | RunFailed() | RunCancelled() | RunInterrupted():
            _end(state, event)
        case MessageCompleted() | ModelCompleted():
            _speech(state, event)
        case ToolStarted() | ToolProgress() | ToolCompleted() | ToolFailedEvent():
            _tool(state, event)
        case ToolUnknownOutcome():
            _tool(state, event)
        case ApprovalRequested() | ApprovalResolved():
            _approval(state, event)
        case _:
            pass
    state.open.note(event)


def _input(state: SessionState, event: InputAccepted | InputQueued | InputDequeued) -> None:
    match event:
        case InputAccepted():
            state.messages.append(
                MessageView(
                    message_id=event.message.message_id or "",
                    role="user",
                    text=event.message.content,
                    run_id=event.run_id,
                )
            )
            state.runs[event.run_id] = _run_of(state, event)
        case InputQueued():
            state.queue.append(
                QueueView(
                    run_id=event.run_id,
                    command_id=event.command_id,
                    message=event.message,
                    position=len(state.queue) + 1,
                )
            )
            state.queued_runs[event.run_id] = _run_of(state, event).model_copy(
                update={"status": "queued"}
            )
        case InputDequeued():
            waiting = [item for item in state.queue if item.run_id != event.run_id]
            state.queue = [
                item.model_copy(update={"position": place})
                for place, item in enumerate(waiting, start=1)
            ]
            state.queued_runs.pop(event.run_id, None)


def _run_of(state: SessionState, event: InputAccepted | InputQueued) -> RunState:
    return RunState(
        run_id=event.run_id,
        agent=event.agent or state.agent,
        options=event.options or {},
        timeout=event.timeout,
    )


def _begin(state: SessionState, event: RunStarted | RunAttemptStarted | RunResumed) -> None:
    run = state.runs.get(event.run_id)
    if run is None:  # one that goes on from another has no input of its own
        run = state.runs[event.run_id] = RunState(run_id=event.run_id, agent=state.agent)
    match event:
        case RunStarted():
            run.agent = event.agent or event.graph or run.agent
            run.options = event.options or run.options
            run.parent_run_id = event.parent_run_id
            run.attempt = event.attempt
            if event.parent_run_id is not None:
                for message in state.messages_of(event.parent_run_id):
                    if message.incomplete:
                        message.superseded = True
        case RunAttemptStarted():
            run.attempt = event.attempt
            for message in state.messages_of(event.run_id):
                if message.turn is not None and message.turn > event.from_step:
                    message.superseded = True
        case RunResumed():
            pass
    run.status = "running"
    state.current = event.run_id


def _end(
    state: SessionState, event: RunCompleted | RunFailed | RunCancelled | RunInterrupted
) -> None:
    run = state.runs.get(event.run_id)
    if run is None:  # it was cancelled while it waited in the queue
        return
    match event:
        case RunInterrupted():
            run.status = "interrupted"
            return
        case RunCompleted():
            run.status = "completed"
        case RunFailed():
            run.status = "failed"
            run.error = event.error
        case RunCancelled():
            run.status = "cancelled"
    state.last = event.run_id
    state.runs = {event.run_id: run}  # earlier runs are over for good
    if state.current == event.run_id:
        state.current = None
        state.open_anew()


def _speech(state: SessionState, event: MessageCompleted | ModelCompleted) -> None:
    run = state.runs.get(event.run_id)
    if run is None:
        return
    if isinstance(event, MessageCompleted):
        opened = state.open.messages.get(event.message_id)
        turn = getattr(opened.opened, "turn", None) if opened else None
        state.messages.append(
            MessageView(
                message_id=event.message_id,
                role="assistant",
                text=event.text,
                run_id=event.run_id,
                agent=getattr(opened.opened, "agent", None) if opened else None,
                turn=turn if turn is not None else run.turns + 1,
                incomplete=event.incomplete,
                superseded=event.superseded,
            )
        )
        return
    run.turns = event.turn
    if event.usage is not None:
        run.usage += event.usage
        state.usage = (state.usage or Usage()) + event.usage
    if event.tool_calls:
        _said_in(state, event).tool_calls = [
            ToolCallView(call_id=call.id, name=call.name, arguments=call.arguments)
            for call in event.tool_calls
        ]


def _said_in(state: SessionState, event: ModelCompleted) -> MessageView:
    """Return the message that a model step's tool calls belong to; a silent step gets one."""
    for message in reversed(state.messages_of(event.run_id)):
        if message.message_id == event.message_id:
            return message
    state.messages.append(
        MessageView(
            message_id=event.message_id or f"{event.run_id}:{event.turn}",
            role="assistant",
            text=event.content or "",
            run_id=event.run_id,
            turn=event.turn,
        )
    )
    return state.messages[-1]


def _tool(
    state: SessionState,
    event: ToolStarted | ToolProgress | ToolCompleted | ToolFailedEvent | ToolUnknownOutcome,
) -> None:
    call = state.call(event.call_id)
    if call is None:
        return
    match event:
        case ToolStarted():
            call.status = "running"
            call.arguments = event.arguments
        case ToolProgress():
            call.progress = event.data
        case ToolCompleted():
            call.status = "completed"
            call.result = event.result
        case ToolFailedEvent():
            if not event.will_retry:
                call.status = "failed"
                call.error = event.error
        case ToolUnknownOutcome():
            call.status = "unknown"
            call.error = UNKNOWN_OUTCOME


def _approval(state: SessionState, event: ApprovalRequested | ApprovalResolved) -> None:
    if isinstance(event, ApprovalRequested):
        state.approvals[event.approval_id] = ApprovalView(
            **event.model_dump(exclude={"type", "path"}, exclude_none=True)
        )
        return
    asked = state.approvals.pop(event.approval_id, None)
    state.resolved[event.approval_id] = Resolution(
        run_id=event.run_id,
        call_id=asked.call_id if asked else None,
        decision=event.decision,
        by=event.by,
        message=event.message,
        arguments=event.arguments,
    )
