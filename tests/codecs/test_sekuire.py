"""Sekuire: golden bytes of `/chat/stream`."""

from __future__ import annotations

import orjson
import pytest

from gateway.codecs.codec import Projection
from gateway.codecs.framing import sse, sse_with_run
from gateway.codecs.sources.sekuire import SekuireCodec
from gateway.codecs.waiting import waits_for_human
from runtime.events import (
    ErrorInfo,
    Event,
    MessageDelta,
    ModelCompleted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    ToolCallStarted,
)
from runtime.messages import Usage
from tests.codecs.telling import told

R, P = "run_1", ("assistant",)
CODEC = SekuireCodec()
DONE = RunCompleted(run_id=R, path=P, output="x", usage=Usage(), message_count=2, num_turns=1)


def piece(text: str, path: tuple[str, ...] = P) -> MessageDelta:
    return MessageDelta(run_id=R, path=path, message_id="m", text=text)


@pytest.mark.rows("K10", "K11", "K21")
def test_a_run_is_its_pieces_and_then_done_to_the_byte() -> None:
    events: list[Event] = [
        ToolCallStarted(run_id=R, path=P, call_id="c", name="t"),
        piece("Once upon"),
        piece(' a "time"\n'),
        piece("[DONE]"),
        ModelCompleted(run_id=R, path=P, turn=1),
        DONE,
    ]
    assert told(CODEC, *events).decode() == (
        'data: {"chunk":"Once upon"}\n'
        "\n"
        'data: {"chunk":" a \\"time\\"\\n"}\n'
        "\n"
        'data: {"chunk":"[DONE]"}\n'
        "\n"
        "data: [DONE]\n"
        "\n"
    )


@pytest.mark.rows("K10")
@pytest.mark.parametrize(
    "text", ["a\nb\r\nc", '"\\', "\u2028\u2029\x85", "\U0001f600 é 中", "\x00\x1f", " lead"]
)
def test_any_text_survives_in_one_line_with_one_key(text: str) -> None:
    lines = told(CODEC, piece(text)).decode().splitlines()
    assert len(lines) == 2
    assert orjson.loads(lines[0].removeprefix("data: ")) == {"chunk": text}


def test_who_speaks_below_the_conversation_is_not_heard() -> None:
    assert told(CODEC, piece("hi", ("assistant", "call_1:researcher"))) == b""
    assert told(CODEC, piece("hi", ("graph", "write", "writer"))) == b'data: {"chunk":"hi"}\n\n'


@pytest.mark.rows("K13", "W-K2")
@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            RunFailed(run_id=R, error=ErrorInfo(code="x", message="the model is down")),
            "the model is down",
        ),
        (RunCancelled(run_id=R, reason="timeout"), "the run was cancelled: timeout"),
        (
            RunInterrupted(run_id=R, reason="approval"),
            waits_for_human("ses_1"),
        ),
    ],
)
def test_a_run_that_does_not_complete_ends_in_an_error_and_is_never_done(
    end: Event, message: str
) -> None:
    assert told(CODEC, piece("Once"), end).decode() == (
        f'data: {{"chunk":"Once"}}\n\nevent: error\ndata: {{"error":"{message}"}}\n\n'
    )


def test_a_server_that_cannot_go_on_says_so_and_leaves_the_last_id_as_it_is() -> None:
    cut = Projection(CODEC, sse_with_run).cut("shutdown")
    assert cut == (
        b'event: error\ndata: {"error":"the server cannot go on with this answer: shutdown"}\n\n'
    )
    assert cut == Projection(CODEC, sse).cut("shutdown")


def test_ids_say_how_far_the_client_is() -> None:
    assert told(CODEC, piece("a"), DONE, style=sse_with_run) == (
        b'id: ses_1.run_1/e1.1.00000abc\ndata: {"chunk":"a"}\n\n'
        b"id: ses_1.run_1/e1.2.00000abc\ndata: [DONE]\n\n"
    )
