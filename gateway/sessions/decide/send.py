"""A new input: its run starts, or waits in the queue, or another one gives way. Pure."""

from __future__ import annotations

from dataclasses import replace

from gateway.commands import Send
from gateway.errors import RunActive
from gateway.sessions.decide.decided import Decided, NewIds, check_open
from gateway.sessions.decide.ends import after, cut_off, end
from gateway.sessions.inputs import (
    Input,
    KindOf,
    accepted_as,
    input_of,
    kept_by,
    queued_as,
)
from gateway.sessions.state import RunState, SessionState

__all__ = ["send"]


def send(state: SessionState, command: Send, ids: NewIds, kind_of: KindOf) -> Decided:
    """Start a run for a new input, put it into the queue, or let it take the place of the run.

    An input that goes back in the conversation ends a run that waits for a human.

    Raises:
        CommandMalformed: If the session has a message of that id already, or none to go back to,
            or no tool call that wants this result.
        RunActive: If a run is active and the policy is to be refused then.
        SessionClosed: If the session is closed.
    """
    check_open(state)
    run = RunState(
        run_id=ids.run_id,
        agent=command.agent or state.agent,
        options=command.options,
        timeout=command.timeout,
        instructions=command.instructions,
        tools=command.tools,
        cancel_after=command.cancel_after,
        rewind_to=command.rewind_to,
    )
    message = input_of(state, command, ids.message_id)
    given = Input(run, message, command.id, command.policy)
    if state.current is None:
        events = accepted_as(state, given, kind_of)
        return Decided(events, run_id=run.run_id, begins=run.run_id)
    if command.policy in {"interrupt", "rollback"}:
        return _instead(state, state.current, command, given, kind_of)
    gives_way = command.rewind_to is not None and state.status == "interrupted"
    if command.policy == "reject" and (state.queue or not gives_way):
        raise RunActive(state.current)
    if not gives_way:
        return Decided((queued_as(given, len(state.queue) + 1),), run_id=run.run_id)
    if not state.queue:
        return _instead(state, state.current, command, given, kind_of)
    cut = cut_off(state, state.current, "superseded", command.id)
    over = end(state, cut, state.current, kind_of)  # others wait already, and come first
    events = (*over.events, queued_as(given, len(state.queue)))
    return replace(over, events=events, run_id=run.run_id)


def _instead(
    state: SessionState, current: str, command: Send, given: Input, kind_of: KindOf
) -> Decided:
    """End the current run and start this one in its place; what waits goes on waiting."""
    cut = cut_off(state, current, "superseded", command.id)
    run_id = given.run.run_id
    if command.policy == "rollback" or command.rewind_to is not None:
        kept = len(kept_by(state, command))
        state = after(state, cut)  # what was cut short is dropped, too
        first = next((message.message_id for message in state.messages[kept:]), None)
        given = replace(given, run=given.run.model_copy(update={"rewind_to": first}))
    accepted = accepted_as(state, given, kind_of)
    return Decided((*cut, *accepted), run_id=run_id, begins=run_id, ends=current)
