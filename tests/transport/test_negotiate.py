"""Which representation a request gets, and from where. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CursorMalformed
from gateway.log.position import Position
from gateway.transports.negotiate import EVENT_STREAM, JSON, NDJSON, after_of, choose

EVENTS = (EVENT_STREAM, NDJSON, JSON)


@pytest.mark.rows("W-L6")
@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, EVENT_STREAM),
        ("", EVENT_STREAM),
        ("*/*", EVENT_STREAM),
        ("text/event-stream", EVENT_STREAM),
        ("application/json", JSON),
        ("application/x-ndjson", NDJSON),
        ("Application/JSON", JSON),
        ("application/*", NDJSON),
        ("text/html, application/json;q=0.9, */*;q=0.1", JSON),
        ("application/json;q=0.5, text/event-stream;q=0.4", JSON),
        ("*/*, text/event-stream;q=0", NDJSON),
        ("application/json; charset=utf-8 ; q=1.0", JSON),
        ("text/html", None),
        ("text/event-stream;q=0", None),
        ("Text/Event-Stream", EVENT_STREAM),
        ("application/json;q=x", None),
        (",,;", None),
    ],
)
def test_the_best_liked_type_is_chosen(accept: str | None, chosen: str | None) -> None:
    assert choose(accept, EVENTS) == chosen


@given(st.text())
def test_no_header_breaks_the_choice(accept: str) -> None:
    assert choose(accept, EVENTS) in {None, *EVENTS}


@pytest.mark.rule("sse.resume")
def test_the_header_wins_over_the_query() -> None:
    cursor = "e.1.00000000"
    assert after_of(cursor, "0") == Position("e", 1, "00000000")
    assert after_of(None, "0") == "0"
    assert after_of("", "$") == "$"
    assert after_of(None, None) is None
    with pytest.raises(CursorMalformed):
        after_of("x", "0")
