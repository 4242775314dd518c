"""What is opened is closed."""

from __future__ import annotations

import pytest

from runtime.boundaries import Boundaries
from runtime.events import (
    AgentCompleted,
    AgentStarted,
    ApprovalRequested,
    ApprovalResolved,
    ErrorInfo,
    Event,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    SuperstepCompleted,
    SuperstepStarted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)
from tests.runtime.support import still_open

R = "run_1"
P = ("root", "child")
ERROR = ErrorInfo(code="cancelled", message="the run was cancelled")

OPENING: list[Event] = [
    AgentStarted(run_id=R, path=P, agent="a", step="s"),
    SuperstepStarted(run_id=R, path=P, index=1, nodes=("n",)),
    NodeStarted(run_id=R, path=P, node="n"),
    ReasoningStarted(run_id=R, path=P, message_id="r"),
    ReasoningDelta(run_id=R, path=P, message_id="r", text="let me "),
    ReasoningDelta(run_id=R, path=P, message_id="r", text="see"),
    MessageStarted(run_id=R, path=P, message_id="m"),
    MessageDelta(run_id=R, path=P, message_id="m", text="Hel"),
    MessageDelta(run_id=R, path=P, message_id="m", text="lo"),
    ToolCallStarted(run_id=R, path=P, call_id="c", name="t"),
    ToolCallDelta(run_id=R, path=P, call_id="c", arguments='{"a'),
    ToolStarted(run_id=R, path=P, call_id="t", name="t", arguments="{}", idempotency_key="k"),
    ApprovalRequested(run_id=R, path=P, approval_id="apr", call_id="x"),
]


def noted(*events: Event) -> Boundaries:
    boundaries = Boundaries()
    for event in events:
        boundaries.note(event)
    return boundaries


@pytest.mark.rule("run.boundaries")
def test_closing_closes_all_that_is_open_with_what_was_said() -> None:
    boundaries = noted(*OPENING)
    assert boundaries.closing(ERROR) == [
        ReasoningCompleted(run_id=R, path=P, message_id="r", text="let me see"),
        ToolCallReady(run_id=R, path=P, call_id="c", name="t", arguments='{"a'),
        MessageCompleted(run_id=R, path=P, message_id="m", text="Hello", incomplete=True),
        ToolFailedEvent(run_id=R, path=P, call_id="t", name="t", error=ERROR),
        ApprovalResolved(
            run_id=R,
            path=P,
            approval_id="apr",
            decision="expired",
            message="the run was cancelled",
        ),
        NodeFailed(run_id=R, path=P, node="n", error=ERROR),
        SuperstepCompleted(run_id=R, path=P, index=1, nodes=("n",)),
        AgentCompleted(run_id=R, path=P, agent="a", step="s"),
    ]


def test_after_the_closing_events_nothing_is_open() -> None:
    boundaries = noted(*OPENING)
    assert len(still_open(boundaries)) == 8
    for event in boundaries.closing(ERROR):
        boundaries.note(event)
    assert still_open(boundaries) == []
    assert boundaries.closing(ERROR) == []


def test_superseding_closes_speech_and_work_but_leaves_tools_and_approvals_open() -> None:
    boundaries = noted(*OPENING)
    events = boundaries.superseding(ERROR)
    assert (
        MessageCompleted(
            run_id=R, path=P, message_id="m", text="Hello", incomplete=True, superseded=True
        )
        in events
    )
    for event in events:
        boundaries.note(event)
    assert still_open(boundaries) == ["t", "apr"]


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        (OPENING[0], AgentCompleted(run_id=R, path=P, agent="a")),
        (OPENING[1], SuperstepCompleted(run_id=R, path=P, index=1, nodes=("n",))),
        (OPENING[2], NodeCompleted(run_id=R, path=P, node="n", duration_ms=1)),
        (OPENING[2], NodeFailed(run_id=R, path=P, node="n", error=ERROR)),
        (OPENING[3], ReasoningCompleted(run_id=R, path=P, message_id="r", text="")),
        (OPENING[6], MessageCompleted(run_id=R, path=P, message_id="m", text="")),
        (OPENING[9], ToolCallReady(run_id=R, path=P, call_id="c", name="t", arguments="")),
        (
            OPENING[11],
            ToolCompleted(run_id=R, path=P, call_id="t", name="t", result=1, duration_ms=1),
        ),
        (OPENING[11], ToolFailedEvent(run_id=R, path=P, call_id="t", name="t", error=ERROR)),
        (OPENING[11], ToolUnknownOutcome(run_id=R, path=P, call_id="t", name="t")),
        (OPENING[12], ApprovalResolved(run_id=R, path=P, approval_id="apr", decision="approved")),
    ],
    ids=lambda event: event.type,
)
def test_an_opening_event_is_closed_by_its_closing_one(opening: Event, closing: Event) -> None:
    boundaries = noted(opening)
    assert len(still_open(boundaries)) == 1
    boundaries.note(closing)
    assert still_open(boundaries) == []


@pytest.mark.parametrize(
    ("opening", "failing"),
    [
        (OPENING[2], NodeFailed(run_id=R, path=P, node="n", error=ERROR, will_retry=True)),
        (
            OPENING[11],
            ToolFailedEvent(run_id=R, path=P, call_id="t", name="t", error=ERROR, will_retry=True),
        ),
    ],
    ids=lambda event: event.type,
)
def test_a_failure_that_is_retried_closes_nothing(opening: Event, failing: Event) -> None:
    assert len(still_open(noted(opening, failing))) == 1


def test_the_same_node_in_two_paths_is_two_nodes() -> None:
    boundaries = noted(
        NodeStarted(run_id=R, path=("a",), node="n"),
        NodeStarted(run_id=R, path=("b",), node="n"),
        NodeCompleted(run_id=R, path=("a",), node="n", duration_ms=1),
    )
    assert still_open(boundaries) == [(("b",), "n")]


def test_inner_nodes_are_closed_before_outer_ones() -> None:
    boundaries = noted(
        NodeStarted(run_id=R, path=("a",), node="outer"),
        NodeStarted(run_id=R, path=("a", "outer"), node="inner"),
    )
    closing = boundaries.closing(ERROR)
    assert [event.node for event in closing if isinstance(event, NodeFailed)] == ["inner", "outer"]
