"""Stored bytes: whatever a tool returns, an event becomes one line of JSON and comes back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import sys
import tracemalloc
import uuid
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.log.entry import Entry
from gateway.log.position import NO_TAG, Position
from gateway.log.serde import dump, load
from runtime.events import Event, MessageDelta, RunFailed, ToolCompleted
from runtime.events.base import ErrorInfo

PURE = settings(deadline=None, derandomize=True, database=None)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Part(BaseModel):
    name: str
    cause: Any = None


@dataclasses.dataclass
class Place:
    city: Any


class Colour(enum.Enum):
    RED = "red"


def stored(body: bytes) -> Entry:
    return Entry("s", Position("e", 1, NO_TAG), 0, body)


def dumped(event: Event) -> dict[str, Any]:
    """Dump an event, check that it is one line of JSON that loads back, and return the JSON."""
    body = dump(event)
    assert not {b"\n"[0], b"\r"[0]} & set(body)
    data: dict[str, Any] = json.loads(body.decode())
    assert type(load(stored(body))) is type(event)
    assert dump(load(stored(body)) or event) == body
    return data


def result(value: Any) -> Any:
    """Return what becomes of a tool's result."""
    event = ToolCompleted(run_id="r", call_id="c", name="n", result=value, duration_ms=1)
    return dumped(event).get("result")


def cycle() -> dict[str, Any]:
    loop: dict[str, Any] = {"name": "loop"}
    loop["list"] = [loop]
    return loop


def nested(levels: int) -> list[Any]:
    deep: list[Any] = []
    for _ in range(levels):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": "\ud800", "b": 1}, {"a": "?", "b": 1}),
        ({"\udfff": 1}, {"?": 1}),
        ({1: "one", None: 2, False: 3}, {"1": "one", "null": 2, "false": 3}),
        ({(1, 2): 3, "b": 4}, {"<builtins.tuple>": 3, "b": 4}),
        ({"a": 10**30, "b": 2}, {"a": str(10**30), "b": 2}),
        ([-(10**5000)], ["<builtins.int>"]),
        ([float("nan"), float("inf"), 1.5], [None, None, 1.5]),
        ({3, 1, 2}, [1, 2, 3]),
        ({"a": {1, "b"}, "c": "\ud800"}, {"a": ["b", 1], "c": "?"}),
        (frozenset([frozenset([1])]), [[1]]),
        (b"ab\xff", "ab\ufffd"),
        (dt.datetime(2026, 11, 21, tzinfo=dt.UTC), "2026-11-21T00:00:00+00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Place("Rome"), {"city": "Rome"}),
        (Part(name="x"), {"name": "x"}),
        ("a\u2028b\u0000\r\n", "a\u2028b\u0000\r\n"),
        (None, None),
        (decimal.Decimal(1), "<decimal.Decimal>"),
        ([len], ["<builtins.builtin_function_or_method>"]),
    ],
)
def test_a_value_keeps_what_json_can_say(value: Any, expected: Any) -> None:
    assert result(value) == expected


def test_a_cycle_is_cut_where_it_closes() -> None:
    assert result({"first": 1, "loop": cycle()})["first"] == 1


@pytest.mark.parametrize("levels", [50, 99, 254, 255, 3000])
def test_any_depth_is_stored(levels: int) -> None:
    assert result(nested(levels)) is not None


def test_values_that_cannot_even_be_printed_are_stored() -> None:
    assert len(result({Unprintable(), Unprintable()})) == 2
    assert len(result({"a": {Unprintable()}, "b": "\ud800"})["a"]) == 1


def test_an_event_whose_own_text_is_broken_comes_back() -> None:
    error = ErrorInfo(code="boom", message="half \ud83d", cause=("\udc00",))
    failed = dumped(RunFailed(run_id="r", error=error))
    assert failed["error"]["message"] == "half ?"
    assert failed["error"]["code"] == "boom"
    assert dumped(MessageDelta(run_id="r", message_id="m", text="\ud800"))["text"] == "?"


def test_what_is_absent_is_left_out_and_the_type_comes_first() -> None:
    body = dump(MessageDelta(run_id="r", message_id="m", text="Hel"))
    assert body.startswith(b'{"type":"message.delta",')
    assert b"null" not in body


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ODD_LEAVES = (
    JSON_VALUES
    | st.text(st.characters(categories=["Cs", "Cc", "Zl"]), max_size=3)
    | st.binary(max_size=4)
    | st.datetimes()
    | st.timedeltas()
    | st.decimals()
    | st.complex_numbers()
    | st.sets(st.integers() | st.text(), max_size=3)
    | st.builds(Place, st.text(st.characters(categories=["Cs"])))
    | st.builds(Unprintable)
    | st.functions()
)
ODD_KEYS = (
    st.text(st.characters(categories=["Cs", "Ll"]), max_size=2)
    | st.integers()
    | st.tuples(st.integers())
    | st.none()
)
ODD_VALUES = st.recursive(
    ODD_LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(ODD_KEYS, inner, max_size=3)
        | st.builds(Part, name=st.text(), cause=inner)
    ),
    max_leaves=10,
)


@PURE
@given(ODD_VALUES)
def test_any_value_at_all_is_stored_and_comes_back(value: Any) -> None:
    result(value)


def test_a_type_that_a_newer_version_wrote_is_not_an_error() -> None:
    assert load(stored(b'{"type":"weather.changed","run_id":"r"}')) is None
    assert load(stored(b"not json")) is None


def test_every_event_type_is_dumped_under_its_own_name() -> None:
    union = get_args(Event)[0] if len(get_args(Event)) == 2 else Event
    types = [model.model_fields["type"].default for model in get_args(union)]
    assert len(set(types)) == len(types) > 30


def test_what_is_stored_of_an_event_takes_no_more_memory_than_it_says() -> None:
    event = MessageDelta(run_id="run", path=("agent",), message_id="message", text="a ")
    dump(event)
    tracemalloc.start()
    try:
        stored = [dump(event) for _ in range(100)]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 2 * sum(map(sys.getsizeof, stored))
