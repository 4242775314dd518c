"""What an input is to a conversation: its message, what it drops, and the run that it starts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.commands import Policy, Send
from gateway.errors import CommandMalformed
from gateway.sessions.snapshot import MessageView
from gateway.sessions.state import RunState, SessionState, unanswered
from runtime.events import Event, HistoryRolledBack, InputAccepted, InputQueued, RunStarted
from runtime.messages import Message

__all__ = ["Input", "KindOf", "accepted_as", "input_of", "kept_by", "queued_as", "started_as"]

KindOf = Callable[[str], Literal["agent", "graph"]]
"""Tells what the runnable of a name is."""


@dataclass(frozen=True, slots=True)
class Input:
    """An input and the run that will answer it."""

    run: RunState
    message: Message
    command_id: str
    policy: Policy


def started_as(
    run_id: str, name: str, kind: str, options: dict[str, Any] | None, parent: str | None = None
) -> RunStarted:
    """Return the event that starts a run of an agent or a graph."""
    return RunStarted(
        run_id=run_id,
        agent=name if kind == "agent" else None,
        graph=name if kind == "graph" else None,
        options=options,
        parent_run_id=parent,
        path=(name,),
    )


def queued_as(given: Input, position: int) -> InputQueued:
    """Return the event by which an input waits for its turn; `position` counts from 1."""
    run = given.run
    return InputQueued(
        run_id=run.run_id,
        command_id=given.command_id,
        message=given.message,
        position=position,
        agent=run.agent,
        options=dict(run.options) or None,
        timeout=run.timeout,
        instructions=run.instructions,
        tools=run.tools or None,
        cancel_after=run.cancel_after,
        rewind_to=run.rewind_to,
        policy="steer" if given.policy == "steer" else "enqueue",
    )


def accepted_as(state: SessionState, given: Input, kind_of: KindOf) -> tuple[Event, ...]:
    """Return the events by which an input becomes part of the conversation, and its run starts."""
    run = given.run
    options = dict(run.options) or None
    accepted = InputAccepted(
        run_id=run.run_id,
        message=given.message,
        command_id=given.command_id,
        policy=given.policy,
        agent=run.agent,
        options=options,
        timeout=run.timeout,
        instructions=run.instructions,
        tools=run.tools or None,
        cancel_after=run.cancel_after,
    )
    begun = started_as(run.run_id, run.agent, kind_of(run.agent), options)
    dropped = tuple(m.message_id for m in _dropped_by(state, run.rewind_to))
    if not dropped:
        return accepted, begun
    return HistoryRolledBack(run_id=run.run_id, message_ids=dropped), accepted, begun


def _dropped_by(state: SessionState, rewind_to: str | None) -> Sequence[MessageView]:
    """Return the messages that do not count any more if the conversation goes back to one."""
    return () if rewind_to is None else state.messages[len(state.before(rewind_to)) :]


def kept_by(state: SessionState, command: Send) -> Sequence[MessageView]:
    """Return the messages that still count when an input comes: none of those that it drops."""
    kept = state.messages if command.rewind_to is None else state.before(command.rewind_to)
    run = state.current_run
    return kept if run is None or command.policy != "rollback" else kept[: run.turn_at]


def input_of(state: SessionState, command: Send, new_id: str) -> Message:
    """Return the message of a command.

    Raises:
        CommandMalformed: If the session has a message of that id already, or none to go back to,
            or no tool call that wants this result.
    """
    waiting = {item.message.message_id for item in state.queue}
    known: set[str | None] = {message.message_id for message in state.messages}
    if command.policy not in {"interrupt", "rollback"}:  # those are not behind what waits
        known |= waiting
    rewind_to = command.rewind_to
    if rewind_to is not None and rewind_to not in known:
        raise CommandMalformed(f"`rewind_to`: the session has no message {rewind_to!r}")
    kept = kept_by(state, command)
    taken = {message.message_id for message in kept} | waiting | state.open.messages.keys()
    if command.message_id in taken:
        raise CommandMalformed(
            f"`message_id`: the session has a message {command.message_id!r} already"
        )
    message_id = command.message_id or new_id
    if command.result is None:
        return Message(role="user", content=command.message_text, message_id=message_id)
    call_id = command.result.call_id
    if state.current is not None and rewind_to is None:
        raise CommandMalformed(
            "`result`: a run is active; what its tool calls wait for is answered by `continue`"
        )
    if call_id not in unanswered(kept):
        raise CommandMalformed(
            f"`result`: the conversation does not end with an unanswered tool call {call_id!r}"
        )
    return Message(
        role="tool", content=command.result.content, message_id=message_id, tool_call_id=call_id
    )
