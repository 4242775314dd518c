"""A new input: its run starts, or waits in the queue, or another one gives way. Pure."""

from __future__ import annotations

from dataclasses import replace

from gateway.commands import Send
from gateway.errors import RunActive
from gateway.sessions.decide.decided import Decided, NewIds, check_open
from gateway.sessions.decide.ends import end
from gateway.sessions.inputs import Input, KindOf, accepted_as, input_of, queued_as
from gateway.sessions.state import RunState, SessionState
from runtime.events import RunCancelled
from runtime.failure import CANCELLED

__all__ = ["send"]


def send(state: SessionState, command: Send, ids: NewIds, kind_of: KindOf) -> Decided:
    """Start a run for a new input, or put it into the queue.

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
        rewind_to=command.rewind_to,
    )
    message = input_of(state, command, ids.message_id)
    given = Input(run, message, command.id, command.policy)
    if state.current is None:
        events = accepted_as(state, given, kind_of)
        return Decided(events, run_id=run.run_id, begins=run.run_id)
    gives_way = command.rewind_to is not None and state.status == "interrupted"
    if command.policy == "reject" and (state.queue or not gives_way):
        raise RunActive(state.current)
    if not gives_way:
        return Decided((queued_as(given, len(state.queue) + 1),), run_id=run.run_id)
    cancelled = RunCancelled(run_id=state.current, reason="superseded", command_id=command.id)
    over = end(state, (*state.open.closing(CANCELLED), cancelled), state.current, kind_of)
    if over.begins is not None:  # others wait already, and come first
        events = (*over.events, queued_as(given, len(state.queue)))
        return replace(over, events=events, run_id=run.run_id)
    events = (*over.events, *accepted_as(state, given, kind_of))
    return replace(over, events=events, run_id=run.run_id, begins=run.run_id)
