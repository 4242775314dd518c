"""Random legal runs as responses: every segment is one, and OpenAI's own client adds each up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any, cast

import pytest
from openai import omit
from openai._models import construct_type_unchecked
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from gateway.codecs.codec import Frame
from gateway.codecs.openai.responses import Responses, Whole
from gateway.log.serde import load
from runtime.events import Event, RunInterrupted, RunResumed
from tests.codecs.rules_responses import check_responses
from tests.support.legal_runs import Segment, legal_log, segments_of

SEEDS = range(40)


def runs_of(seed: int) -> list[Segment]:
    return segments_of(legal_log(Random(seed)), whole=True)  # noqa: S311 - repeatable


def told(run: Segment, segment: int) -> list[Frame]:
    codec = Responses(segment)
    state, frames = codec.begin(), list[Frame]()
    for entry in run.entries:
        event = load(entry)
        assert event is not None
        state, more = codec.encode(state, event, entry)
        frames += more
    return frames


def gone_on(events: Sequence[Event | None]) -> list[bool]:
    """Return, for each resumption, whether there was a pause before it."""
    of_pauses = [event for event in events if isinstance(event, RunInterrupted | RunResumed)]
    return [
        isinstance(before, RunInterrupted)
        for before, event in pairwise([None, *of_pauses])
        if isinstance(event, RunResumed)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_segment_of_a_run_is_a_response(seed: int) -> None:
    for run in runs_of(seed):
        events = [load(entry) for entry in run.entries]
        segments = 1 + sum(gone_on(events))
        ids = set()
        for segment in range(segments):
            frames = told(run, segment)
            check_responses(frames, was_cut=False)
            whole = Whole(Responses(segment))
            for entry in run.entries:
                whole.feed(entry)
            assert whole.over
            last = json.loads(frames[-1].data)["response"]
            assert whole.object() == last
            ids.add(last["id"])
            if segment < segments - 1:
                assert last["status"] == "completed"
        assert len(ids) == segments
        assert told(run, segments) == []
        assert segments <= 1 + sum(isinstance(event, RunInterrupted) for event in events)


@pytest.mark.parametrize("seed", SEEDS)
def test_openais_client_adds_up_what_it_is_told(seed: int) -> None:
    for run in runs_of(seed):
        accumulated: Any = ResponseStreamState(input_tools=(), text_format=omit)
        final: Any = None
        for frame in told(run, 0):
            event: Any = construct_type_unchecked(
                type_=cast("Any", ResponseStreamEvent), value=json.loads(frame.data)
            )
            accumulated.handle_event(event)
            final = event
        if final.type == "response.completed":
            done = [item.to_dict() for item in accumulated._completed_output.values()]
            assert all(item in done for item in final.response.to_dict()["output"])
