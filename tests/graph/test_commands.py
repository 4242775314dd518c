"""Commands: writes and targets, immutable and chained."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import UpdateInvalid
from runtime.graph import END, Command, Key, ListKey, append, set_, to
from runtime.graph.command import writes_of

STATUS = Key("status", "")
ITEMS: ListKey[str] = ListKey("items", str)
KEYS: dict[str, Key[Any]] = {"status": STATUS, "items": ITEMS}


@pytest.mark.rows("A10")
def test_calls_are_chained_and_several_targets_may_be_given() -> None:
    command = set_(STATUS, "on").append(ITEMS, "a", "b").append(ITEMS, "c").to("x", "y").to(END)

    assert command.writes == {STATUS: "on", ITEMS: ("a", "b", "c")}
    assert command.targets == ("x", "y", END)
    assert append(ITEMS, "a").to(END).writes == {ITEMS: ("a",)}
    assert to("x").targets == ("x",)
    assert Command().targets is None


@pytest.mark.rows("A10")
def test_a_command_never_changes() -> None:
    first = Command().set(STATUS, "one")
    second = first.set(STATUS, "two")
    first.append(ITEMS, "lost")

    assert first.writes == {STATUS: "one"}
    assert second.writes == {STATUS: "two"}
    with pytest.raises(AttributeError):
        first.targets = ("x",)
    assert repr(second) == "Command({'status': 'two'}, to=None)"


@pytest.mark.rows("A5", "A6")
def test_writes_are_checked_at_once() -> None:
    with pytest.raises(UpdateInvalid, match="'status'"):
        Command().set(STATUS, 3)  # type: ignore[misc]  # that is the point
    with pytest.raises(UpdateInvalid, match=r"'items'.*use append"):
        Command().set(ITEMS, ["a"])
    with pytest.raises(UpdateInvalid, match=r"'status'.*use set"):
        Command().append(STATUS, "a")  # type: ignore[arg-type]  # as above


@pytest.mark.rows("A7")
def test_a_key_that_is_not_declared_is_refused_by_name() -> None:
    with pytest.raises(UpdateInvalid, match=r"'other'.*declared are: 'status', 'items'"):
        writes_of(set_(Key("other", 0), 1), KEYS)
    with pytest.raises(UpdateInvalid, match="'other'"):
        writes_of({"other": 1}, KEYS)


def test_a_mapping_writes_by_name_or_by_key() -> None:
    assert writes_of({"status": "on", ITEMS: ["a"]}, KEYS) == {STATUS: "on", ITEMS: ("a",)}
    assert writes_of(None, KEYS) == {}
    with pytest.raises(UpdateInvalid, match="'status'"):
        writes_of({"status": 1}, KEYS)


def test_a_namesake_of_a_declared_key_is_checked_as_that_one() -> None:
    assert writes_of(set_(Key("status", "", type=str), "on"), KEYS) == {STATUS: "on"}
    with pytest.raises(UpdateInvalid, match="'status'"):
        writes_of(set_(Key("status", 0), 1), KEYS)


def test_other_answers_are_refused_with_what_is_wanted() -> None:
    with pytest.raises(TypeError, match="a Command, a mapping of updates or None, not int"):
        writes_of(3, KEYS)
