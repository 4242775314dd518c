"""Invariants of commands and of what they cost: I9, I10, I13, and the callers' half of I1."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import count

from gateway.log.position import Position
from tests.faults.evidence import ENDS, Evidence, Facts, FinalLog
from tests.faults.history import Operation

__all__ = ["cancel_ends", "happens_once", "is_bounded", "is_kept"]

COMMANDS = ("send", "cancel", "continue", "create")

CLOCK_SECONDS = 0.005
"""The log's times are cut to milliseconds, the history's are not."""


def _answered(evidence: Evidence) -> Iterator[Operation]:
    return (
        each
        for each in evidence.named(*COMMANDS, kind="ok")
        if each.value["session_id"] in evidence.logs
    )


def is_kept(evidence: Evidence, facts: Facts) -> None:
    """I1, for callers: what was acknowledged is in the log, where the answer says."""
    for operation in _answered(evidence):
        value, answer = operation.value, operation.value["answer"]
        log = evidence.logs[value["session_id"]]
        cursor = Position.parse(answer["cursor"])
        if cursor.seq < log.first:
            continue
        kept = log.at(cursor.seq)
        facts.expect(
            kept is not None and kept["cursor"] == answer["cursor"],
            f"{log.session_id}: {value['id']} was acknowledged at {cursor}, where the log has {kept and kept['cursor']}",
        )
        if operation.name == "send" and kept is not None:
            facts.expect(
                value["id"] in _named_by(log, cursor),
                f"{log.session_id}: the answer to {value['id']} points at {kept['type']} of another command",
            )


def _named_by(log: FinalLog, cursor: Position) -> set[str]:
    """Return the commands that are named by what was appended together, from a place on.

    A send that takes the place of a run takes effect with that run's end: where it has begun to
    speak, what it has said is closed first. All of one append has one tag.
    """
    named = set[str]()
    for seq in count(cursor.seq):
        event = log.at(seq)
        if event is None or Position.parse(event["cursor"]).tag != cursor.tag:
            return named
        if "command_id" in event:
            named.add(event["command_id"])
    raise AssertionError("a log has an end")


def happens_once(evidence: Evidence, facts: Facts) -> None:
    """I13: a command has one effect and one answer, however often it is sent."""
    answers: dict[tuple[str, str], object] = {}
    for operation in evidence.named(*COMMANDS, kind="ok"):
        value = operation.value
        if operation.name == "create":
            continue  # answered by the session as it is now; that it is one is seen in its log
        first = answers.setdefault((value["session_id"], value["id"]), value["answer"])
        facts.expect(
            first == value["answer"],
            f"{value['session_id']}: {value['id']} was answered {first} and then {value['answer']}",
        )
    sent = {
        (each.value["session_id"], each.value["id"])
        for each in evidence.named("send", kind="invoke")
    }
    for session_id, log in evidence.logs.items():
        inputs: dict[str, list[str]] = {}
        for event in log.events:
            if event["type"] in {"input.accepted", "input.queued"}:
                inputs.setdefault(event["command_id"], []).append(event["type"])
        for command_id, effects in inputs.items():
            facts.expect(
                len(set(effects)) == len(effects),
                f"{session_id}: {command_id} had the effects {effects}",
            )
        for _, command_id in (each for each in sent if each[0] == session_id):
            facts.expect(
                ((session_id, command_id) in answers) <= (command_id in inputs or log.first > 1),
                f"{session_id}: {command_id} was acknowledged and had no effect",
            )
        created = sum(event["type"] == "session.created" for event in log.events)
        facts.expect(created == (log.first == 1), f"{session_id}: created {created} times")
    _refused_had_no_effect(evidence, facts, set(answers))


def _refused_had_no_effect(
    evidence: Evidence, facts: Facts, answered: set[tuple[str, str]]
) -> None:
    for operation in evidence.named("send", kind="fail"):
        key = operation.value["session_id"], operation.value["id"]
        log = evidence.logs.get(key[0])
        if key in answered or log is None or operation.value["code"] == "command_conflict":
            continue
        facts.expect(
            all(event.get("command_id") != key[1] for event in log.events),
            f"{key[0]}: {key[1]} was refused and had an effect",
        )


def cancel_ends(evidence: Evidence, facts: Facts) -> None:
    """I10: an acknowledged cancel has ended its run by then, in time, and no tool starts after."""
    asked: dict[tuple[str, str], Operation] = {}
    for operation in evidence.named("cancel"):
        key = operation.value["session_id"], operation.value["id"]
        if operation.kind == "invoke":
            asked[key] = operation
        if operation.kind != "ok" or asked[key].value["body"].get("mode") == "after_step":
            continue
        facts.expect(
            operation.monotonic - asked[key].monotonic <= evidence.cancel_seconds,
            f"{key[0]}: {key[1]} took {operation.monotonic - asked[key].monotonic:.1f} s",
        )
        run_id = operation.value["answer"].get("run_id")
        events = evidence.runs.get((key[0], run_id), [])
        if not events:
            continue
        ends = [event for event in events if event["type"] in ENDS]
        facts.expect(
            bool(ends) and _seconds(ends[0]["ts"]) <= operation.wall + CLOCK_SECONDS,
            f"{key[0]}: {key[1]} was acknowledged before {run_id} had ended",
        )
        if ends:
            facts.expect(
                all(e["type"] != "tool.started" or e["seq"] < ends[0]["seq"] for e in events),
                f"{key[0]}: a tool of {run_id} started after {key[1]}",
            )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def is_bounded(evidence: Evidence, facts: Facts) -> None:
    """I9: what was measured is back at its baseline, give or take what is allowed."""
    for operation in evidence.named("measure"):
        value = operation.value
        facts.expect(
            value["now"] <= value["baseline"] + value["allowed"],
            f"{value['what']} went from {value['baseline']} to {value['now']}, and may grow by {value['allowed']}",
        )
