"""Events survive a trip through JSON, and the union is closed."""

from __future__ import annotations

from typing import get_args

import orjson
import pytest
from pydantic import ValidationError

from runtime.events import EVENT, Event
from tests.runtime.samples import SAMPLES


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.type)
def test_an_event_survives_a_trip_through_json(event: Event) -> None:
    text = event.model_dump_json(exclude_none=True)
    assert EVENT.validate_json(text) == event
    assert EVENT.validate_python(orjson.loads(text)) == event


def test_there_is_a_sample_of_every_type() -> None:
    union = get_args(get_args(Event)[0])
    assert {type(event) for event in SAMPLES} == set(union)
    assert len({event.type for event in SAMPLES}) == len(union)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"run\.exploded"):
        EVENT.validate_python({"type": "run.exploded", "run_id": "run_1"})


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        EVENT.validate_python({"type": "session.closed", "reason": "x", "secret": 1})
