"""The fold: what each event makes of a session's state. Pure.

Live, it is fed each committed event; after a restart, the stored ones. Both give the same state,
which is what the rule [snapshot.fold] promises.

A run's own agent speaks at the run's own path, which has one part. Whatever has a longer path was
said below it: by the nodes of a graph and the agents in them, or by an agent that was called as a
tool. It is shown, and its tokens count; but turns, and with them what a take-over does anew, are
those of the run's own agent.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.sessions import nodes
from gateway.sessions.deltas import is_delta
from gateway.sessions.heard import hear, imported
from gateway.sessions.snapshot import ApprovalView, QueueView
from gateway.sessions.spoken import hear_speech, note_tool
from gateway.sessions.state import Resolution, RunState, SessionState, nested
from runtime.events import (
    AgentHandoff,
    ApprovalRequested,
    ApprovalResolved,
    Event,
    HistoryRolledBack,
    InputAccepted,
    InputDequeued,
    InputQueued,
    InputReordered,
    InputSteered,
    MessageCompleted,
    ModelCompleted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    RunAttemptReleased,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStarted,
    RunStopRequested,
    SessionClosed,
    SessionCreated,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.journal import JOURNALED

__all__ = ["apply", "fold"]

UNQUEUED_KEPT = 100
"""How many runs that left the queue are remembered: far more than a person has just seen waiting."""


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
    if is_delta(event):  # by far the most events, and no more than what is open
        state.open.note(event)
        return
    match event:
        case SessionCreated() | SessionClosed():
            _session(state, event)
        case (
            HistoryRolledBack()
            | InputAccepted()
            | InputSteered()
            | InputQueued()
            | InputDequeued()
            | InputReordered()
        ):
            _input(state, event)
        case (
            RunStarted()
            | RunAttemptStarted()
            | RunAttemptReleased()
            | RunResumed()
            | RunStopRequested()
        ):
            _begin(state, event)
        case RunCompleted() | RunFailed() | RunCancelled() | RunInterrupted():
            _end(state, event)
        case MessageCompleted() | ModelCompleted():
            hear_speech(state, event)
        case (
            ToolStarted()
            | ToolProgress()
            | ToolCompleted()
            | ToolFailedEvent()
            | ToolUnknownOutcome()
        ):
            note_tool(state, event)
        case ApprovalRequested() | ApprovalResolved():
            _approval(state, event)
        case NodeStarted() | NodeUpdate() | NodeCompleted() | NodeFailed():
            _node(state, event)
        case _:
            pass
    _remember(state, event)
    state.open.note(event)


def _session(state: SessionState, event: SessionCreated | SessionClosed) -> None:
    match event:
        case SessionCreated():
            state.messages = imported(event.history or ())
        case SessionClosed():
            state.closed = True


def _node(state: SessionState, event: nodes.NodeEvent) -> None:
    run = state.runs.get(event.run_id)
    if run is None:
        return
    nodes.note_node(run, event, len(state.messages))
    if isinstance(event, NodeFailed) and event.will_retry:
        # Whatever was said in this visit of the node is said anew.
        below = (*event.path, event.node)
        for message in state.messages[nodes.begun_at(run, event) :]:
            if message.run_id == run.run_id and (message.path or ())[: len(below)] == below:
                message.superseded = True


def _remember(state: SessionState, event: Event) -> None:
    """Keep in the journal what the run needs in order to go on."""
    if isinstance(event, JOURNALED) and event.run_id == state.current:
        state.runs[event.run_id].journal.append(event)


_Waiting = InputQueued | InputDequeued | InputReordered


def _input(
    state: SessionState, event: HistoryRolledBack | InputAccepted | InputSteered | _Waiting
) -> None:
    match event:
        case HistoryRolledBack():
            dropped = set(event.message_ids)
            state.messages = [m for m in state.messages if m.message_id not in dropped]
        case InputAccepted():
            turn_at = len(state.messages)
            hear(state.messages, event.message, event.run_id)
            state.heard = len(state.messages)
            run = _run_of(state, event)
            state.runs[event.run_id] = run.model_copy(update={"turn_at": turn_at})
        case InputSteered():
            hear(state.messages, event.message, event.run_id)
        case _:
            _wait(state, event)


def _wait(state: SessionState, event: _Waiting) -> None:
    match event:
        case InputQueued():
            state.queue.append(
                QueueView(
                    run_id=event.run_id,
                    command_id=event.command_id,
                    message=event.message,
                    position=len(state.queue) + 1,
                    policy=event.policy or "enqueue",
                )
            )
            state.queued_runs[event.run_id] = _run_of(state, event).model_copy(
                update={"status": "queued", "rewind_to": event.rewind_to}
            )
        case InputDequeued():
            _line_up(state, [item for item in state.queue if item.run_id != event.run_id])
            state.queued_runs.pop(event.run_id, None)
            state.unqueued = [*state.unqueued, event.run_id][-UNQUEUED_KEPT:]
        case InputReordered():
            place = {run_id: place for place, run_id in enumerate(event.run_ids)}
            _line_up(
                state, sorted(state.queue, key=lambda item: place.get(item.run_id, len(place)))
            )


def _line_up(state: SessionState, waiting: Iterable[QueueView]) -> None:
    state.queue = [
        item.model_copy(update={"position": place}) for place, item in enumerate(waiting, start=1)
    ]


def _run_of(state: SessionState, event: InputAccepted | InputQueued) -> RunState:
    return RunState(
        run_id=event.run_id,
        agent=event.agent or state.agent,
        options=event.options or {},
        timeout=event.timeout,
        instructions=event.instructions,
        tools=event.tools or (),
        cancel_after=event.cancel_after,
        segments=[str(state.position)],
    )


def _begin(
    state: SessionState,
    event: RunStarted | RunAttemptStarted | RunAttemptReleased | RunResumed | RunStopRequested,
) -> None:
    run = state.runs.get(event.run_id)
    if run is None:  # one that goes on from another has no input of its own
        run = state.runs[event.run_id] = RunState(
            run_id=event.run_id,
            agent=state.agent,
            turn_at=len(state.messages),
            segments=[str(state.position)],
        )
    match event:
        case RunStarted():
            run.agent = event.agent or event.graph or run.agent
            run.kind = "agent" if event.graph is None else "graph"
            run.options = event.options or run.options
            run.parent_run_id = event.parent_run_id
            run.attempt = event.attempt
            if event.parent_run_id is not None:
                run.cancel_after = event.cancel_after
                _inherit(state, run, event.parent_run_id)
        case RunAttemptStarted():
            run.attempt = event.attempt
            _supersede(state, run, event.from_step)
        case RunAttemptReleased():
            run.handed_over += 1
            run.released = event.attempt
        case RunStopRequested():
            run.stopping = event.command_id
        case RunResumed():
            if run.status == "interrupted":
                run.segments.append(str(state.position))
                run.cancel_after = event.cancel_after
    if not isinstance(event, RunStopRequested):
        run.settled_early = []  # whoever works now was told of them
    run.status = "running"
    state.current = event.run_id


def _inherit(state: SessionState, run: RunState, parent_run_id: str) -> None:
    """Let a run go on from a cancelled or failed one.

    What that one had asked a human is over, and will be asked again. Of an agent's steps the
    conversation tells; only to whom it was handed over stands in the journal alone.
    """
    for message in state.messages_of(parent_run_id):
        if message.incomplete:
            message.superseded = True
    if (parent := state.runs.get(parent_run_id)) is not None:
        run.instructions, run.tools = parent.instructions, parent.tools
        run.turn_at = parent.turn_at
        run.journal = [event for event in parent.journal if _is_inherited(run, event)]
        parent.journal = []
        nodes.inherit_nodes(run, parent)


def _is_inherited(run: RunState, event: Event) -> bool:
    if run.kind == "graph":
        return not isinstance(event, ApprovalRequested)
    return isinstance(event, AgentHandoff | ToolCompleted) and nested(event.path) is None


def _supersede(state: SessionState, run: RunState, from_step: int) -> None:
    """Mark what the next attempt at a run says anew.

    Of the run's own agent, these are the messages of steps that were not finished. Below it, those
    whose model call is not in the journal, unless a node said them that is done.
    """
    finished = {done.message_id for done in run.journal if isinstance(done, ModelCompleted)}
    for message in state.messages_of(run.run_id):
        if message.path is None:
            again = message.turn is not None and message.turn > from_step
        else:
            again = message.message_id not in finished and nodes.unfinished(run, message.path)
        if again:
            message.superseded = True


def _end(
    state: SessionState, event: RunCompleted | RunFailed | RunCancelled | RunInterrupted
) -> None:
    run = state.runs.get(event.run_id)
    if run is None:  # it was cancelled while it waited in the queue
        return
    match event:
        case RunInterrupted():
            run.status = "interrupted"
            nodes.pause_nodes(run)
            return
        case RunCompleted():
            run.status = "completed"
            run.journal = []
        case RunFailed():
            run.status = "failed"
            run.error = event.error
        case RunCancelled():
            run.status = "cancelled"
    nodes.end_nodes(run)
    state.last = event.run_id
    state.runs = {event.run_id: run}  # earlier runs are over for good
    if state.current == event.run_id:
        state.current = None
        state.run_over()
        # What was said to this run, and not heard, is said to nobody now, and waits for its turn.
        state.queue = [item.model_copy(update={"policy": "enqueue"}) for item in state.queue]


def _approval(state: SessionState, event: ApprovalRequested | ApprovalResolved) -> None:
    if isinstance(event, ApprovalRequested):
        state.approvals[event.approval_id] = ApprovalView(
            **event.model_dump(exclude={"type", "path"}, exclude_none=True),
            path=nested(event.path),
        )
        if (run := state.runs.get(event.run_id)) is not None:
            nodes.hold_node(run, event)
        return
    asked = state.approvals.pop(event.approval_id, None)
    if (run := state.runs.get(event.run_id)) is not None and run.status == "running":
        run.settled_early.append(event.approval_id)
    state.resolved[event.approval_id] = Resolution(
        run_id=event.run_id,
        call_id=asked.call_id if asked else None,
        decision=event.decision,
        by=event.by,
        message=event.message,
        arguments=event.arguments,
        result=event.result,
    )
