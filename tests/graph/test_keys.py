"""Keys: what they keep, what they refuse, and how they are written."""

from __future__ import annotations

import datetime as dt
import math
import operator
import uuid
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from runtime.errors import CheckpointUnwritable, UpdateInvalid
from runtime.graph import Key, ListKey, View, get, get_list

STATUS = Key("status", "")
COUNTER = Key("counter", 0)
VERBOSE = Key("verbose", False)
ITEMS: ListKey[str] = ListKey("items", str)


class Document(BaseModel):
    """A model of the tests."""

    title: str
    written: dt.datetime


class Colour(Enum):
    """An enumeration of the tests."""

    RED = "red"


class Handle:
    """Something that cannot be written as JSON."""


def view(*keys: Key[Any], **values: Any) -> View:
    return View({key.name: key for key in keys}, values)


@pytest.mark.rows("A5", "A11")
def test_a_key_that_nobody_wrote_has_its_default() -> None:
    state = view(STATUS, COUNTER, VERBOSE, ITEMS)

    assert (get(state, STATUS), get(state, COUNTER), get(state, VERBOSE)) == ("", 0, False)
    assert get_list(state, ITEMS) == []


@pytest.mark.rows("A5")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (STATUS, 1),
        (COUNTER, "1"),
        (COUNTER, 1.5),
        (VERBOSE, "yes"),
        (VERBOSE, 1),
        (Key("document", None, type=Document), {"title": "x"}),
        (Key("counts", {}, type=dict[str, int]), {"a": "b"}),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(key: Key[Any], value: Any) -> None:
    with pytest.raises(UpdateInvalid, match=repr(key.name)) as refused:
        key.check(value)

    assert refused.value.key == key.name


@pytest.mark.rows("A6")
def test_a_list_key_is_appended_to_and_says_so() -> None:
    assert ITEMS.check_items(["a", "b"]) == ("a", "b")
    with pytest.raises(UpdateInvalid, match="use append"):
        ITEMS.check(["a"])
    with pytest.raises(UpdateInvalid, match="'items'"):
        ITEMS.check_items([1])
    with pytest.raises(UpdateInvalid, match="give the items to append, not a str"):
        ITEMS.check_update("ab")


@pytest.mark.rows("A11", "CX7")
def test_what_is_read_may_be_changed_without_changing_the_state() -> None:
    settings = Key("settings", {"deep": [1]})
    state = view(ITEMS, settings, items=("a",), settings={"deep": [1, {2}]})

    state[settings]["deep"].append(3)
    state[ITEMS].append("b")
    view(settings)[settings]["deep"].append(4)

    assert state[settings] == {"deep": [1, {2}]}
    assert state[ITEMS] == ["a"]
    assert view(settings)[settings] == {"deep": [1]}


def test_what_is_written_may_be_changed_later_without_changing_the_state() -> None:
    settings: Key[dict[str, Any]] = Key("settings", {}, type=dict)
    given_list = [1]
    kept = settings.check({"deep": given_list})

    given_list.append(2)

    assert kept == {"deep": [1]}


def test_reading_a_key_that_the_graph_does_not_have_says_which() -> None:
    with pytest.raises(KeyError, match="'counter' is not declared"):
        view(STATUS).get(COUNTER)
    with pytest.raises(KeyError, match="'other' is not declared"):
        view(STATUS)["other"]


def test_a_view_tells_what_was_written() -> None:
    state = view(STATUS, COUNTER, status="on")

    assert STATUS in state
    assert "counter" not in state
    assert list(state) == ["status", "counter"]
    assert state.as_dict() == {"status": "on"}
    assert state["status"] == "on"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (Key("at", None, type=dt.datetime), dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)),
        (Key("id", None, type=uuid.UUID), uuid.UUID(int=7)),
        (Key("bytes", b""), b"\x00\xff"),
        (Key("pair", (0, ""), type=tuple[int, str]), (1, "a")),
        (Key("set", set(), type=set[int]), {1, 2}),
        (Key("colour", Colour.RED), Colour.RED),
        (Key("counts", {}, type=dict[int, float]), {1: 0.5}),
        (
            Key("document", None, type=Document),
            Document(title="t", written=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        ),
        (Key("text", ""), "naïve ✓ 😀"),
        (Key("best", 0.0), math.inf),
        (Key("worst", None, type=dict[str, float]), {"loss": -math.inf}),
        (Key("large", 0), 2**70),
        (Key("small", None, type=dict[str, int]), {"n": -(2**63) - 1, "m": 2**64 - 1}),
        (ListKey("times", dt.date), (dt.date(2026, 1, 1),)),
        (ListKey("words", str), ("ab", "cd")),
    ],
)
def test_what_is_written_as_json_is_read_back_as_it_was(key: Key[Any], value: Any) -> None:
    assert key.load(key.store(value)) == value
    assert key.load(key.dump(value)) == value


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.text().filter(lambda s: s.isprintable()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet="abc"), inner),
    )
)
def test_any_plain_value_is_read_back_as_it_was(value: Any) -> None:
    key = Key("any", None)

    assert key.load(key.store(key.check(value))) == value


def test_what_cannot_be_written_is_refused_for_good_and_replaced_in_events() -> None:
    key = Key("handle", None, type=Handle)
    value = key.check(Handle())

    with pytest.raises(CheckpointUnwritable, match="'handle'") as refused:
        key.store(value)
    assert refused.value.key == "handle"
    assert key.dump(value) == "<Handle>"
    assert ListKey("handles", Handle).dump((value,)) == ["<Handle>"]
    assert Key("text", "").dump("\ud800") == "?"


def test_data_from_outside_is_taken_strictly() -> None:
    with pytest.raises(UpdateInvalid, match="'counter'"):
        COUNTER.load("1", strict=True)
    with pytest.raises(UpdateInvalid, match="'items'"):
        ITEMS.load("ab")


def test_a_reducer_is_part_of_the_key() -> None:
    total = Key("total", 0, reducer=operator.add)

    assert total.reducer is operator.add
    assert not total.replaces
    assert repr(total) == "Key('total')"
    assert repr(ITEMS) == "ListKey('items')"
