"""Chat completions: what is said of each event, and one answer made of all that was said."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.codecs.codec import Frame
from gateway.codecs.openai.chat_completions import ChatCompletions, completion
from gateway.codecs.openai.chat_completions.codec import ChatState
from gateway.codecs.openai.chat_completions.floor import Floor, Piece, clear, close, say
from gateway.log.serde import load
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    ErrorInfo,
    Event,
    InputAccepted,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    ToolCompleted,
    ToolStarted,
)
from runtime.messages import Message, Usage
from tests.support.legal_runs import entries_of, legal_log, segments_of

CODEC = ChatCompletions("a")
RUN = "run_1"
USAGE = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5, cache_read_tokens=1)


def accepted() -> InputAccepted:
    message = Message(role="user", content="x", message_id="m0")
    return InputAccepted(run_id=RUN, message=message, command_id="c1", policy="enqueue")


def spoken(message_id: str, *pieces: str, path: tuple[str, ...] = ("a",)) -> list[Event]:
    of: dict[str, Any] = {"run_id": RUN, "path": path, "message_id": message_id}
    deltas = [MessageDelta(**of, text=piece) for piece in pieces]
    return [MessageStarted(**of), *deltas, MessageCompleted(**of, text="".join(pieces))]


def completed(output: str = "", reason: str | None = "stop") -> RunCompleted:
    return RunCompleted(
        run_id=RUN,
        path=("a",),
        output=output,
        usage=USAGE,
        finish_reason=reason,
        message_count=1,
        num_turns=1,
    )


def asked(approval_id: str, wants: Any = "result", arguments: str = '{"a":1}') -> ApprovalRequested:
    return ApprovalRequested(
        run_id=RUN,
        path=("a",),
        approval_id=approval_id,
        call_id=f"call_{approval_id}",
        tool="look",
        arguments=arguments,
        wants=wants,
    )


def interrupted(*pending: str) -> RunInterrupted:
    return RunInterrupted(run_id=RUN, path=("a",), reason="client tool", pending=pending)


def told(events: Sequence[Event], codec: ChatCompletions = CODEC) -> tuple[ChatState, list[Any]]:
    """Return the last state, and the data of all frames; `[DONE]` as it is."""
    state, frames = codec.begin(), list[Frame]()
    for entry, event in zip(entries_of([accepted(), *events]), [accepted(), *events], strict=True):
        state, more = codec.encode(state, event, entry)
        frames += more
    return state, [f.data.decode() if f.data == b"[DONE]" else orjson.loads(f.data) for f in frames]


def deltas(events: Sequence[Event], codec: ChatCompletions = CODEC) -> list[Any]:
    """Return what is said after the role, chunk by chunk."""
    chunks = [chunk for chunk in told(events, codec)[1][1:] if isinstance(chunk, dict)]
    return [chunk["choices"][0]["delta"] for chunk in chunks if chunk.get("choices")]


def content(events: Sequence[Event], codec: ChatCompletions = CODEC) -> str:
    return "".join(delta.get("content", "") for delta in deltas(events, codec))


def reason_of(events: Sequence[Event]) -> Any:
    return told(events)[1][-2]["choices"][0]["finish_reason"]


# --- chunks ------------------------------------------------------------------------------------


def test_the_first_chunk_is_there_before_the_model_says_anything() -> None:
    _, data = told([])
    assert data == [
        {
            "id": "chatcmpl-ses_story.run_1",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "a",
            "choices": [
                {
                    "index": 0,
                    "delta": {"role": "assistant", "content": "", "refusal": None},
                    "logprobs": None,
                    "finish_reason": None,
                }
            ],
        }
    ]


def test_each_delta_is_a_chunk_and_a_blank_line_stands_between_messages() -> None:
    events = [*spoken("m1", "He", "llo"), *spoken("m2"), *spoken("m3", "you")]
    assert deltas(events) == [{"content": "He"}, {"content": "llo"}, {"content": "\n\nyou"}]


def test_what_came_in_no_delta_comes_with_the_end_of_its_message() -> None:
    whole = MessageCompleted(run_id=RUN, path=("a",), message_id="m1", text="Hello")
    assert deltas([whole]) == [{"content": "Hello"}]
    begun = MessageDelta(run_id=RUN, path=("a",), message_id="m1", text="Hel")
    assert deltas([begun, whole]) == [{"content": "Hel"}, {"content": "lo"}]


def test_reasoning_has_a_field_of_its_own() -> None:
    of: dict[str, Any] = {"run_id": RUN, "path": ("a",), "message_id": "r1"}
    events: list[Event] = [
        ReasoningStarted(**of),
        ReasoningDelta(**of, text="So"),
        ReasoningCompleted(**of, text="So it is"),
        *spoken("m1", "It is"),
    ]
    assert deltas(events) == [
        {"reasoning_content": "So"},
        {"reasoning_content": " it is"},
        {"content": "It is"},
    ]


def test_nothing_is_shown_of_the_servers_tools_and_of_agents_called_as_tools() -> None:
    call: dict[str, Any] = {"run_id": RUN, "path": ("a",), "call_id": "c1", "name": "add"}
    events: list[Event] = [
        ToolStarted(**call, arguments="{}", idempotency_key="k"),
        *spoken("m1", "aside", path=("a", "c1:helper")),
        ToolCompleted(**call, result=1, duration_ms=1),
        *spoken("m2", "deeper", path=("a", "c1:graph", "node")),
    ]
    assert deltas(events) == []
    assert content(spoken("m3", "heard", path=("a", "node"))) == "heard"


def test_a_message_that_was_said_anew_can_be_left_out() -> None:
    events = [*spoken("m1", "Hel"), *spoken("m2", "Hello")]
    assert content(events) == "Hel\n\nHello"
    assert content(events, ChatCompletions("a", superseded=frozenset({"m1"}))) == "Hello"


@pytest.mark.parametrize(
    ("output", "said"),
    [("one", "one\n\ntwo"), ("two", "one\n\ntwo"), (" ", "one\n\ntwo"), ("2", "one\n\ntwo\n\n2")],
)
def test_a_result_that_nobody_said_is_said_at_the_end(output: str, said: str) -> None:
    events = [*spoken("m1", "one"), *spoken("m2", "two"), completed(output)]
    assert content(events) == said


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "stop"),
        (None, "stop"),
    ],
)
def test_the_reason_of_the_end_is_one_that_clients_know(reason: str | None, shown: str) -> None:
    assert reason_of([completed(reason=reason)]) == shown


def test_usage_is_told_only_if_it_was_asked_for() -> None:
    _, silent = told([completed()])
    assert all("usage" not in chunk for chunk in silent[:-1])
    _, data = told([completed()], ChatCompletions("a", include_usage=True))
    *chunks, usage, done = data
    assert [chunk["usage"] for chunk in chunks] == [None, None]
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert done == "[DONE]"


# --- tools of the client's ---------------------------------------------------------------------


def test_calls_of_the_clients_tools_are_numbered_and_end_the_answer() -> None:
    model = ModelCompleted(run_id=RUN, path=("a",), usage=USAGE, turn=1)
    events: list[Event] = [
        model,
        model,
        asked("1"),
        asked("2", arguments=""),
        interrupted("1", "2"),
    ]
    assert deltas(events) == [
        {"tool_calls": [call]}
        for call in (
            {
                "index": 0,
                "id": "call_1",
                "type": "function",
                "function": {"name": "look", "arguments": ""},
            },
            {"index": 0, "function": {"arguments": '{"a":1}'}},
            {
                "index": 1,
                "id": "call_2",
                "type": "function",
                "function": {"name": "look", "arguments": ""},
            },
            {"index": 1, "function": {"arguments": "{}"}},
        )
    ] + [{}]
    assert reason_of(events) == "tool_calls"
    _, data = told(events, ChatCompletions("a", include_usage=True))
    assert data[-2]["usage"]["total_tokens"] == 10


def test_a_run_that_waits_for_an_approval_gives_no_answer() -> None:
    state, data = told([asked("1"), asked("2", wants=None), interrupted("1", "2")])
    assert state.failure is not None
    assert state.failure.status == 403
    assert data[-1]["error"]["code"] == "approval_required"
    assert "ses_story" in data[-1]["error"]["message"]


def test_an_approval_that_was_given_meanwhile_is_none() -> None:
    given = ApprovalResolved(run_id=RUN, path=("a",), approval_id="2", decision="approved")
    events: list[Event] = [asked("1"), asked("2", wants=None), given, interrupted("1")]
    assert reason_of(events) == "tool_calls"


def test_a_pause_without_a_call_of_the_clients_is_an_approval() -> None:
    _, data = told([interrupted()])
    assert data[-1]["error"]["code"] == "approval_required"


# --- ends that are no answers ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ErrorInfo(code="model_error", message="it broke"), 500, "server_error"),
        (ErrorInfo(code="guardrail_tripped", message="no"), 400, "invalid_request_error"),
        (ErrorInfo(code="tools_refused", message="no"), 400, "invalid_request_error"),
        (ErrorInfo(code="options_invalid", message="no"), 400, "invalid_request_error"),
        (
            ErrorInfo(code="model_unavailable", message="x", status_code=429),
            429,
            "rate_limit_error",
        ),
        (ErrorInfo(code="model_unavailable", message="x", status_code=503), 500, "server_error"),
    ],
    ids=lambda value: value.code if isinstance(value, ErrorInfo) else None,
)
def test_a_failure_is_an_error_object_and_nothing_after_it(
    error: ErrorInfo, status: int, kind: str
) -> None:
    state, data = told([*spoken("m1", "Hel"), RunFailed(run_id=RUN, path=("a",), error=error)])
    assert state.failure is not None
    assert state.failure.status == status
    assert data[-1] == {
        "error": {"message": error.message, "type": kind, "param": None, "code": error.code}
    }


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        ("cancel", "run_cancelled", "was cancelled"),
        ("timeout", "run_timeout", "not done in time"),
        ("disconnect", "run_cancelled", "has gone"),
        ("shutdown", "run_cancelled", "server stops"),
        ("superseded", "run_cancelled", "was cancelled"),
    ],
)
def test_a_cancelled_run_is_no_answer(reason: Any, code: str, words: str) -> None:
    state, data = told([RunCancelled(run_id=RUN, path=("a",), reason=reason)])
    assert state.failure is not None
    assert state.failure.status == 410
    assert data[-1]["error"]["code"] == code
    assert words in data[-1]["error"]["message"]


def test_a_cut_says_whether_the_server_stops() -> None:
    codes = [orjson.loads(CODEC.cut(ChatState(), reason)[0].data) for reason in ("shutdown", "x")]
    assert [c["error"]["code"] for c in codes] == ["shutting_down", "x"]
    assert all(c["error"]["type"] == "server_error" for c in codes)


# --- one at a time -----------------------------------------------------------------------------


def test_who_has_the_floor_is_not_interrupted() -> None:
    a, b, c = ("g", "a"), ("g", "b"), ("g", "c")

    def piece(name: str, text: str) -> Piece:
        return Piece("content", name, text)

    floor: Floor = ()
    heard: list[str] = []
    steps = [
        (say, a, piece("a", "a1 ")),
        (say, b, piece("b", "b1 ")),
        (say, c, piece("c", "")),
        (close, b, piece("b", "b1 b2 ")),
        (say, a, piece("a", "a2 ")),
        (say, c, piece("c", "c1 ")),
        (close, a, piece("a", "a1 a2 ")),
        (say, c, piece("c", "c2 ")),
    ]
    for step, path, said in steps:
        floor, pieces = step(floor, path, said)
        heard.append("".join(p.text for p in pieces))
    assert heard == ["a1 ", "", "", "", "a2 ", "", "b1 b2 c1 ", "c2 "]
    assert clear(floor) == ()
    floor, _ = say(floor, a, piece("a3", "late"))
    assert [p.text for p in clear(floor)] == ["late"]


def test_whoever_has_more_to_say_keeps_the_floor() -> None:
    floor, _ = say((), ("a",), Piece("reasoning_content", "r", "so"))
    floor, _ = say(floor, ("a",), Piece("content", "m", "it"))
    floor, _ = say(floor, ("b",), Piece("content", "n", "other"))
    floor, said = close(floor, ("a",), Piece("reasoning_content", "r", "so"))
    assert said == ()
    _, said = close(floor, ("a",), Piece("content", "m", "it is"))
    assert [piece.text for piece in said] == [" is", "other"]


def test_what_is_held_when_a_run_ends_is_said_before_the_end() -> None:
    open_for_ever = MessageDelta(run_id=RUN, path=("g", "a"), message_id="m1", text="one")
    events = [open_for_ever, *spoken("m2", "two", path=("g", "b")), completed()]
    assert content(events) == "one\n\ntwo"
    assert told(events)[0].floor == ()


@settings(max_examples=40)
@given(random=st.randoms(use_true_random=False))
def test_no_text_is_lost_doubled_or_torn_and_an_answer_says_what_its_stream_says(
    random: Random,
) -> None:
    codec = ChatCompletions("a", include_usage=True)
    for part in segments_of(legal_log(random)):
        events = [event for entry in part.entries if (event := load(entry)) is not None]
        state, frames = codec.begin(), list[Frame]()
        for entry, event in zip(part.entries, events, strict=True):
            state, more = codec.encode(state, event, entry)
            frames += more
        chunks = [frame.data for frame in frames[:-1]]
        choices = [choice for chunk in chunks for choice in orjson.loads(chunk)["choices"]]
        said = "".join(choice["delta"].get("content", "") for choice in choices)
        texts = texts_of(events)
        assert all(text in said for text in texts)
        assert len(said) == len("\n\n".join(texts))
        if state.failure is None:
            assert (completion(chunks)["choices"][0]["message"]["content"] or "") == said


def texts_of(events: Sequence[Event]) -> list[str]:
    """Return what a client should be told: the messages, and an output that is none of them."""
    messages = [
        event.text
        for event in events
        if isinstance(event, MessageCompleted) and not any(":" in part for part in event.path[1:])
    ]
    ends = [event.output for event in events if isinstance(event, RunCompleted)]
    outputs = [output for output in ends if output.strip() and output not in messages]
    return [text for text in (*messages, *outputs) if text]


def test_an_answer_with_calls_only_has_no_content() -> None:
    codec = ChatCompletions("a", include_usage=True)
    _, data = told([asked("1"), interrupted("1")], codec)
    answer = completion([orjson.dumps(chunk) for chunk in data[:-1]])
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0] == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "look", "arguments": '{"a":1}'},
                }
            ],
        },
        "logprobs": None,
        "finish_reason": "tool_calls",
    }
    assert answer["usage"]["total_tokens"] == 0
