"""Which part of a conversation fits the context. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelRefused
from runtime.messages import Message, ToolCall
from runtime.models.local_window import fit


def words(message: Message) -> int:
    return len(message.content.split())


def system(text: str) -> Message:
    return Message(role="system", content=text)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def assistant(text: str, *calls: str) -> Message:
    asked = tuple(ToolCall(id=call, name="look", arguments="{}") for call in calls)
    return Message(role="assistant", content=text, tool_calls=asked)


def answer(call: str, text: str) -> Message:
    return Message(role="tool", content=text, tool_call_id=call)


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.content for message in messages]


def test_a_conversation_that_fits_is_left_alone() -> None:
    whole = (system("be kind"), user("one two"), assistant("three"), user("four"))
    assert fit(whole, 6, words) == whole


def test_the_oldest_turn_goes_first_and_goes_whole() -> None:
    whole = (
        system("be kind"),
        user("old question"),
        assistant("", "c1"),
        answer("c1", "found it"),
        assistant("old answer"),
        user("newer question"),
        assistant("newer answer"),
        user("now"),
    )
    assert texts(fit(whole, 12, words)) == ["be kind", "newer question", "newer answer", "now"]


def test_system_messages_and_the_last_question_stay_whatever_else_goes() -> None:
    whole = (system("be kind"), user("a b c d"), assistant("e f g h"), user("now"))
    assert texts(fit(whole, 3, words)) == ["be kind", "now"]


def test_finished_steps_after_the_last_question_go_when_turns_before_it_are_not_enough() -> None:
    whole = (
        user("old"),
        assistant("words words"),
        user("find"),
        assistant("", "c1"),
        answer("c1", "a b c d"),
        assistant("", "c2"),
        answer("c2", "e f"),
    )
    assert texts(fit(whole, 3, words)) == ["find", "", "e f"]


def test_the_answers_that_the_model_waits_for_are_not_left_out() -> None:
    whole = (user("find"), assistant("", "c1"), answer("c1", "a b c d"))
    with pytest.raises(ModelRefused):
        fit(whole, 4, words)


def test_a_question_that_is_too_long_alone_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModelRefused, match="takes 7 tokens, and 5 fit"):
        fit((system("be kind"), user("old"), assistant("x"), user("a b c d e")), 5, words)


def test_a_greeting_before_the_first_question_can_go_too() -> None:
    assert texts(fit((assistant("hello there"), user("now")), 2, words)) == ["now"]


def test_the_cut_moves_seldom_so_that_the_server_need_not_read_everything_each_turn() -> None:
    whole: list[Message] = [system("be kind")]
    starts: list[str] = []
    for turn in range(100):
        whole.append(user(f"question {turn}"))
        starts.append(texts(fit(whole, 42, words))[1])
        whole.append(assistant(f"answer {turn}"))
    moved = sum(before != after for before, after in pairwise(starts))
    assert starts[9] == "question 0"
    assert 400 / 42 < moved <= 400 / 21


text = st.integers(0, 6).map(lambda count: "w " * count)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Return a legal conversation: turns of steps, some with tool calls, maybe unfinished."""
    messages = [system(draw(text)) for _ in range(draw(st.integers(0, 2)))]
    call = 0
    for _ in range(draw(st.integers(1, 5))):
        messages.append(user(draw(text)))
        for _ in range(draw(st.integers(0, 3))):
            calls = [f"c{call + i}" for i in range(draw(st.integers(0, 2)))]
            call += len(calls)
            messages.append(assistant(draw(text), *calls))
            messages += [answer(each, draw(text)) for each in calls]
    return tuple(messages)


@given(conversations(), st.integers(0, 80))
def test_what_is_shown_fits_is_in_order_and_has_every_call_with_its_answers(
    whole: tuple[Message, ...], budget: int
) -> None:
    last_user = max(i for i, message in enumerate(whole) if message.role == "user")
    try:
        shown = fit(whole, budget, words)
    except ModelRefused:
        needed = [m for i, m in enumerate(whole) if m.role == "system" or i >= last_user]
        assert sum(map(words, needed)) > budget
        return
    assert sum(map(words, shown)) <= budget
    places = [next(i for i, m in enumerate(whole) if m is message) for message in shown]
    assert places == sorted(set(places))
    assert last_user in places
    assert all(i in places for i, message in enumerate(whole) if message.role == "system")
    calls = [call.id for message in shown for call in message.tool_calls]
    assert calls == [message.tool_call_id for message in shown if message.role == "tool"]
    following = [message.role for message in shown if message.role != "system"]
    assert following[0] == "user"
    if sum(map(words, whole)) <= budget:
        assert shown == whole
