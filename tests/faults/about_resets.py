"""I7: a cursor that can be served is, one that cannot is answered by the true reason and a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.log.entry import Entry
from gateway.log.position import NO_TAG, Position
from gateway.log.serde import load
from gateway.sessions.fold import fold
from gateway.sessions.state import SessionState
from tests.faults.about_clients import told
from tests.faults.evidence import Event, Evidence, Facts, FinalLog

__all__ = ["is_honest", "snapshot_at"]


def is_honest(evidence: Evidence, facts: Facts) -> None:
    """I7: no silent live tail, no silent replay; a reset says why, and its snapshot is the fold."""
    for who, what, value, subscription in told(evidence):
        log = evidence.logs.get(value["session_id"])
        if log is None or what == "uninvited":
            continue
        reasons = _reasons(subscription.asked, log)
        came = f"{log.session_id}: {who} came with {subscription.asked!r}"
        if what == "reset":
            if subscription.fresh and not subscription.many:
                facts.expect(
                    value["reason"] in reasons,
                    f"{came} and was reset because of {value['reason']}, not {sorted(reasons)}",
                )
            _is_the_fold(who, value, log, facts)
            facts.expect(
                value["snapshot"]["cursor"] == value["cursor"],
                f"{came} and was reset to {value['cursor']} with {value['snapshot']['cursor']}",
            )
        elif subscription.fresh and not subscription.many:
            # What was trimmed may have been there then; if it was not, I3 sees the hole.
            facts.expect(
                reasons <= {"trimmed"}, f"{came} and was served in silence: {sorted(reasons)}"
            )
    for operation in evidence.named("snapshot"):
        log = evidence.logs[operation.value["session_id"]]
        _is_the_fold(operation.process, operation.value, log, facts)


def _reasons(asked: str, log: FinalLog) -> set[str]:
    """Return why a cursor cannot be served, by the log as it was in the end; nothing if it can."""
    if asked == "0" and log.first > 1:
        return {"trimmed"}  # while it was on its way to the first event
    if asked in {"0", "$"} or not log.events:
        return set()
    if not asked:
        return {"joined"}
    position, last = Position.parse(asked), Position.parse(log.events[-1]["cursor"])
    kept = log.at(position.seq)
    rules = (
        (position.epoch != last.epoch, {"epoch_changed"}),
        (position.seq > last.seq, {"cursor_ahead"}),
        (position.seq < log.first - 1, {"trimmed"}),
        # It was ahead when the log was shorter; by now another event is there.
        (kept is not None and kept["cursor"] != asked, {"fork", "cursor_ahead"}),
    )
    return next((reasons for holds, reasons in rules if holds), set())


def _is_the_fold(who: str, value: Mapping[str, Any], log: FinalLog, facts: Facts) -> None:
    snapshot = value["snapshot"]
    if log.first == 1:
        facts.expect(
            snapshot == snapshot_at(log, snapshot),
            f"{log.session_id}: the snapshot of {who} at {snapshot['cursor']} is not the log's fold",
        )


def snapshot_at(log: FinalLog, like: Mapping[str, Any]) -> dict[str, Any]:
    """Fold a whole log up to the cursor of a snapshot, and return the snapshot that this gives.

    What does not come from events (agent, metadata, when it was created) is taken from `like`.
    """
    end = Position.parse(like["cursor"])
    state = SessionState(
        session_id=log.session_id,
        agent=like["agent"],
        metadata=like["metadata"],
        created_at=0,
        epoch=end.epoch,
        tag=NO_TAG,
    )
    for event in log.events[: end.seq]:
        entry = Entry(log.session_id, Position.parse(event["cursor"]), 0, _body(event))
        fold(state, entry, load(entry))
    snapshot: dict[str, Any] = orjson.loads(orjson.dumps(state.snapshot().as_json()))
    return snapshot | {"created_at": like["created_at"]}


def _body(event: Event) -> bytes:
    """Return the event as the log keeps it: without the fields that the log gave it."""
    given = {"v", "session_id", "seq", "cursor", "ts"}
    return orjson.dumps({name: value for name, value in event.items() if name not in given})
