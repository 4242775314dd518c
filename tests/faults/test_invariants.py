"""The checker fires: each invariant is broken in a history that is otherwise good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from gateway.codecs.native import event_json
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.serde import dump
from runtime.events import (
    Event,
    InputAccepted,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunStarted,
    SessionClosed,
    SessionCreated,
    ToolCompleted,
    ToolStarted,
)
from runtime.messages import Message, Usage
from tests.faults.about_resets import snapshot_at
from tests.faults.history import History, Operation
from tests.faults.invariants import INVARIANTS, FinalLog, Stored, check

EPOCH = "epoch1"
START_MS = 1_700_000_000_000
PATH = ("echo",)
ONE: dict[str, Any] = {"run_id": "run_1", "path": PATH}
TWO: dict[str, Any] = {"run_id": "run_2", "path": PATH}


def said(text: str) -> Message:
    return Message(role="user", content=text, message_id=f"msg_{text}")


EVENTS: list[Event] = [
    SessionCreated(agent="echo"),
    InputAccepted(run_id="run_1", message=said("a"), command_id="c1", policy="enqueue"),
    RunStarted(**ONE, agent="echo"),
    MessageStarted(**ONE, message_id="m1", turn=1),
    MessageDelta(**ONE, message_id="m1", text="a"),
    MessageCompleted(**ONE, message_id="m1", text="a"),
    ToolStarted(**ONE, call_id="t1", name="x", arguments="{}", idempotency_key="k"),
    ToolCompleted(**ONE, call_id="t1", name="x", result=1, duration_ms=1),
    RunCompleted(**ONE, output="a", usage=Usage(), message_count=1, num_turns=1),
    InputAccepted(run_id="run_2", message=said("b"), command_id="c2", policy="enqueue"),
    RunStarted(**TWO, agent="echo"),
    MessageStarted(**TWO, message_id="m2", turn=1),
    MessageCompleted(**TWO, message_id="m2", text="", superseded=True),
    RunAttemptStarted(**TWO, attempt=2, supersedes=1, from_step=0, reason="restart"),
    RunCancelled(**TWO, reason="cancel", command_id="c3"),
]


def cursor(seq: int) -> str:
    return str(Position(EPOCH, seq, f"{seq:08x}"))


def line(seq: int, event: Event) -> bytes:
    body = dump(event)
    return event_json(Entry("s", Position.parse(cursor(seq)), START_MS + seq, body))


@dataclass
class Case:
    """A history and a log, to be broken before they are checked."""

    events: list[Event] = field(default_factory=lambda: list(EVENTS))
    lines: list[bytes] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    stored: Stored | None = None

    def __post_init__(self) -> None:
        self.render()
        self.tell()

    def render(self) -> None:
        self.lines = [line(seq, event) for seq, event in enumerate(self.events, start=1)]
        start, tail = Position(EPOCH, 0, "00000000"), Position.parse(cursor(len(self.lines)))
        self.stored = Stored(list(self.lines), start, tail)

    def note(self, process: str, kind: Any, name: str, value: Any, at: float = 100.0) -> None:
        self.operations.append(Operation(process, kind, name, value, START_MS / 1000 + at, at))

    def tell(self) -> None:
        """Let clients see the log: one is cut in the middle, one is reset, one has many sessions."""
        self.operations = []
        self.connect("sse", "0")
        self.show("sse", 1, 5)
        self.connect("sse", cursor(5))
        self.show("sse", 6, len(self.lines))
        snapshot = self.snapshot()
        self.note("reader", "info", "snapshot", {"session_id": "s", "snapshot": snapshot})
        self.connect("late", "epoch2.3.00000003")
        reset = {"session_id": "s", "reason": "epoch_changed", "cursor": cursor(5)}
        self.note("late", "info", "reset", reset | {"snapshot": snapshot})
        self.show("late", 6, len(self.lines))
        self.connect("many", "0", transport="many")
        self.show("many", 1, 5)
        self.connect("many", "0", transport="many")
        self.show("many", 3, len(self.lines))
        for process in ("sse", "late", "many"):
            self.note(process, "info", "finished", {"session_id": "s"})
        self.command("send", "c1", {"run_id": "run_1", "cursor": cursor(2)})
        self.command("send", "c1", {"run_id": "run_1", "cursor": cursor(2)})
        self.command("send", "c2", {"run_id": "run_2", "cursor": cursor(10)})
        self.command("cancel", "c3", {"run_id": "run_2", "cursor": cursor(15)})
        about = {"id": "c9", "session_id": "s"}
        self.note("caller", "fail", "send", about | {"status": 409, "code": "run_active"})
        self.note(
            "test", "info", "measure", {"what": "tasks", "baseline": 5, "now": 5, "allowed": 0}
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the right snapshot at the fifth event."""
        given = {"cursor": cursor(5), "agent": "echo", "metadata": {}, "created_at": "then"}
        return snapshot_at(FinalLog("s", self.lines), given)

    def connect(self, process: str, after: str, *, transport: str = "sse") -> None:
        value = {"transport": transport, "after": {"s": after}}
        self.note(process, "invoke", "connect", value)

    def show(self, process: str, first: int, last: int) -> None:
        for seq in range(first, last + 1):
            self.note(process, "info", "event", self.lines[seq - 1])

    def command(self, name: str, command_id: str, answer: dict[str, Any]) -> None:
        about = {"id": command_id, "session_id": "s"}
        self.note("caller", "invoke", name, about | {"body": {}})
        self.note("caller", "ok", name, about | {"answer": answer}, at=100.5)

    def find(self, process: str, name: str, number: int = 0) -> int:
        """Return where in the history a process did something for the nth time."""
        return [
            place
            for place, each in enumerate(self.operations)
            if (each.process, each.name) == (process, name)
        ][number]

    def drop(self, process: str, name: str, number: int = 0) -> None:
        del self.operations[self.find(process, name, number)]

    def change(self, process: str, name: str, number: int = 0, **value: Any) -> None:
        place = self.find(process, name, number)
        known = self.operations[place]
        self.operations[place] = replace(known, value=known.value | value)

    def rewrite(self, process: str, number: int, **fields: Any) -> None:
        place = self.find(process, "event", number)
        event = orjson.loads(self.operations[place].value) | fields
        self.operations[place] = replace(self.operations[place], value=orjson.dumps(event))

    def violated(self) -> set[str]:
        history = History()
        history.operations = self.operations
        verdict = check(history, [FinalLog("s", self.lines, self.stored)])
        return {violation.invariant for violation in verdict.violations}


def with_event(place: int, event: Event) -> Callable[[Case], None]:
    """Put an event into the log; everybody sees it, so only the log itself is wrong."""

    def put(case: Case) -> None:
        case.events.insert(place, event)
        case.render()
        case.tell()

    return put


def without_events(first: int, last: int) -> Callable[[Case], None]:
    def remove(case: Case) -> None:
        del case.events[first:last]
        case.render()
        case.tell()

    return remove


def another_history(case: Case) -> None:
    """The log was lost behind what a client saw, and other events have the same numbers."""
    case.rewrite("sse", 4, cursor=str(Position(EPOCH, 5, "ffffffff")))


def stored_differently(case: Case) -> None:
    assert case.stored is not None
    case.stored = replace(case.stored, lines=case.stored.lines[:-1])


def row_differs(case: Case) -> None:
    assert case.stored is not None
    case.stored = replace(case.stored, tail=Position(EPOCH, 15, "ffffffff"))


def a_hole_in_the_log(case: Case) -> None:
    del case.lines[6]
    case.stored = None


def skips_ahead(case: Case) -> None:
    case.change("sse", "connect", 1, after={"s": cursor(7)})
    case.drop("sse", "event", 5)
    case.drop("sse", "event", 5)


def other_bytes(case: Case) -> None:
    place = case.find("sse", "event", 3)
    spaced = case.operations[place].value.replace(b'{"v":1,', b'{"v": 1,')
    case.operations[place] = replace(case.operations[place], value=spaced)


def late_cancel(case: Case) -> None:
    place = case.find("caller", "cancel", 1)
    case.operations[place] = replace(case.operations[place], wall=START_MS / 1000 - 1)


def slow_cancel(case: Case) -> None:
    place = case.find("caller", "cancel", 1)
    case.operations[place] = replace(case.operations[place], monotonic=200.0)


def the_old_attempt_speaks(case: Case) -> None:
    del case.events[12]
    with_event(13, MessageDelta(**TWO, message_id="m2", text="x"))(case)


LATE_TOOL = ToolStarted(**TWO, call_id="t9", name="x", arguments="{}", idempotency_key="k")
ANOTHER_END = RunCompleted(**ONE, output="", usage=Usage(), message_count=1, num_turns=1)

BROKEN: dict[str, tuple[str, Callable[[Case], None]]] = {
    "an acknowledged input is not in the log": ("I1", without_events(1, 2)),
    "an answer points at another event": (
        "I1",
        lambda case: case.change("caller", "send", 1, answer={"run_id": "run_1", "cursor": cursor(4)}),
    ),
    "a client that was told all misses the end": (
        "I1",
        lambda case: case.drop("sse", "event", len(EVENTS) - 1),
    ),
    "a client saw what is not in the log": ("I2", another_history),
    "a client saw other words": ("I2", lambda case: case.rewrite("sse", 4, text="b")),
    "an event fell out": ("I3", lambda case: case.drop("sse", "event", 2)),
    "an event came twice": (
        "I3",
        lambda case: case.operations.insert(3, case.operations[case.find("sse", "event", 1)]),
    ),
    "an event fell out after a cut": ("I3", lambda case: case.drop("sse", "event", 5)),
    "a client comes back behind what it has not seen": ("I3", skips_ahead),
    "a stream of many has a hole": (
        "I3",
        lambda case: case.drop("many", "event", 10),
    ),
    "a hole in the log": ("I4", a_hole_in_the_log),
    "the file has less": ("I4", stored_differently),
    "the session's row is wrong": ("I4", row_differs),
    "the old attempt speaks on": (
        "I5",
        the_old_attempt_speaks,
    ),
    "an attempt is left out": (
        "I5",
        with_event(14, RunAttemptStarted(**TWO, attempt=4, supersedes=3, from_step=0, reason="restart")),
    ),
    "a run ends twice": ("I6", with_event(14, ANOTHER_END)),
    "something follows the end": (
        "I6",
        with_event(9, MessageDelta(**ONE, message_id="m1", text="x")),
    ),
    "a wrong reason": ("I7", lambda case: case.change("late", "reset", reason="trimmed")),
    "a snapshot that is not the fold": (
        "I7",
        lambda case: case.change(
            "late",
            "reset",
            snapshot=case.operations[case.find("late", "reset")].value["snapshot"] | {"messages": []},
        ),
    ),
    "a snapshot that is asked for is not the fold": (
        "I7",
        lambda case: case.change("reader", "snapshot", snapshot=case.snapshot() | {"messages": []}),
    ),
    "a good cursor is reset": (
        "I7",
        lambda case: case.change("late", "connect", after={"s": cursor(3)}),
    ),
    "a void cursor is served in silence": (
        "I7",
        lambda case: case.change("sse", "connect", 1, after={"s": "epoch2.5.00000005"}),
    ),
    "other bytes on the wire": ("I8", other_bytes),
    "tasks are left": ("I9", lambda case: case.change("test", "measure", now=6)),
    "a cancel is answered before the end": ("I10", late_cancel),
    "a cancel takes long": ("I10", slow_cancel),
    "a tool starts after a cancel": ("I10", with_event(15, LATE_TOOL)),
    "an uninvited event": ("I11", lambda case: case.note("other", "info", "event", case.lines[0])),
    "a run that never ends": ("I12", without_events(8, 9)),
    "two answers": (
        "I13",
        lambda case: case.change("caller", "send", 3, answer={"run_id": "run_9", "cursor": cursor(2)}),
    ),
    "two effects": (
        "I13",
        with_event(15, InputAccepted(run_id="run_3", message=said("a"), command_id="c1", policy="x")),
    ),
    "a refused command had an effect": (
        "I13",
        with_event(15, InputAccepted(run_id="run_3", message=said("a"), command_id="c9", policy="x")),
    ),
}  # fmt: skip


def test_a_good_history_violates_nothing_and_is_held_against_everything() -> None:
    case = Case()
    history = History()
    history.operations = case.operations
    verdict = check(history, [FinalLog("s", case.lines, case.stored)])
    assert verdict.violations == []
    assert all(verdict.facts[invariant] for invariant in INVARIANTS)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(name: str) -> None:
    invariant, breaks = BROKEN[name]
    case = Case()
    breaks(case)
    assert invariant in case.violated()


def test_every_invariant_is_broken_once() -> None:
    assert {invariant for invariant, _ in BROKEN.values()} == set(INVARIANTS)


def test_a_client_that_is_reset_after_a_lost_event_saw_no_phantom() -> None:
    case = Case()
    another_history(case)
    place = case.find("sse", "event", 4)
    reset = case.operations[case.find("late", "reset")]
    case.operations.insert(place + 1, replace(reset, process="sse"))
    assert "I2" not in case.violated()


def test_a_history_is_written_as_lines_of_json(tmp_path: Any) -> None:
    history = History()
    history.record("a", "invoke", "send", id="c1")
    history.event("a", line(1, SessionClosed(reason="x")))
    history.write(tmp_path / "history.jsonl")
    first, second = map(orjson.loads, (tmp_path / "history.jsonl").read_bytes().splitlines())
    assert (first["process"], first["kind"], first["name"], first["value"]["id"]) == (
        "a", "invoke", "send", "c1",
    )  # fmt: skip
    assert orjson.loads(second["value"])["type"] == "session.closed"
