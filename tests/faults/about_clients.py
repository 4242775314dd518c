"""Invariants of what clients were told: I2, I3, I8, I11, and the clients' half of I1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.log.position import Position
from tests.faults.evidence import Evidence, Facts
from tests.faults.history import Operation

__all__ = [
    "Subscription",
    "all_arrives",
    "all_say_the_same",
    "comes_once_in_order",
    "is_asked_for",
    "is_real",
    "told",
]


@dataclass(slots=True)
class Subscription:
    """Where a client stands in a session while its history is read.

    Attributes:
        asked: What it gave as its cursor when it connected last.
        next: The `seq` that has to come next; None if any may.
        many: Whether what was seen may come again, because the stream has one id for many sessions.
        fresh: Whether nothing came since it connected.
    """

    asked: str
    next: int | None
    many: bool
    fresh: bool = True


def told(evidence: Evidence) -> Iterator[tuple[str, str, Any, Subscription]]:
    """Yield what each client was told of each session: who, what (`event`, `reset`), value, where.

    The subscription is as it was before; it is moved on afterwards.
    """
    subscriptions: dict[tuple[str, str], Subscription] = {}
    for operation in evidence.operations:
        who, value = operation.process, operation.value
        if operation.name == "connect" and operation.kind == "invoke":
            many = value["transport"] == "many"
            for session_id, after in value["after"].items():
                before = subscriptions.get((who, session_id))
                place = _place(after) if before is None or before.next is None else before.next
                subscriptions[who, session_id] = Subscription(after, place, many)
        elif operation.name == "event":
            event = evidence.event(operation)
            subscription = subscriptions.get((who, event["session_id"]))
            if subscription is None:
                subscription = Subscription("nothing", None, many=False)
                yield who, "uninvited", event, subscription
                continue
            yield who, "event", event, subscription
            if not (subscription.many and event["seq"] < (subscription.next or 0)):
                subscription.next = event["seq"] + 1
            subscription.fresh = False
        elif operation.name == "reset":
            subscription = subscriptions[who, value["session_id"]]
            yield who, "reset", value, subscription
            subscription.next = Position.parse(value["cursor"]).seq + 1
            subscription.fresh = False


def _place(after: str) -> int | None:
    """Return the `seq` that has to come next after a cursor; None if the cursor does not say."""
    if after == "0":
        return 1
    return None if after in {"$", ""} else Position.parse(after).seq + 1


def is_real(evidence: Evidence, facts: Facts) -> None:
    """I2: what a client saw is in the log under the same cursor; else it was reset at once."""
    doubtful: dict[tuple[str, str], str] = {}
    for who, what, value, _ in told(evidence):
        key = (who, value["session_id"])
        if what == "reset":
            doubtful.pop(key, None)
        elif what == "event":
            log = evidence.logs.get(value["session_id"])
            known = log is not None and value["seq"] >= log.first
            kept = log.at(value["seq"]) if log is not None and known else None
            if known and kept != value:  # it may have been there, and have been lost since
                found = "nothing" if kept is None else kept["cursor"]
                sentence = (
                    f"{who} saw {value['type']} at {value['cursor']} of "
                    f"{value['session_id']}, where the log has {found}"
                )
                doubtful.setdefault(key, sentence)
            elif key in doubtful:
                facts.expect(False, f"{doubtful.pop(key)}, and went on without a reset")
            else:
                facts.count += 1
    facts.broken += doubtful.values()


def comes_once_in_order(evidence: Evidence, facts: Facts) -> None:
    """I3: after its cursor a client is told s, s+1, s+2, … on the wire itself."""
    trimmed = {operation.value["session_id"] for operation in evidence.named("trim")}
    for who, what, event, subscription in told(evidence):
        if what != "event":
            continue
        seq, expected = event["seq"], subscription.next
        again = subscription.many and expected is not None and seq < expected
        from_start = subscription.asked == "0" and subscription.fresh and expected == 1
        late = from_start and event["session_id"] in trimmed and seq > 1
        facts.expect(
            expected is None or seq == expected or again or late,
            f"{event['session_id']}: {who} got seq {seq} where {expected} had to come, having asked for what is after {subscription.asked}",
        )


def all_arrives(evidence: Evidence, facts: Facts) -> None:
    """I1, for clients: who says that it has seen everything was told of the last event."""
    reached: dict[tuple[str, str], int] = {}
    for who, what, value, _ in told(evidence):
        if what == "event":
            key = (who, value["session_id"])
            reached[key] = max(reached.get(key, 0), value["seq"])
        elif what == "reset":
            reached[who, value["session_id"]] = Position.parse(value["cursor"]).seq
    for operation in evidence.named("finished"):
        session_id = operation.value["session_id"]
        got = reached.get((operation.process, session_id), 0)
        last = evidence.logs[session_id].last
        facts.expect(
            got >= last,
            f"{session_id}: {operation.process} was told of {got} events, the log has {last}",
        )


def all_say_the_same(evidence: Evidence, facts: Facts) -> None:
    """I8: an event has the same bytes on every transport and in a full read."""
    for operation in evidence.named("event"):
        event = evidence.event(operation)
        log = evidence.logs.get(event["session_id"])
        kept = None if log is None else log.at(event["seq"])
        if log is not None and kept is not None and kept["cursor"] == event["cursor"]:
            line = log.line_at(event["seq"]) or b""
            same = operation.value == line
            facts.expect(same, "" if same else _difference(operation, line))


def _difference(operation: Operation, line: bytes) -> str:
    return f"{operation.process} got {operation.value!r}, where a full read gives {line!r}"


def is_asked_for(evidence: Evidence, facts: Facts) -> None:
    """I11, as far as there is no login: nobody is told of a session that it did not ask for."""
    for who, what, event, _ in told(evidence):
        facts.expect(what != "uninvited", f"{who} got {event['session_id']} without having asked")
