"""Server-sent events are read as the HTML standard says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.models.halves import Mender
from runtime.models.sse import EventDecoder, ServerEvent


def read(*pieces: bytes) -> list[ServerEvent]:
    decoder = EventDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [ServerEvent("a")]),
        (b"data:a\n\n", [ServerEvent("a")]),
        (b"data:  a\n\n", [ServerEvent(" a")]),
        (b"data: a: b\n\n", [ServerEvent("a: b")]),
        (b"data: a\r\rdata: b\r\r", [ServerEvent("a"), ServerEvent("b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [ServerEvent("a"), ServerEvent("b")]),
        (b"event: e\r\ndata: a\r\ndata: b\r\n\r\n", [ServerEvent("a\nb", "e")]),
        (b"data: a\r\n\ndata: b\n\r\n", [ServerEvent("a"), ServerEvent("b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [ServerEvent("a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a\ndata: b\ndata\n\n", [ServerEvent("a\nb\n")]),
        (b"data\n\n", [ServerEvent("")]),
        (b"event: e\ndata: a\n\ndata: b\n\n", [ServerEvent("a", "e"), ServerEvent("b")]),
        (b"event: e\n\ndata: b\n\n", [ServerEvent("b")]),
        (b": hello\nid: 1\nretry: 3\nfoo: bar\ndata: a\n\n", [ServerEvent("a")]),
        (b"data: \xe2\x80\xa8\x0b\x0c\xc2\x85\n\n", [ServerEvent("\u2028\x0b\x0c\x85")]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"\n\n\n", []),
    ],
)
@pytest.mark.rows("W-S12")
def test_streams_mean_what_the_standard_says_in_pieces_of_any_size(
    stream: bytes, events: list[ServerEvent]
) -> None:
    for size in range(1, len(stream) + 1):
        pieces = [stream[place : place + size] for place in range(0, len(stream), size)]
        assert read(*pieces) == events
        assert read(*(part for piece in pieces for part in (b"", piece, b""))) == events


@given(
    texts=st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))),
    line_ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1),
    size=st.integers(1, 9),
)
def test_what_is_written_is_read(texts: list[str], line_ends: list[str], size: int) -> None:
    stream = ""
    for number, text in enumerate(texts):
        end = line_ends[number % len(line_ends)]
        stream += f"data: {text}{end}{end}"
    written = stream.encode()
    pieces = [written[place : place + size] for place in range(0, len(written), size)]
    assert [event.data for event in read(*pieces)] == texts


def test_text_that_is_no_utf_8_is_an_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        read(b'data: "\xff"\n\n')


def test_the_time_for_a_line_grows_with_its_bytes_and_not_with_its_pieces() -> None:
    pieces = [
        b"data: ",
        *([b"x" * 100] * 100_000),
        b"\n\n",
    ]  # a copy for each piece would take minutes
    (event,) = read(*pieces)
    assert len(event.data) == 10_000_000


def test_halves_of_characters_are_joined_in_their_own_lane() -> None:
    mender = Mender()
    assert [
        mender.mend("a", "x\ud83c"),
        mender.mend("b", "\udf27"),
        mender.mend("a", "\udf27"),
    ] == [
        "x",
        "\ufffd",
        "🌧",
    ]
    assert mender.mend("a", None) == ""
    assert mender.mend("a", "\ud83c") == ""
    assert mender.mend("a", "\ud83c") == "\ufffd"
    assert mender.mend("a", "y") == "\ufffdy"
