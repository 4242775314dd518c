"""The conversation of a run, as its events tell it."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.events import (
    AgentHandoff,
    ApprovalRequested,
    ApprovalResolved,
    ErrorInfo,
    Event,
    MessageCompleted,
    ModelCompleted,
    RunCompleted,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.journal import JOURNALED, at, below, spoken_below
from runtime.messages import Message, ToolCall, Usage
from runtime.transcript import Transcript

CALL = ToolCall(id="c1", name="look", arguments="{}")
ERROR = ErrorInfo(code="tool_error", message="broken")
USER = Message(role="user", content="hi")


def said(
    content: str, *calls: ToolCall, turn: int = 1, path: tuple[str, ...] = ("a",), tokens: int = 10
) -> ModelCompleted:
    return ModelCompleted(
        run_id="run_1",
        path=path,
        content=content or None,
        tool_calls=calls,
        usage=Usage(total_tokens=tokens),
        finish_reason="tool_calls" if calls else "stop",
        turn=turn,
    )


def of(kind: type[Any], path: tuple[str, ...] = ("a",), **fields: Any) -> Event:
    event: Event = kind(run_id="run_1", path=path, **fields)
    return event


def started(path: tuple[str, ...] = ("a",)) -> Event:
    return of(ToolStarted, path, call_id="c1", name="look", arguments="{}", idempotency_key="k")


def done(path: tuple[str, ...] = ("a",), result: object = "seen") -> Event:
    return of(ToolCompleted, path, call_id="c1", name="look", result=result, duration_ms=1)


def contents(transcript: Transcript) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in transcript.messages]


def test_a_whole_run_is_a_conversation_with_its_counters() -> None:
    events = [said("Wait.", CALL), started(), done(result={"n": 1}), said("It is so.", turn=2)]
    transcript = Transcript.of(events, history=[USER], path=("a",))
    assert contents(transcript) == [
        ("user", "hi"),
        ("assistant", "Wait."),
        ("tool", '{"n":1}'),
        ("assistant", "It is so."),
    ]
    assert transcript.messages[1].tool_calls == (CALL,)
    assert transcript.messages[2].tool_call_id == "c1"
    assert (transcript.turns, transcript.usage.total_tokens) == (2, 20)
    assert transcript.finish_reason == "stop"
    assert transcript.started == set()


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (of(ToolFailedEvent, call_id="c1", name="look", error=ERROR), "error: broken"),
        (of(ToolUnknownOutcome, call_id="c1", name="look"), "error: the server stopped"),
    ],
)
def test_every_outcome_of_a_tool_answers_its_call(outcome: Event, text: str) -> None:
    transcript = Transcript.of([said("", CALL), started(), outcome])
    assert transcript.messages[-1].content.startswith(text)
    assert transcript.started == set()


def test_a_failure_that_is_tried_again_is_no_outcome() -> None:
    again = of(ToolFailedEvent, call_id="c1", name="look", error=ERROR, will_retry=True)
    transcript = Transcript.of([said("", CALL), started(), again])
    assert transcript.started == {"c1"}
    assert [message.role for message in transcript.messages] == ["assistant"]


def test_what_was_cut_short_stays_and_what_was_said_anew_does_not() -> None:
    def message(**fields: Any) -> Event:
        return of(MessageCompleted, message_id="m", **fields)

    events = [
        message(text="whole"),
        message(text="cut", incomplete=True),
        message(text="", incomplete=True),
        message(text="anew", incomplete=True, superseded=True),
    ]
    assert contents(Transcript.of(events)) == [("assistant", "cut")]


def test_an_agent_below_speaks_for_itself_but_its_tokens_and_questions_count() -> None:
    deep = ("a", "c1:helper")
    asked = of(ApprovalRequested, deep, approval_id="apr_1", call_id="c1")
    events = [said("", CALL), said("secret", path=deep), started(deep), asked]
    transcript = Transcript.of(events, path=("a",))
    assert contents(transcript) == [("assistant", "")]
    assert transcript.usage.total_tokens == 20
    assert transcript.turns == 1
    assert transcript.started == set()
    assert transcript.approvals == {"apr_1": asked}
    transcript.note(of(ApprovalResolved, deep, approval_id="apr_1", decision="approved"))
    assert transcript.approvals == {}


def test_without_a_path_that_of_the_first_event_counts() -> None:
    transcript = Transcript.of([said("mine"), said("other", path=("b",))])
    assert contents(transcript) == [("assistant", "mine")]


def test_of_a_whole_graph_all_that_its_nodes_speak_counts() -> None:
    node, tool = ("g", "write", "writer"), ("g", "write", "writer", "c1:helper")
    events = [
        said("", CALL, path=("g", "plan", "planner")),
        started(("g", "plan", "planner")),
        said("secret", path=tool),
        done(("g", "plan", "planner")),
        said("Text.", path=node),
    ]
    transcript = Transcript([USER], ("g",), whole=True)
    for event in events:
        transcript.note(event)
    assert [text for _, text in contents(transcript)] == ["hi", "", "seen", "Text."]
    assert transcript.turns == 2
    assert transcript.usage.total_tokens == 30


def test_the_last_agent_is_whom_the_conversation_was_really_handed_to() -> None:
    def handoff(target: str, *, denied: bool | None = None) -> Event:
        return of(AgentHandoff, source="a", target=target, denied=denied)

    transcript = Transcript.of([said("x"), handoff("b"), handoff("c", denied=True)])
    assert transcript.last_agent == "b"
    assert Transcript.of([said("x")]).last_agent is None


def test_at_its_end_a_run_says_itself_what_it_took() -> None:
    end = of(RunCompleted, output="x", usage=Usage(total_tokens=99), message_count=1, num_turns=1)
    assert Transcript.of([said("x"), end]).usage.total_tokens == 99


def test_a_journal_is_read_by_path() -> None:
    deep = ("a", "c1:helper")
    journal = [said("1"), said("2", path=deep), said("3", path=("ab",))]
    assert at(journal, ["a"]) == (journal[0],)
    assert below(journal, ("a",)) == tuple(journal[:2])
    assert below(journal, deep) == (journal[1],)
    assert all(isinstance(event, JOURNALED) for event in journal)
    assert spoken_below(deep)
    assert not spoken_below(("g", "write", "writer"))
    assert not spoken_below(("a: root",))
    assert not spoken_below(())
