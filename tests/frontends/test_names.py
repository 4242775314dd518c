"""Ids of other protocols for our sessions and runs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RunUnknown
from gateway.frontends.names import RunName, session_id_for

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(IDS)
def test_a_name_that_can_be_a_session_id_is_one(name: str) -> None:
    assert session_id_for(name) == name


@given(st.text())
def test_any_other_name_has_a_session_id_of_its_own(name: str) -> None:
    session_id = session_id_for(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", session_id)
    assert session_id == session_id_for(name)
    assert session_id != session_id_for(name + "/")


@given(IDS, IDS, st.integers(0, 999_999))
def test_a_run_is_found_again_by_its_name(session_id: str, run_id: str, segment: int) -> None:
    name = RunName(session_id, run_id, segment)
    assert RunName.parse(str(name)) == name


@pytest.mark.parametrize(
    "text", ["", "a", "a.", ".a", "a.b.", "a.b.c", "a.b.1.2", "a/b.c", "a.b\n"]
)
def test_what_is_no_name_of_a_run_names_no_run(text: str) -> None:
    with pytest.raises(RunUnknown):
        RunName.parse(text)
