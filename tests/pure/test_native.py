"""The native wire, to the byte."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codecs.native import (
    event_json,
    ndjson_line,
    sse_control,
    sse_frame,
    sse_frame_named,
    sse_frame_of_many,
    timestamp,
    websocket_frame,
    websocket_text,
)
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.serde import dump
from runtime.events import MessageDelta

JSON = (
    b'{"v":1,"type":"message.delta","session_id":"s","seq":42,"cursor":"k3f9aa.42.9b1c77e0",'
    b'"ts":"2026-11-21T02:00:00.123Z","run_id":"run_1","path":["assistant"],"message_id":"msg_1",'
    b'"text":"Hel"}'
)


def entry(text: str = "Hel") -> Entry:
    body = dump(MessageDelta(run_id="run_1", path=("assistant",), message_id="msg_1", text=text))
    return Entry("s", Position("k3f9aa", 42, "9b1c77e0"), 1_795_226_400_123, body)


def test_an_event_is_one_json_object_with_what_the_log_gave_it() -> None:
    assert event_json(entry()) == JSON


@pytest.mark.rule("sse.frame")
def test_an_sse_frame_is_unnamed_and_its_id_is_the_cursor() -> None:
    assert sse_frame(entry()) == b"id: k3f9aa.42.9b1c77e0\ndata: " + JSON + b"\n\n"


@pytest.mark.rule("sse.frame")
def test_a_named_sse_frame_says_the_type() -> None:
    assert sse_frame_named(entry()) == b"event: message.delta\n" + sse_frame(entry())


def test_a_frame_on_a_stream_of_many_sessions_has_no_id() -> None:
    assert sse_frame_of_many(entry()) == b"data: " + JSON + b"\n\n"


@pytest.mark.rule("control.no_id")
def test_a_control_object_has_no_id() -> None:
    assert sse_control(b'{"type":"stream.closing"}') == b'data: {"type":"stream.closing"}\n\n'


def test_an_ndjson_line_is_the_event_and_a_line_end() -> None:
    assert ndjson_line(entry()) == JSON + b"\n"


@given(st.text())
def test_no_text_can_break_out_of_its_frame(text: str) -> None:
    made = entry(text)
    frame = sse_frame(made)
    assert frame.count(b"\n") == 3
    assert b"\r" not in frame
    assert b"\x00" not in frame
    assert orjson.loads(event_json(made))["text"] == text


@pytest.mark.parametrize(
    ("length", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_websocket_frame_has_the_head_of_rfc_6455(length: int, head: bytes) -> None:
    assert websocket_text(b"x" * length) == head + b"x" * length


@pytest.mark.rule("ws.equal")
def test_a_websocket_frame_carries_the_same_json() -> None:
    assert websocket_frame(entry()).endswith(JSON)


def test_an_entry_is_encoded_once_however_many_ask() -> None:
    made = entry()
    asked: list[Entry] = []

    def encode(one: Entry) -> bytes:
        asked.append(one)
        return b"x"

    assert [made.encoded(encode) for _ in range(3)] == [b"x"] * 3
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (1_795_226_400_007, "2026-11-21T02:00:00.007Z")],
)
def test_a_time_is_rfc_3339_in_utc_with_milliseconds(milliseconds: int, text: str) -> None:
    assert timestamp(milliseconds) == text
