"""What models say: text, reasoning, tool calls, and what becomes of it when it is said anew. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ag_ui.core import (
    ActivitySnapshotEvent,
    BaseEvent,
    ReasoningEndEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallStartEvent,
)

from gateway.codecs.agui.state import AguiState, Said
from gateway.codecs.agui.wire import ours
from runtime.events import (
    InputSteered,
    MessageCompleted,
    MessageStarted,
    ModelCompleted,
    ReasoningCompleted,
    ReasoningStarted,
    ToolCallReady,
    ToolCallStarted,
)
from runtime.messages import ToolCall, Usage

__all__ = [
    "begin_call",
    "begin_message",
    "begin_reasoning",
    "end_call",
    "end_message",
    "end_reasoning",
    "finish_model_call",
    "owner_of",
    "steer",
    "supersede",
]

Told = tuple[AguiState, list[BaseEvent]]


def owner_of(state: AguiState, path: tuple[str, ...]) -> str | None:
    """Return the innermost invocation that a path is in; None if it is the run's own agent."""
    inside = [one for one in state.invocations if path[: len(one.path)] == one.path]
    return max(inside, key=lambda one: len(one.path)).subagent_run_id if inside else None


def _without(items: tuple[str, ...], item: str) -> tuple[str, ...]:
    return tuple(other for other in items if other != item)


def _note(state: AguiState, message_id: str | None, path: tuple[str, ...]) -> AguiState:
    """Remember a message that may yet be superseded."""
    if message_id is None or any(said.message_id == message_id for said in state.said):
        return state
    return replace(state, said=(*state.said, Said(message_id, path)))


def begin_message(state: AguiState, event: MessageStarted) -> Told:
    """Open a text message."""
    if event.message_id in state.messages:
        return state, []
    told = TextMessageStartEvent(
        message_id=event.message_id,
        role="assistant",
        name=event.agent,
        subagent_run_id=owner_of(state, event.path),
    )
    state = replace(state, messages=(*state.messages, event.message_id))
    return _note(state, event.message_id, event.path), [told]


def end_message(state: AguiState, event: MessageCompleted) -> Told:
    """Close a text message; one that is superseded is taken off the screen."""
    if event.message_id not in state.messages:
        return state, []
    state = replace(state, messages=_without(state.messages, event.message_id))
    told: list[BaseEvent] = [
        TextMessageEndEvent(
            message_id=event.message_id,
            metadata=ours(incomplete=event.incomplete, superseded=event.superseded),
        )
    ]
    if event.superseded:
        state, replaced = supersede(state, lambda said: said.message_id == event.message_id)
        told += replaced
    return state, told


def supersede(state: AguiState, concerns: Callable[[Said], bool]) -> Told:
    """Take messages off the screen that will be said anew.

    AG-UI has no word for it, but an activity takes the place of the message that has its id, and
    clients show no activity of a type that they do not know.
    """
    gone = [said for said in state.said if concerns(said)]
    told: list[BaseEvent] = [
        ActivitySnapshotEvent(
            message_id=said.message_id, activity_type="superseded", content={}, replace=True
        )
        for said in gone
    ]
    return replace(state, said=tuple(said for said in state.said if said not in gone)), told


def steer(state: AguiState, event: InputSteered, message_id: str) -> Told:
    """Show what a user said in the middle of the run."""
    return state, [
        TextMessageStartEvent(message_id=message_id, role="user"),
        TextMessageContentEvent(message_id=message_id, delta=event.message.content),
        TextMessageEndEvent(message_id=message_id),
    ]


def begin_reasoning(state: AguiState, event: ReasoningStarted) -> Told:
    """Open a piece of reasoning."""
    if event.message_id in state.reasoning:
        return state, []
    owner = owner_of(state, event.path)
    return replace(state, reasoning=(*state.reasoning, event.message_id)), [
        ReasoningStartEvent(message_id=event.message_id, subagent_run_id=owner),
        ReasoningMessageStartEvent(
            message_id=event.message_id, role="reasoning", subagent_run_id=owner
        ),
    ]


def end_reasoning(state: AguiState, event: ReasoningCompleted) -> Told:
    """Close a piece of reasoning."""
    if event.message_id not in state.reasoning:
        return state, []
    return replace(state, reasoning=_without(state.reasoning, event.message_id)), [
        ReasoningMessageEndEvent(message_id=event.message_id),
        ReasoningEndEvent(message_id=event.message_id),
    ]


def begin_call(state: AguiState, event: ToolCallStarted) -> Told:
    """Open a tool call."""
    if event.call_id in state.calls:
        return state, []
    told = ToolCallStartEvent(
        tool_call_id=event.call_id,
        tool_call_name=event.name,
        parent_message_id=event.message_id,
        subagent_run_id=owner_of(state, event.path),
    )
    state = replace(
        state,
        calls=(*state.calls, event.call_id),
        told_calls=(*state.told_calls, event.call_id),
    )
    return _note(state, event.message_id, event.path), [told]


def end_call(state: AguiState, event: ToolCallReady) -> Told:
    """Close a tool call: its arguments are whole."""
    if event.call_id not in state.calls:
        return state, []
    state = replace(state, calls=_without(state.calls, event.call_id))
    return state, [ToolCallEndEvent(tool_call_id=event.call_id)]


def _whole_call(call: ToolCall, parent: str | None, owner: str | None) -> Sequence[BaseEvent]:
    return (
        ToolCallStartEvent(
            tool_call_id=call.id,
            tool_call_name=call.name,
            parent_message_id=parent,
            subagent_run_id=owner,
        ),
        ToolCallArgsEvent(tool_call_id=call.id, delta=call.arguments),
        ToolCallEndEvent(tool_call_id=call.id),
    )


def finish_model_call(state: AguiState, event: ModelCompleted) -> Told:
    """Count its tokens, and show the tool calls that were not written piece by piece."""
    told: list[BaseEvent] = []
    for call in event.tool_calls:
        if call.id not in state.told_calls:
            told += _whole_call(call, event.message_id, owner_of(state, event.path))
            state = replace(state, told_calls=(*state.told_calls, call.id))
            state = _note(state, event.message_id, event.path)
    if event.usage is not None:
        spent = dict(state.usage)
        spent[event.model] = spent.get(event.model, Usage()) + event.usage
        state = replace(state, usage=tuple(spent.items()))
    said = tuple(
        replace(one, finished=True) if one.message_id == event.message_id else one
        for one in state.said
    )
    return replace(state, said=said), told
