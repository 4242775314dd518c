"""Whatever happened, the next model call sees a legal conversation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.history import NO_RESULT, legal, pending_calls
from runtime.messages import Message, ToolCall

CALL_ID = st.sampled_from(["c1", "c2", "c3"])
MESSAGE = st.one_of(
    st.builds(Message, role=st.just("user"), content=st.text(min_size=1)),
    st.builds(Message, role=st.just("assistant"), content=st.text()),
    st.builds(
        Message,
        role=st.just("assistant"),
        content=st.text(),
        tool_calls=st.lists(CALL_ID, min_size=1, unique=True).map(
            lambda ids: tuple(ToolCall(id=id_, name="t", arguments="{}") for id_ in ids)
        ),
    ),
    st.builds(Message, role=st.just("tool"), content=st.text(), tool_call_id=CALL_ID),
)


@given(st.lists(MESSAGE))
def test_any_log_becomes_legal_history(messages: list[Message]) -> None:
    result = legal(messages)
    unanswered: list[str] = []
    for before, message in zip((None, *result), result, strict=False):
        if message.role == "tool":
            assert message.tool_call_id == unanswered.pop(0)
            continue
        assert not unanswered
        unanswered = [call.id for call in message.tool_calls]
        assert message.content or message.tool_calls
        if before is not None and before.role == message.role:
            assert before.tool_calls or message.tool_calls
    assert not unanswered


@given(st.lists(MESSAGE))
def test_no_word_is_lost(messages: list[Message]) -> None:
    text = "\n".join(message.content for message in legal(messages))
    for message in messages:
        if message.role != "tool":
            assert message.content in text


def test_two_inputs_in_a_row_become_one() -> None:
    said = [Message(role="user", content="a"), Message(role="user", content="b")]
    assert [m.content for m in legal(said)] == ["a\n\nb"]


def test_calls_that_nobody_answered_are_answered_with_an_error_unless_still_to_be_made() -> None:
    calls = tuple(ToolCall(id=id_, name="t", arguments="{}") for id_ in ("c1", "c2"))
    said = [
        Message(role="user", content="go"),
        Message(role="assistant", tool_calls=calls),
        Message(role="tool", content="done", tool_call_id="c2"),
    ]
    assert pending_calls(said) == ("c1",)
    assert [m.content for m in legal(said)[2:]] == [NO_RESULT, "done"]
    assert [m.content for m in legal(said, keep_pending=True)[2:]] == ["done"]
    later = [*said, Message(role="user", content="and?")]
    assert [m.content for m in legal(later, keep_pending=True)[2:]] == [NO_RESULT, "done", "and?"]
