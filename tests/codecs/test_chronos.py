"""Chronos: golden bytes of `/events`, one for each row of its table."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from gateway.codecs.sources.chronos import (
    ChronosCodec,
    control_frame,
    frame,
    frame_named,
    named,
    unnamed,
)
from gateway.log.entry import Entry
from gateway.log.position import Position
from runtime.events import (
    CheckpointSaved,
    Custom,
    EdgeTaken,
    ErrorInfo,
    Event,
    MessageDelta,
    ModelCompleted,
    ModelStarted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    SuperstepCompleted,
    ToolCompleted,
    ToolStarted,
)
from runtime.graph.store import Entry as Kept
from runtime.graph.stream_event import broker_event, shown
from runtime.messages import Usage
from tests.codecs.telling import AT, entries_of, told

R, P = "run_1", ("flow",)
BELOW = ("flow", "outer", "inner_flow")
WHEN = "2025-11-24T16:00:00Z"
BOOM = ErrorInfo(code="node_failed", message="node 'b' failed: Boom", node="b")
HUMAN = ErrorInfo(code="interrupted", message="it waits for a human: ok?", node="b")

RUNNER: list[tuple[Event, dict[str, Any]]] = [
    (
        NodeStarted(run_id=R, path=P, node="a", state={"n": 0}),
        {"type": "node_start", "node_id": "a", "state": {"n": 0}, "timestamp": WHEN},
    ),
    (
        NodeCompleted(run_id=R, path=P, node="a", state={"n": 1}, duration_ms=1.0),
        {"type": "node_end", "node_id": "a", "state": {"n": 1}, "timestamp": WHEN},
    ),
    (
        NodeStarted(run_id=R, path=BELOW, node="x"),
        {"type": "node_start", "node_id": "outer/x", "timestamp": WHEN},
    ),
    (
        EdgeTaken(run_id=R, path=P, source="a", target="b"),
        {"type": "edge_transition", "node_id": "b", "timestamp": WHEN},
    ),
    (
        RunInterrupted(run_id=R, path=P, reason="ok?", node="b", state={"n": 1}, pending=("p",)),
        {"type": "interrupt", "node_id": "b", "state": {"n": 1}, "timestamp": WHEN},
    ),
    (
        RunInterrupted(run_id=R, path=P, reason="approval"),
        {"type": "interrupt", "timestamp": WHEN},
    ),
    (
        RunCompleted(
            run_id=R,
            path=P,
            output="x",
            state={"n": 2},
            usage=Usage(),
            message_count=0,
            num_turns=0,
        ),
        {"type": "completed", "state": {"n": 2}, "timestamp": WHEN},
    ),
    (
        RunFailed(run_id=R, path=P, error=BOOM),
        {"type": "error", "node_id": "b", "error": BOOM.message, "timestamp": WHEN},
    ),
    (
        RunFailed(run_id=R, path=P, error=ErrorInfo(code="x", message="no model")),
        {"type": "error", "error": "no model", "timestamp": WHEN},
    ),
    (
        RunCancelled(run_id=R, path=P, reason="cancel"),
        {"type": "error", "error": "the run was cancelled", "timestamp": WHEN},
    ),
    (
        RunCancelled(run_id=R, path=P, reason="timeout"),
        {"type": "error", "error": "the run was not done in time", "timestamp": WHEN},
    ),
]


def types(*events: Event) -> list[str]:
    frames = told(ChronosCodec(), *events).decode().split("\n\n")[:-1]
    return [json.loads(text.partition("data: ")[2])["type"] for text in frames]


@pytest.mark.rows("C32", "C29", "W-C8")
@pytest.mark.parametrize(("event", "data"), RUNNER)
def test_a_runners_event_is_the_runners_own_object(event: Event, data: dict[str, Any]) -> None:
    (entry,) = entries_of([event])
    body = orjson.dumps({"type": data["type"], "data": data})
    assert frame(entry) == b"data: %b\n\n" % body
    assert frame_named(entry) == b"event: %b\ndata: %b\n\n" % (data["type"].encode(), body)


@pytest.mark.rows("C29", "C32")
def test_a_custom_event_is_its_name_and_payload() -> None:
    event = Custom(run_id=R, name="node_end", payload={"node": "extract", "status": "done"})
    (entry,) = entries_of([event])
    assert frame(entry) == (
        b'data: {"type":"node_end","data":{"node":"extract","status":"done"}}\n\n'
    )
    (silent,) = entries_of([Custom(name="tick")])
    assert frame(silent) == b'data: {"type":"tick","data":null}\n\n'


@pytest.mark.rows("C32")
@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (
            ToolStarted(
                run_id=R, path=P, call_id="c", name="t", arguments="{}", idempotency_key="k"
            ),
            "tool_call",
        ),
        (
            ToolCompleted(run_id=R, path=P, call_id="c", name="t", duration_ms=1),
            "tool_result",
        ),
        (ModelStarted(run_id=R, path=P, turn=1, model="m", message_count=1), "model_call"),
        (ModelCompleted(run_id=R, path=P, turn=1), "model_response"),
        (CheckpointSaved(run_id=R, path=P, checkpoint_id="k"), "checkpoint"),
        (MessageDelta(run_id=R, path=(*P, "a", "bot"), message_id="m", text="x"), "message.delta"),
    ],
)
def test_all_else_is_told_whole_under_a_name_that_chronos_knows_or_its_own(
    event: Event, kind: str
) -> None:
    (entry,) = entries_of([event])
    message = json.loads(frame(entry).removeprefix(b"data: "))
    assert (message["type"], message["data"]["type"]) == (kind, kind)
    assert message["data"]["data"]["run_id"] == R
    assert message["data"].get("node_id") == ("a" if kind == "message.delta" else None)


@pytest.mark.rows("C32")
def test_a_failure_is_one_error_however_many_nodes_it_ends() -> None:
    failed = NodeFailed(run_id=R, path=P, node="b", error=BOOM)
    again = NodeFailed(run_id=R, path=P, node="b", error=BOOM, will_retry=True)
    swept = NodeFailed(run_id=R, path=P, node="c", error=BOOM)
    step = SuperstepCompleted(run_id=R, path=P, index=1, nodes=("b", "c"))
    end = RunFailed(run_id=R, path=P, error=BOOM)
    assert types(again, failed, swept, step, end) == [
        "node.failed",
        "node.failed",
        "node.failed",
        "superstep.completed",
        "error",
    ]


@pytest.mark.rows("C32")
def test_a_node_that_waits_for_a_human_is_no_error() -> None:
    waits = NodeFailed(run_id=R, path=P, node="b", error=HUMAN)
    assert types(waits, RunInterrupted(run_id=R, path=P, reason="ok?", node="b")) == [
        "node.failed",
        "interrupt",
    ]


@pytest.mark.rows("W-C8", "L17")
def test_no_name_can_break_a_frame() -> None:
    (entry,) = entries_of([Custom(name="a\ndata: x\r\0", payload="b\n\nc")])
    body = b'{"type":"a data: x  ","data":"b\\n\\nc"}'
    assert frame(entry) == b"data: %b\n\n" % body
    assert frame_named(entry) == b"event: a data: x  \ndata: %b\n\n" % body


def test_an_event_of_a_newer_version_has_no_word() -> None:
    entry = Entry("s", Position("e", 1, "00000000"), AT, b'{"type":"dream.started"}')
    assert frame(entry) == frame_named(entry) == b""


def test_it_says_what_a_runner_says_to_a_broker_in_the_same_process() -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=AT)
    for event, _ in RUNNER:
        (entry,) = entries_of([event])
        said = broker_event(shown("ses_1", Kept(1, at, event)))
        assert frame(entry) == b"data: %b\n\n" % said.text.encode()


def test_an_event_is_said_once_for_all_readers() -> None:
    (entry,) = entries_of([Custom(name="x")])
    assert entry.encoded(frame) is entry.encoded(frame)
    before = len(entry.memo)
    entry.encoded(frame_named)
    assert len(entry.memo) == before + 1, "the other framing is made of the same message"


def test_what_is_not_an_event_has_the_form_of_one() -> None:
    message = control_frame({"type": "stream.caught_up", "session_id": "s", "cursor": "e.1.x"})
    body = b'{"type":"stream.caught_up","data":{"session_id":"s","cursor":"e.1.x"}}'
    assert unnamed(message) == b"data: %b\n\n" % body
    assert named(message) == b"event: stream.caught_up\ndata: %b\n\n" % body
