"""Invariants that a log keeps by itself: I4, I5, I6, I12."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.log.position import Position
from tests.faults.evidence import ENDS, Event, Evidence, Facts, FinalLog

__all__ = ["is_fenced", "is_gap_free", "is_live", "one_end"]


def is_gap_free(evidence: Evidence, facts: Facts) -> None:
    """I4: `seq` counts up by one, cursors are consistent, and the file says the same."""
    for log in evidence.logs.values():
        epochs = set()
        for place, event in enumerate(log.events):
            seq, cursor = event["seq"], Position.parse(event["cursor"])
            epochs.add(cursor.epoch)
            facts.expect(
                seq == log.first + place and cursor.seq == seq,
                f"{log.session_id}: place {place} of the log has seq {seq} and cursor {cursor}",
            )
            if place:
                before = log.events[place - 1]
                facts.expect(
                    before["ts"] <= event["ts"],
                    f"{log.session_id}: time goes backwards at seq {seq}",
                )
        facts.expect(len(epochs) <= 1, f"{log.session_id}: one log, epochs {epochs}")
        if log.stored is not None:
            _agrees_with_the_file(log, facts)


def _agrees_with_the_file(log: FinalLog, facts: Facts) -> None:
    stored = log.stored
    assert stored is not None
    facts.expect(
        list(stored.lines) == list(log.lines),
        f"{log.session_id}: the file has {len(stored.lines)} events, a full read gave {len(log.lines)} or others",
    )
    tail = log.events[-1]["cursor"] if log.events else str(stored.start)
    facts.expect(
        str(stored.tail) == tail and stored.start.seq == log.first - 1,
        f"{log.session_id}: the session's row says {stored.start} to {stored.tail}, its entries {log.first} to {tail}",
    )


def is_fenced(evidence: Evidence, facts: Facts) -> None:
    """I5: attempts count up by one, and nothing of an earlier one follows the next one's start."""
    for (session_id, run_id), events in evidence.runs.items():
        attempt = 1
        speaking: set[str] = set()  # messages and tools that are open
        overtaken: set[str] = set()
        for event in events:
            kind, seq = event["type"], event["seq"]
            if kind == "run.attempt_started":
                facts.expect(
                    event["attempt"] == attempt + 1 and event["supersedes"] == attempt,
                    f"{session_id}: {run_id} goes from attempt {attempt} to {event['attempt']} at seq {seq}",
                )
                attempt = event["attempt"]
                overtaken |= speaking
            elif kind in {"message.started", "tool.started"}:
                speaking.add(_who(event))
                overtaken.discard(_who(event))
            elif kind in _SPEECH:
                facts.expect(
                    _who(event) not in overtaken,
                    f"{session_id}: {kind} of an earlier attempt of {run_id} at seq {seq}, after attempt {attempt} had begun",
                )
                if kind in _SPEECH_ENDS:
                    speaking.discard(_who(event))
            elif kind == "tool.unknown_outcome":
                speaking.discard(_who(event))
                overtaken.discard(_who(event))


_SPEECH_ENDS = frozenset({"message.completed", "tool.completed", "tool.failed"})
_SPEECH = _SPEECH_ENDS | {"message.delta", "tool.progress"}


def _who(event: Event) -> str:
    spoken = str(event["type"]).startswith("message.")
    return f"{event['path']} {event['message_id' if spoken else 'call_id']}"


def one_end(evidence: Evidence, facts: Facts) -> None:
    """I6: a run has at most one end, and nothing of it follows (that it has one is I12)."""
    for (session_id, run_id), events in evidence.runs.items():
        ends = [event["seq"] for event in events if event["type"] in ENDS]
        facts.expect(len(ends) <= 1, f"{session_id}: {run_id} ends at {ends}")
        if ends:
            facts.expect(
                events[-1]["seq"] <= ends[0],
                f"{session_id}: {run_id} ended at seq {ends[0]}, and {events[-1]['type']} follows at seq {events[-1]['seq']}",
            )


def is_live(evidence: Evidence, facts: Facts) -> None:
    """I12: a run has ended, waits for a human, or waits behind one that does."""
    for session_id in evidence.logs:
        standing = {
            run_id: _standing(events)
            for (of, run_id), events in evidence.runs.items()
            if of == session_id
        }
        somebody_waits = "interrupted" in standing.values()
        for run_id, stands in standing.items():
            facts.expect(
                stands in {"over", "interrupted"} or (stands == "queued" and somebody_waits),
                f"{session_id}: {run_id} was left {stands}",
            )


def _standing(events: Sequence[Event]) -> str:
    """Return how a run stands after all its events."""
    standing = "begun"
    for event in events:
        kind = event["type"]
        if kind in ENDS or (kind == "input.dequeued" and event["reason"] in {"steered", "edited"}):
            standing = "over"
        elif kind == "input.queued":
            standing = "queued"
        elif kind == "run.interrupted":
            standing = "interrupted"
        elif kind in {"run.started", "run.resumed", "run.attempt_started"}:
            standing = "running"
    return standing
