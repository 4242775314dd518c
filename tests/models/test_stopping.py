"""An answer stops before a stop sequence, however it is cut."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.models.base import Delta, Finish, ReasoningText, Text, ToolCallFragment
from runtime.models.stopping import Stopper, until_stop

letters = st.text("ab", max_size=12)


def shown(pieces: Sequence[str], sequences: Sequence[str]) -> tuple[str, bool]:
    """Return what is shown of an answer, and whether it was stopped."""
    stopper = Stopper(sequences)
    text = "".join(stopper.take(piece) for piece in pieces)
    return text + ("" if stopper.stopped else stopper.rest()), stopper.stopped


def expected(text: str, sequences: Sequence[str]) -> tuple[str, bool]:
    """Say the same of the whole text: the first sequence to be complete ends the answer."""
    for end in range(len(text) + 1):
        found = [s for s in sequences if s and text[:end].endswith(s)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


@given(pieces=st.lists(letters, max_size=8), sequences=st.lists(letters, max_size=4))
@example(["a", "b"], ["ab", "b"])
@example(["ab", "a"], ["aba", "b"])
@pytest.mark.rows("K19")
def test_it_does_not_matter_where_the_text_is_cut(pieces: list[str], sequences: list[str]) -> None:
    assert shown(pieces, sequences) == expected("".join(pieces), sequences)


@given(pieces=st.lists(letters, max_size=8), sequences=st.lists(letters, min_size=1, max_size=4))
def test_no_more_is_held_back_than_may_be_the_beginning_of_a_sequence(
    pieces: list[str], sequences: list[str]
) -> None:
    stopper = Stopper(sequences)
    said, told = "", ""
    for piece in pieces:
        said += piece
        told += stopper.take(piece)
        if stopper.stopped:
            return
        held = said[len(told) :]
        assert said == told + held
        assert held == "" or any(s.startswith(held) and s != held for s in sequences)
        longer = [s[:n] for s in sequences for n in range(len(held) + 1, len(s))]
        assert not any(said.endswith(beginning) for beginning in longer)


def test_empty_sequences_are_ignored() -> None:
    assert shown(["abc"], [""]) == ("abc", False)


async def stopped(*deltas: Delta) -> tuple[list[Delta], list[Delta]]:
    """Return what is heard of an answer that stops before END, and what the provider said of it."""
    said: list[Delta] = []

    async def answer() -> AsyncGenerator[Delta, None]:
        for delta in deltas:
            said.append(delta)
            yield delta

    heard = [delta async for delta in until_stop(answer(), ["END"], model="m")]
    return heard, said


async def test_the_provider_is_not_heard_any_further_than_to_the_sequence() -> None:
    heard, said = await stopped(Text("a END"), Text("b"), Finish("stop"))
    assert heard == [Text("a "), Finish("stop", None, "m")]
    assert said == [Text("a END")]


async def test_the_provider_is_left_before_the_finish_is_told() -> None:
    left: list[str] = []

    async def answer() -> AsyncGenerator[Delta, None]:
        try:
            yield Text("a")
            yield Text("END")
        finally:
            left.append("left")

    async with aclosing(until_stop(answer(), ["END"], model="m")) as deltas:
        assert await anext(deltas) == Text("a")
        assert left == []
        assert await anext(deltas) == Finish("stop", None, "m")
        assert left == ["left"]


async def test_what_comes_between_two_pieces_of_text_does_not_hide_a_sequence() -> None:
    heard, _ = await stopped(Text("a E"), ReasoningText("END"), Text("ND"), Text("b"))
    assert heard == [Text("a "), ReasoningText("END"), Finish("stop", None, "m")]


async def test_tool_calls_that_have_begun_are_heard_to_their_end_without_the_text() -> None:
    call, rest = ToolCallFragment(0, "c", "look", "{"), ToolCallFragment(0, arguments="}")
    end = Finish("tool_calls")
    heard, _ = await stopped(Text("a"), call, Text("END"), Text("b"), rest, end)
    assert heard == [Text("a"), call, rest, end]


async def test_what_was_held_back_is_said_before_the_finish() -> None:
    heard, _ = await stopped(Text("a"), Text("E"), Finish("length"))
    assert heard == [Text("a"), Text("E"), Finish("length")]
