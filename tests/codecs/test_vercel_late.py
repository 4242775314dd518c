"""UI message streams that begin when something was said already, or said anew."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.codecs.vercel import UiMessageStream, still_waiting, superseded_in
from gateway.log.entry import Entry
from gateway.log.serde import load
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    ErrorInfo,
    Event,
    MessageCompleted,
    ModelCompleted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RunAttemptStarted,
    RunInterrupted,
    ToolCompleted,
)
from tests.codecs.rules_vercel import Client, check_vercel, chunks_of
from tests.codecs.vercel_events import (
    BROKEN,
    RUN,
    accepted,
    call,
    completed,
    frames,
    kinds,
    message,
    model,
    of_kind,
    started,
    tell,
)
from tests.support.legal_runs import legal_log, segments_of

few = settings(max_examples=60, deadline=None)


def taken_over() -> list[Event]:
    attempt = RunAttemptStarted(**RUN, attempt=2, supersedes=1, from_step=1, reason="restart")
    return [
        accepted(),
        model(),
        *message("m1", "kept "),
        ModelCompleted(**RUN, turn=1),
        model(2),
        ReasoningStarted(**RUN, message_id="r2"),
        ReasoningDelta(**RUN, message_id="r2", text="hm"),
        ReasoningCompleted(**RUN, message_id="r2", text="hm"),
        *message("m2", "lo")[:2],
        *call("c2", "add", "{"),
        MessageCompleted(**RUN, message_id="m2", text="lo", incomplete=True, superseded=True),
        attempt,
        model(2),
        *message("m3", "lost"),
        ModelCompleted(**RUN, turn=2),
        completed("lost"),
    ]


def test_a_stream_that_begins_after_a_take_over_has_no_text_twice() -> None:
    events = taken_over()
    left_out = superseded_in(events)
    assert left_out == {"m2", "r2", "c2"}
    client = Client()
    for chunk in tell(*events, codec=UiMessageStream(superseded=left_out)):
        client.take(chunk)
    assert client.text() == "kept lost"
    assert not client.tools()
    assert "reasoning" not in {part["type"] for part in client.parts}


def test_a_stream_that_was_there_says_what_does_not_count() -> None:
    told = tell(*taken_over())
    [said] = of_kind(told, "data-superseded")
    assert sorted(said["data"]["ids"]) == ["c2", "m2", "r2"]
    after = told[told.index(said) + 1 :]
    assert kinds(after)[:3] == ["tool-output-error", "finish-step", "start-step"]
    assert after[0]["toolCallId"] == "c2"


def test_a_node_that_is_tried_again_says_its_visit_anew_and_others_stay() -> None:
    node = RUN | {"path": ("g",), "node": "n"}
    inner = {"path": ("g", "n", "w")}
    events = [
        accepted(),
        NodeStarted(**node, superstep=1),
        *message("old", "x", **inner),
        NodeCompleted(**node, duration_ms=1),
        NodeStarted(**node, superstep=2),
        model(path=inner["path"]),
        *message("m1", "a", **inner),
        ModelCompleted(**(RUN | inner), turn=1),
        NodeStarted(**(RUN | {"path": ("g",), "node": "o"}), superstep=2),
        *message("other", "o", path=("g", "o", "w")),
        NodeFailed(**node, error=BROKEN, will_retry=True),
        NodeStarted(**node, superstep=2),
        *message("m2", "b", **inner),
        NodeCompleted(**node, duration_ms=1),
    ]
    assert superseded_in(events) == {"m1"}
    waits = NodeFailed(**node, error=ErrorInfo(code="interrupted", message="waits"))
    fails = NodeFailed(**node, error=BROKEN, will_retry=True)
    begun = NodeStarted(**node, superstep=2)
    # It goes on in its visit, which is then tried again as a whole.
    assert superseded_in([begun, *message("m1", "a", **inner), waits, begun, fails]) == {"m1"}
    again = RunAttemptStarted(**RUN, attempt=2, supersedes=1, from_step=0, reason="restart")
    # What a node said that is done stays, also without the end of its model call.
    assert superseded_in([*events, again]) == {"m1", "other"}


def test_what_was_asked_in_a_visit_that_is_tried_again_is_left_out_with_it() -> None:
    node = RUN | {"path": ("g",), "node": "n"}
    inner = {"path": ("g", "n")}
    ask = {"run_id": "run_1", **inner, "approval_id": "apr_1", "call_id": "c1", "tool": "pay"}
    events = [
        accepted(),
        NodeStarted(**node, superstep=1),
        *call("c1", "pay", "{}", **inner),
        ApprovalRequested(**ask),
        ApprovalResolved(run_id="run_1", approval_id="apr_1", decision="approved"),
        started("c1", "pay", path=inner["path"]),
        ToolCompleted(**(RUN | inner), call_id="c1", name="pay", result=1, duration_ms=1),
        NodeFailed(**node, error=BROKEN, will_retry=True),
    ]
    told = tell(*events, codec=UiMessageStream(superseded=superseded_in(events)))
    assert kinds(told) == ["start", "data-node", "data-node"]


# --- streams that begin later ------------------------------------------------------------------


def pauses(entries: Sequence[Entry]) -> list[int]:
    """Return where a run paused and went on, by `seq`."""
    found = [entry.seq for entry in entries if isinstance(load(entry), RunInterrupted)]
    return [seq for seq in found if seq != entries[-1].seq]


@few
@given(random=st.randoms(use_true_random=False))
def test_a_whole_run_is_one_legal_stream(random: Random) -> None:
    for part in segments_of(legal_log(random), whole=True):
        events = [event for entry in part.entries if (event := load(entry)) is not None]
        paused = max(pauses(part.entries), default=0)
        for left_out in (frozenset[str](), superseded_in(events)):
            codec = UiMessageStream(paused=paused, superseded=left_out)
            check_vercel(frames(codec, part.entries), cut=False)


@few
@given(random=st.randoms(use_true_random=False))
def test_a_message_in_pieces_is_the_same_as_the_whole_one(random: Random) -> None:
    for part in segments_of(legal_log(random), whole=True):
        places = [0, *pauses(part.entries)]
        client = Client()
        for place, known in enumerate(places):
            until = places[place + 1] if place + 1 < len(places) else part.entries[-1].seq
            codec = UiMessageStream(known=known, paused=known)
            entries = [entry for entry in part.entries if entry.seq <= until]
            client.end, client.message_id = None, None
            for chunk in chunks_of(frames(codec, entries)):
                client.take(chunk)
        whole = Client()
        for chunk in chunks_of(frames(UiMessageStream(paused=places[-1]), part.entries)):
            whole.take(chunk)
        assert client.parts == whole.parts
        assert client.metadata == whole.metadata
        assert client.end == whole.end


def test_a_client_that_answered_in_part_gets_a_stream_that_is_over() -> None:
    client = Client()
    for chunk in chunks_of(still_waiting("run_1")):
        client.take(chunk)
    assert (client.message_id, client.end, client.reason) == ("run_1", "finish", "tool-calls")
