"""What a client makes of a server's words: pure."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.client.wire import end_told_by, read_event
from runtime.events import (
    MessageDelta,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunStarted,
)

DELTA = {
    "v": 1,
    "type": "message.delta",
    "session_id": "s",
    "seq": 4,
    "cursor": "e.4.t",
    "ts": "2026-11-21T02:00:00.123Z",
    "run_id": "r",
    "path": ["agent"],
    "message_id": "m",
    "text": "Hel",
}


def test_an_event_is_read_without_the_fields_of_the_log() -> None:
    assert read_event(DELTA) == MessageDelta(
        run_id="r", path=("agent",), message_id="m", text="Hel"
    )


def test_fields_of_a_newer_server_are_left_out() -> None:
    event = read_event({**DELTA, "mood": "good", "weight": {"a": 1}})
    assert isinstance(event, MessageDelta)
    failed = read_event(
        {
            "type": "run.failed",
            "run_id": "r",
            "error": {"code": "x", "message": "y", "since": "v2"},
            "more": 1,
        }
    )
    assert isinstance(failed, RunFailed)
    assert failed.error.message == "y"


@pytest.mark.parametrize(
    "message",
    [{"type": "message.sung", "run_id": "r"}, {**DELTA, "text": 7}, {"type": "message.delta"}],
)
def test_what_cannot_be_read_is_no_event(message: dict[str, Any]) -> None:
    assert read_event(message) is None


def snapshot(status: str, **more: Any) -> dict[str, Any]:
    return {
        "run": {"run_id": "r", "status": status, **more},
        "queue": [{"run_id": "q"}],
        "messages": [{"run_id": "old", "role": "assistant", "text": "before"}],
        "approvals": [{"approval_id": "apr_1"}],
        "usage": None,
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("completed", RunCompleted),
        ("failed", RunFailed),
        ("cancelled", RunCancelled),
        ("interrupted", RunInterrupted),
        ("running", type(None)),
        ("queued", type(None)),
    ],
)
def test_a_snapshot_tells_how_a_run_ended(status: str, kind: type) -> None:
    assert type(end_told_by(snapshot(status), "r")) is kind


def test_a_snapshot_tells_of_runs_that_wait_and_of_those_that_are_long_over() -> None:
    told = snapshot("running")
    assert end_told_by(told, "q") is None
    over = end_told_by(told, "old")
    assert isinstance(over, RunCompleted)
    assert over.output == "before"
    with pytest.raises(LookupError):
        end_told_by(told, "never")


def test_an_unknown_status_goes_on() -> None:
    assert end_told_by(snapshot("pondering"), "r") is None
    assert isinstance(read_event({"type": "run.started", "run_id": "r"}), RunStarted)
