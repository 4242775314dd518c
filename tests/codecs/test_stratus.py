"""Stratus: golden bytes of `POST /chat`."""

from __future__ import annotations

import orjson
import pytest

from gateway.codecs.codec import Projection
from gateway.codecs.framing import sse, sse_with_run
from gateway.codecs.sources.stratus import StratusCodec
from gateway.codecs.waiting import waits_for_human
from runtime.events import (
    AgentStarted,
    Custom,
    ErrorInfo,
    Event,
    MessageDelta,
    ModelCompleted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
)
from runtime.messages import ToolCall, Usage
from tests.codecs.telling import told

R, P = "run_1", ("assistant",)
BELOW = ("assistant", "call_1:researcher")
CODEC = StratusCodec()
CALL = ToolCall(id="call_1", name="get_weather", arguments='{"city":"NYC"}')

TWO_CALLS: list[Event] = [
    ToolCallStarted(run_id=R, path=P, call_id="call_1", name="get_weather", index=0),
    ToolCallDelta(run_id=R, path=P, call_id="call_1", arguments='{"ci'),
    ToolCallDelta(run_id=R, path=P, call_id="call_1", arguments='ty":"NYC"}'),
    ToolCallReady(run_id=R, path=P, call_id="call_1", name="get_weather", arguments=CALL.arguments),
    ModelCompleted(
        run_id=R,
        path=P,
        tool_calls=(CALL,),
        usage=Usage(prompt_tokens=120, completion_tokens=30, total_tokens=150),
        finish_reason="tool_calls",
        turn=1,
    ),
    ToolCompleted(run_id=R, path=P, call_id="call_1", name="get_weather", result=1, duration_ms=1),
    MessageDelta(run_id=R, path=P, message_id="m", text="It is "),
    MessageDelta(run_id=R, path=P, message_id="m", text='"72°F"\nin NYC'),
    ModelCompleted(
        run_id=R,
        path=P,
        usage=Usage(prompt_tokens=200, completion_tokens=80, total_tokens=280),
        finish_reason="stop",
        turn=2,
    ),
    RunCompleted(run_id=R, path=P, output="", usage=Usage(), message_count=4, num_turns=2),
]


@pytest.mark.rows("S23", "S24", "S25", "S26", "S27", "S29")
def test_a_run_with_a_tool_is_told_to_the_byte() -> None:
    assert told(CODEC, *TWO_CALLS).decode() == (
        "event: tool_start\n"
        'data: {"name":"get_weather","id":"call_1"}\n'
        "\n"
        "event: tool_done\n"
        'data: {"id":"call_1","name":"get_weather"}\n'
        "\n"
        "event: done\n"
        'data: {"usage":{"promptTokens":120,"completionTokens":30,"totalTokens":150},'
        '"finishReason":"tool_calls"}\n'
        "\n"
        "event: content\n"
        'data: {"text":"It is "}\n'
        "\n"
        "event: content\n"
        'data: {"text":"\\"72°F\\"\\nin NYC"}\n'
        "\n"
        "event: done\n"
        'data: {"usage":{"promptTokens":200,"completionTokens":80,"totalTokens":280},'
        '"finishReason":"stop"}\n'
        "\n"
    )


@pytest.mark.rows("S27")
def test_pieces_of_arguments_are_told_to_those_who_ask() -> None:
    assert told(StratusCodec(deltas=True), *TWO_CALLS[:4]).decode() == (
        "event: tool_start\n"
        'data: {"name":"get_weather","id":"call_1"}\n'
        "\n"
        "event: tool_delta\n"
        'data: {"id":"call_1","arguments":"{\\"ci"}\n'
        "\n"
        "event: tool_delta\n"
        'data: {"id":"call_1","arguments":"ty\\":\\"NYC\\"}"}\n'
        "\n"
        "event: tool_done\n"
        'data: {"id":"call_1","name":"get_weather"}\n'
        "\n"
    )


def test_who_speaks_below_the_conversation_is_not_heard() -> None:
    below = [event.model_copy(update={"path": BELOW}) for event in TWO_CALLS[:-1]]
    assert told(StratusCodec(deltas=True), *below) == b""


def test_nodes_of_a_graph_speak_for_the_graph() -> None:
    path = ("graph", "write", "writer")
    event = MessageDelta(run_id=R, path=path, message_id="m", text="hi")
    assert told(CODEC, event) == b'event: content\ndata: {"text":"hi"}\n\n'


def test_what_is_not_known_of_a_model_call_is_left_out() -> None:
    assert told(CODEC, ModelCompleted(run_id=R, turn=1)) == b"event: done\ndata: {}\n\n"


@pytest.mark.parametrize(
    ("end", "data"),
    [
        (
            RunFailed(run_id=R, error=ErrorInfo(code="model_down", message="the model is down")),
            '{"message":"the model is down","code":"model_down"}',
        ),
        (
            RunCancelled(run_id=R, reason="disconnect"),
            '{"message":"the run was cancelled: disconnect","code":"cancelled"}',
        ),
        (
            RunInterrupted(run_id=R, reason="approval", pending=("apr_1",)),
            f'{{"message":"{waits_for_human("ses_1")}","code":"approval_required"}}',
        ),
    ],
)
def test_a_run_that_does_not_complete_ends_in_an_error(end: Event, data: str) -> None:
    assert told(CODEC, end).decode() == f"event: error\ndata: {data}\n\n"


def test_a_server_that_cannot_go_on_says_so() -> None:
    assert Projection(CODEC, sse).cut("shutdown") == (
        b"event: error\n"
        b'data: {"message":"the server cannot go on with this answer","code":"shutdown"}\n'
        b"\n"
    )


def test_all_else_is_silent() -> None:
    assert told(CODEC, AgentStarted(run_id=R, path=P, agent="a"), Custom(name="x\ny")) == b""


@pytest.mark.rows("S29")
def test_no_text_breaks_the_lines_of_a_client_that_splits_at_line_ends() -> None:
    text = "a\nb\r\nc\u2028d\u2029e\x85f\x0bg\x1ch"
    lines = told(CODEC, MessageDelta(run_id=R, message_id="m", text=text)).decode().splitlines()
    assert lines[0] == "event: content"
    assert orjson.loads(lines[1].removeprefix("data: ")) == {"text": text}
    assert lines[2:] == [""]


def test_ids_say_the_session_the_run_and_the_place_of_the_entry() -> None:
    events: list[Event] = [
        AgentStarted(run_id=R, path=P, agent="a"),
        MessageDelta(run_id=R, path=P, message_id="m", text="hi"),
    ]
    assert told(CODEC, *events, style=sse_with_run) == (
        b'id: ses_1.run_1/e1.2.00000abc\nevent: content\ndata: {"text":"hi"}\n\n'
    )
