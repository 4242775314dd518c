"""What all codecs promise: legal messages for every legal run, each event told or knowingly not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.codecs.codec import Codec, Frame, Projection
from gateway.codecs.framing import bare, sse
from gateway.log.entry import Entry
from gateway.log.serde import load
from runtime.boundaries import Boundaries
from runtime.events import RUN_ENDS, ErrorInfo, Event
from tests.support.codecs import CASES, Case
from tests.support.legal_runs import Segment, legal_log, segments_of

EVERY_TYPE = frozenset(kind.model_fields["type"].default for kind in get_args(get_args(Event)[0]))
OUTSIDE_RUNS = frozenset({"session.created", "session.closed", "input.reordered"})
SEEDS = 150

all_codecs = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def corpus() -> list[Segment]:
    return [part for log in logs() for part in segments_of(log)]


@cache
def logs() -> list[list[Event]]:
    return [legal_log(Random(seed)) for seed in range(SEEDS)]  # noqa: S311 - repeatable


def tell(codec: Codec[Any], entries: Sequence[Entry]) -> list[list[Frame]]:
    """Return the messages of each entry."""
    state, told = codec.begin(), []
    for entry in entries:
        event = load(entry)
        assert event is not None
        state, frames = codec.encode(state, event, entry)
        told.append(list(frames))
    return told


def flat(told: Sequence[Sequence[Frame]]) -> list[Frame]:
    return [frame for frames in told for frame in frames]


def test_the_random_logs_hold_every_type_of_event() -> None:
    assert {event.type for log in logs() for event in log} == EVERY_TYPE


def test_the_random_logs_close_what_they_open() -> None:
    for log in logs():
        opened = Boundaries()
        for event in log:
            opened.note(event)
            if isinstance(event, RUN_ENDS):
                assert opened.closing(ErrorInfo(code="x", message="x")) == []


@all_codecs
@few
@given(random=st.randoms(use_true_random=False))
def test_every_legal_run_is_told_in_legal_order(case: Case, random: Random) -> None:
    log = legal_log(random)
    for part in segments_of(log):
        case.check(flat(tell(case.codec, part.entries)), False)
    if case.whole:
        for part in segments_of(log, whole=True):
            case.check(flat(tell(case.codec, part.entries)), False)


@all_codecs
@few
@given(random=st.randoms(use_true_random=False), data=st.data())
def test_a_stream_that_is_cut_anywhere_says_so_in_legal_order(
    case: Case, random: Random, data: st.DataObject
) -> None:
    part = data.draw(st.sampled_from(segments_of(legal_log(random))))
    length = data.draw(st.integers(0, len(part.entries) - 1))
    projection = Projection(case.codec, bare)
    for entry in part.entries[:length]:
        projection.feed(entry)
    told = flat(tell(case.codec, part.entries[:length]))
    case.check([*told, *case.codec.cut(projection.state, "shutdown")], True)


@all_codecs
def test_each_type_of_event_is_told_or_knowingly_not(case: Case) -> None:
    said: set[str] = set()
    for part in corpus():
        for entry, frames in zip(part.entries, tell(case.codec, part.entries), strict=True):
            event = load(entry)
            assert event is not None
            if frames:
                said.add(event.type)
    assert said.isdisjoint(case.silent)
    assert said | case.silent | OUTSIDE_RUNS == EVERY_TYPE


@all_codecs
def test_many_readers_cost_one_encoding(case: Case) -> None:
    entries = corpus()[0].entries
    counting = Counting(case.codec)
    readers = [Projection(counting, sse) for _ in range(50)]
    streams = [[b"".join(reader.feed(entry)) for entry in entries] for reader in readers]
    assert counting.calls == len(entries)
    assert all(stream == streams[0] for stream in streams)


@all_codecs
def test_what_was_told_depends_on_nothing_but_the_events(case: Case) -> None:
    for part in corpus()[:40]:
        first = tell(case.codec, part.entries)
        assert tell(case.codec, part.entries) == first


@all_codecs
def test_a_message_is_one_line(case: Case) -> None:
    for part in corpus():
        for frame in flat(tell(case.codec, part.entries)):
            assert b"\n" not in frame.data
            assert b"\r" not in frame.data
            assert not set(frame.event or "") & set("\r\n\0")


class Counting:
    """A codec that counts how often it is asked."""

    def __init__(self, codec: Codec[Any]) -> None:
        self._codec = codec
        self.calls = 0

    def begin(self) -> Any:
        return self._codec.begin()

    def encode(self, state: Any, event: Event, entry: Entry) -> tuple[Any, Sequence[Frame]]:
        self.calls += 1
        return self._codec.encode(state, event, entry)

    def cut(self, state: Any, reason: str) -> Sequence[Frame]:
        return self._codec.cut(state, reason)
