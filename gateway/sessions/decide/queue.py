"""What waits: clients change it, and the active run takes from it what is said to it. Pure."""

from __future__ import annotations

from gateway.commands import EditQueue
from gateway.errors import NotQueued, RunUnknown
from gateway.sessions.decide.decided import Decided, check_open
from gateway.sessions.state import SessionState
from runtime.events import Event, InputDequeued, InputReordered, InputSteered, RunCancelled

__all__ = ["edit_queue", "steer"]


def edit_queue(state: SessionState, command: EditQueue) -> Decided:
    """Drop inputs that wait, and put others first.

    Either all of it is done or nothing; what changes nothing is no error.

    Raises:
        NotQueued: If a run that is named waits no more.
        RunUnknown: If the session never had it.
        SessionClosed: If the session is closed.
    """
    check_open(state)
    commands = {item.run_id: item.command_id for item in state.queue}
    for run_id in (*command.drop, *command.order):
        if run_id not in commands:
            raise NotQueued(run_id) if state.had_run(run_id) else RunUnknown(run_id)
    events: list[Event] = []
    for run_id in command.drop:
        events += (
            InputDequeued(run_id=run_id, command_id=commands[run_id], reason="edited"),
            RunCancelled(run_id=run_id, reason="cancel", command_id=command.id),
        )
    stays = tuple(run_id for run_id in commands if run_id not in command.drop)
    order = (*command.order, *(run_id for run_id in stays if run_id not in command.order))
    if order != stays:
        events.append(InputReordered(run_ids=order, command_id=command.id))
    return Decided(tuple(events))


def steer(state: SessionState) -> Decided:
    """Hand to the running agent what waits for it; nothing, if it is to stop after its step."""
    run = state.current_run
    if run is None or run.stopping is not None:
        return Decided()
    events: list[Event] = []
    for item in state.queue:
        if item.policy == "steer":
            events += (
                InputDequeued(run_id=item.run_id, command_id=item.command_id, reason="steered"),
                InputSteered(
                    run_id=run.run_id,
                    path=(run.agent,),  # the journal of the run's own agent has it
                    message=item.message,
                    command_id=item.command_id,
                ),
            )
    return Decided(tuple(events), run_id=run.run_id)
