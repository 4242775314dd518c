"""Merging deltas loses nothing and keeps the order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.sessions.deltas import Delta, DeltaBuffer
from runtime.events import MessageDelta, ReasoningDelta, ToolCallDelta

DELTA = st.one_of(
    st.builds(MessageDelta, run_id=st.just("r"), message_id=st.sampled_from("ab"), text=st.text()),
    st.builds(
        ReasoningDelta, run_id=st.just("r"), message_id=st.sampled_from("ab"), text=st.text()
    ),
    st.builds(
        ToolCallDelta, run_id=st.just("r"), call_id=st.sampled_from("ab"), arguments=st.text()
    ),
)


def spread(deltas: list[Delta]) -> list[tuple[str, str, str]]:
    """Return every character with where it belongs."""
    found: list[tuple[str, str, str]] = []
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            found += [(delta.type, delta.call_id, letter) for letter in delta.arguments]
        else:
            found += [(delta.type, delta.message_id, letter) for letter in delta.text]
    return found


@given(st.lists(DELTA))
def test_every_character_comes_out_once_and_in_order(deltas: list[Delta]) -> None:
    buffer = DeltaBuffer()
    for delta in deltas:
        buffer.add(delta)
    merged = buffer.take()
    assert spread(merged) == spread(deltas)
    assert len(merged) <= len(deltas)
    assert buffer.take() == []
    assert buffer.size == 0


def test_only_the_first_delta_of_a_message_is_urgent() -> None:
    buffer = DeltaBuffer()
    one = MessageDelta(run_id="r", message_id="a", text="x")
    other = MessageDelta(run_id="r", message_id="b", text="x")
    assert [buffer.add(delta) for delta in (one, one, other, one)] == [True, False, True, False]
    buffer.take()
    assert not buffer.add(one)
    buffer.reset()
    assert buffer.add(one)
