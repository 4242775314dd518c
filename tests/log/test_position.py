"""Cursors: every position survives its text, and nothing else is read as one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import CursorMalformed
from gateway.log.position import Position, parse_after

POSITIONS = st.builds(
    Position,
    st.from_regex(r"[A-Za-z0-9]{1,16}", fullmatch=True),
    st.integers(0, 10**16 - 1),
    st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
)
PURE = settings(deadline=None, derandomize=True, database=None)


@pytest.mark.rule("cursor.form")
@PURE
@given(POSITIONS)
def test_a_position_survives_its_text_form_which_is_short_and_printable(
    position: Position,
) -> None:
    cursor = str(position)
    assert Position.parse(cursor) == parse_after(cursor) == position
    assert len(cursor) <= 64
    assert cursor.isascii()
    assert cursor.isprintable()
    assert " " not in cursor


@PURE
@given(st.text() | POSITIONS.map(lambda position: f"{position}\n"))
def test_any_other_text_is_refused_or_reads_back_as_itself(text: str) -> None:
    try:
        assert str(Position.parse(text)) == text
    except CursorMalformed:
        assert True


@pytest.mark.parametrize(
    "text",
    [
        "k3f9aa.1",
        "k3f9aa.01.9b1c77e0",
        "k3f9aa.-1.9b1c77e0",
        "k3f9aa.+1.9b1c77e0",
        "k3f9aa.1.9B1C77E0",
        "k3f9aa.1.9b1c77e",
        "k3f9aa.1.9b1c77e01",
        ".1.9b1c77e0",
        "k3f9aaaaaaaaaaaaa.1.9b1c77e0",
        "k3f9aa.12345678901234567.9b1c77e0",
        "k3f9aa.\u0661.9b1c77e0",
        "k\u00e9.1.9b1c77e0",
        " k3f9aa.1.9b1c77e0",
        "k3f9aa.1.9b1c77e0 ",
        "k3f9aa.1.9b1c77e0\n",
        "$$",
        "00",
        "-1",
        "null",
    ],
)
def test_what_nobody_gave_is_refused(text: str) -> None:
    with pytest.raises(CursorMalformed):
        Position.parse(text)
    with pytest.raises(CursorMalformed):
        parse_after(text)


def test_the_short_forms_stand_for_start_end_and_snapshot() -> None:
    assert parse_after("0") == "0"
    assert parse_after("$") == "$"
    assert parse_after(None) is None
    assert parse_after("") is None
