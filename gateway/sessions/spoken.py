"""The fold, of what models say and tools do: the messages of a conversation. Pure."""

from __future__ import annotations

from gateway.sessions.snapshot import MessageView, ToolCallView
from gateway.sessions.state import SessionState, nested
from runtime.events import (
    MessageCompleted,
    ModelCompleted,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.history import UNKNOWN_OUTCOME
from runtime.messages import Usage

__all__ = ["hear_speech", "note_tool"]


def hear_speech(state: SessionState, event: MessageCompleted | ModelCompleted) -> None:
    """Take in what a model said, and what it asked for."""
    run = state.runs.get(event.run_id)
    if run is None:
        return
    if isinstance(event, MessageCompleted):
        said = state.open.messages.get(event.message_id)
        opened = said.opened if said else None
        below = nested(event.path)
        own = below is None and run.kind == "graph"
        state.messages.append(
            MessageView(
                message_id=event.message_id,
                role="assistant",
                text=event.text,
                run_id=event.run_id,
                agent=(opened.agent if opened else None) or (run.agent if own else None),
                turn=(opened.turn if opened else None) or (None if below else run.turns + 1),
                incomplete=event.incomplete,
                superseded=event.superseded,
                path=below,
            )
        )
        return
    if nested(event.path) is None:
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
            path=nested(event.path),
        )
    )
    return state.messages[-1]


def note_tool(
    state: SessionState,
    event: ToolStarted | ToolProgress | ToolCompleted | ToolFailedEvent | ToolUnknownOutcome,
) -> None:
    """Take in how a tool call stands."""
    call = state.call(event.call_id, event.path)
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
