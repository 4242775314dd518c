"""A session that is iterated over, against a server that says what a test wants."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from gateway.client import Entry, Refused, Reset, ResetOverlooked, Session
from gateway.client.event_stream import EventStreamDecoder, Frame
from tests.client.server_played import PATIENCE, Line, delta, playing, reset


async def told_by(session: Session) -> tuple[list[object], str]:
    """Return the numbers and the snapshots that came, and why there are no more."""
    told: list[object] = []
    async with asyncio.timeout(PATIENCE):
        try:
            async for item in session:
                told += [item.snapshot if isinstance(item, Reset) else item.seq]
        except Refused as refused:
            return told, refused.code
    return told, ""


async def test_the_cursor_is_that_of_the_last_event_whose_loop_body_has_finished() -> None:
    async def play(line: Line) -> None:
        await line.say(delta(4, "a"), delta(5, "b"), delta(6, "c"))
        await line.until_gone()

    async def again(line: Line) -> None:
        assert line.after == "e.5.t"
        await line.say(delta(6, "c"))
        await line.until_gone()

    async with playing(play, again) as played, asyncio.timeout(PATIENCE):
        session = played.client.session("s", after="e.3.t")
        seen = []
        for wanted in ([4, 5, 6], [6]):
            async with aclosing(session.events()) as items:
                async for item in items:
                    assert isinstance(item, Entry)
                    assert session.cursor == f"e.{item.seq - 1}.t"
                    seen.append(item.seq)
                    if item.seq == 6:
                        break  # as a program does that is killed in its loop body
            assert seen == wanted
            seen.clear()
        assert session.cursor == "e.5.t"


async def test_whoever_asks_for_more_without_having_read_a_snapshot_is_stopped() -> None:
    async def play(line: Line) -> None:
        await line.say(delta(4, "a"), reset("fork", "f.1.t", {"status": "idle"}), delta(2, "b"))
        await line.until_gone()

    async with playing(play) as played, asyncio.timeout(PATIENCE):
        session = played.client.session("s", after="e.3.t")
        async with aclosing(session.events()) as items:
            assert [type(await anext(items)) for _ in range(2)] == [Entry, Reset]
            with pytest.raises(ResetOverlooked, match="fork"):
                await anext(items)
        assert session.cursor == "e.4.t", "the reset was not applied"


async def test_whoever_reads_the_snapshot_goes_on_after_it() -> None:
    async def play(line: Line) -> None:
        await line.say(reset("fork", "f.1.t", {"status": "idle"}), delta(2, "b"))
        await line.close(4404)

    async with playing(play) as played:
        told = await told_by(played.client.session("s", after="e.3.t"))
    assert told == ([{"status": "idle"}, 2], "session_unknown")


async def test_a_server_that_falls_silent_is_left_and_found_again() -> None:
    async def silent(line: Line) -> None:
        await line.say(delta(4, "a"))
        await asyncio.sleep(PATIENCE)  # says nothing, answers no ping

    async def alive(line: Line) -> None:
        assert line.after == "e.4.t"
        await line.say(delta(5, "b"))
        await line.close(4410)

    async with playing(silent, alive, heartbeat=0.3) as played, asyncio.timeout(PATIENCE / 2):
        told = await told_by(played.client.session("s", after="e.3.t"))
    assert told == ([4, 5], "session_gone")


async def test_a_loop_body_that_takes_long_is_no_silence_of_the_server() -> None:
    gone = asyncio.Event()

    async def play(line: Line) -> None:
        await line.say(delta(4, "a"), delta(5, "b"))
        await gone.wait()
        await line.close(4410)

    async with (
        playing(play, heartbeat=0.3) as played,
        aclosing(played.client.session("s", after="e.3.t").events()) as items,
        asyncio.timeout(PATIENCE),
    ):
        await anext(items)
        await asyncio.sleep(1)  # longer than the 0.75 s after which silence is death
        second = await anext(items)
        assert isinstance(second, Entry)
        assert second.seq == 5
        gone.set()


async def test_from_now_on_means_from_the_first_connection_on() -> None:
    async def first(line: Line) -> None:
        assert line.after == "$"
        await line.close(1012)

    async def second(line: Line) -> None:
        assert line.after == "e.7.t", "what came while nobody was connected is missing"
        await line.close(4404)

    async with playing(first, second) as played:
        assert await told_by(played.client.session("s", after="$")) == ([], "session_unknown")


STREAM = b": hi\nretry: 1200\nid: e.3.t\n\ndata: one\n\n:\n\nid: e.4.t\ndata: two\r\ndata: lines\r\n\r\ndata: cut"
FRAMES = [
    Frame(None, "e.3.t", 1200),
    Frame(b"one", None, None),
    Frame(None, None, None),
    Frame(b"two\nlines", "e.4.t", None),
]


def test_an_event_stream_is_the_same_in_whatever_two_pieces_it_comes() -> None:
    for cut in range(len(STREAM) + 1):
        decoder = EventStreamDecoder()
        assert decoder.feed(STREAM[:cut]) + decoder.feed(STREAM[cut:]) == FRAMES


def test_an_event_stream_is_the_same_byte_by_byte() -> None:
    decoder = EventStreamDecoder()
    assert [frame for byte in STREAM for frame in decoder.feed(bytes([byte]))] == FRAMES
