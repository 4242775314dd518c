"""The cache of recent entries: right or silent, and bounded."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.codecs.native import websocket_frame
from gateway.log.entry import Entry
from gateway.log.page import PAGE_BYTES
from gateway.log.position import NO_TAG, Position
from gateway.log.recent import Recent, weight
from gateway.log.serde import dump
from gateway.transports.sse import SSE
from runtime.events import MessageDelta

START = Position("e", 0, NO_TAG)


def entry(seq: int, session_id: str = "s", body: bytes = b"body") -> Entry:
    return Entry(session_id, Position("e", seq, f"{seq:08x}"), 0, body)


def log(count: int, session_id: str = "s") -> list[Entry]:
    return [entry(seq, session_id) for seq in range(1, count + 1)]


def before(entries: Sequence[Entry]) -> Position:
    seq = entries[0].seq - 1
    return START if seq == 0 else Position("e", seq, f"{seq:08x}")


def test_what_was_put_is_read_from_any_place_as_the_same_objects() -> None:
    recent, entries = Recent(), log(10)
    for one in entries:
        recent.put(before([one]), [one])
    for seq, after in enumerate([START] + [one.position for one in entries]):
        page = recent.read("s", after, 4)
        assert page is not None
        assert len(page) == min(4, 10 - seq)
        assert all(
            mine is theirs for mine, theirs in zip(page, entries[seq : seq + 4], strict=True)
        )
    assert recent.tail("s") == entries[-1].position
    assert recent.start("s") == 0


def test_what_is_not_known_is_left_to_the_store() -> None:
    recent, entries = Recent(), log(10)
    recent.put(before(entries[4:]), entries[4:])
    assert recent.read("other", START, 1) is None
    assert recent.tail("other") is None
    assert recent.start("other") is None
    assert recent.read("s", entries[2].position, 1) is None
    assert recent.read("s", START, 1) is None
    for wrong in (
        replace(entries[6].position, epoch="f"),
        replace(entries[6].position, tag="ffffffff"),
        replace(entries[3].position, tag="ffffffff"),
        replace(entries[9].position, seq=11),
    ):
        assert recent.read("s", wrong, 1) is None


def test_entries_that_do_not_follow_begin_a_new_window() -> None:
    recent, entries = Recent(), log(10)
    recent.put(START, entries[:3])
    recent.put(before(entries[5:]), entries[5:])
    assert recent.read("s", entries[1].position, 10) is None
    assert recent.read("s", entries[2].position, 10) is None
    assert recent.read("s", entries[4].position, 10) == entries[5:]


def test_the_oldest_entries_of_a_session_go_first() -> None:
    recent, entries = Recent(entries=3), log(10)
    recent.put(START, entries)
    assert recent.read("s", entries[5].position, 10) is None
    assert recent.read("s", entries[6].position, 10) == entries[7:]


def test_a_session_is_bounded_in_bytes_too() -> None:
    recent, entries = Recent(size=2 * weight(entry(1)) + 1), log(10)
    recent.put(START, entries)
    assert recent.read("s", entries[6].position, 10) is None
    assert recent.read("s", entries[7].position, 10) == entries[8:]
    huge = entry(11, body=b"x" * 1000)
    recent.put(entries[-1].position, [huge])
    assert recent.read("s", entries[-1].position, 10) is None
    assert recent.read("s", huge.position, 10) == []


def test_the_session_that_was_not_used_for_longest_goes_first() -> None:
    recent = Recent(sessions=2)
    for name in "ab":
        recent.put(START, log(1, name))
    assert recent.read("a", START, 1) is not None
    recent.put(START, log(1, "c"))
    assert (recent.tail("a"), recent.tail("b")) == (entry(1).position, None)


def test_all_sessions_together_are_bounded_in_bytes() -> None:
    recent = Recent(total_size=3 * weight(entry(1)))
    for name in "abcd":
        recent.put(START, log(1, name))
    assert [recent.tail(name) is not None for name in "abcd"] == [False, True, True, True]
    recent.drop("b")
    recent.put(START, log(1, "e"))
    assert [recent.tail(name) is not None for name in "cde"] == [True, True, True]


def test_what_a_trim_dropped_is_left_to_the_store_and_the_rest_is_not() -> None:
    recent, entries = Recent(total_size=10 * weight(entry(1))), log(10)
    recent.put(START, entries)
    recent.trim("s", 4)
    assert recent.read("s", START, 1) is None
    assert recent.read("s", entries[2].position, 1) is None
    assert recent.read("s", entries[3].position, 10) == entries[4:]
    assert recent.start("s") == 4
    others = log(5, "other")
    recent.put(START, others[:4])  # there is room for these now, and for no more
    recent.trim("nobody", 1)
    assert recent.tail("s") == entries[-1].position
    recent.put(before(others[4:]), others[4:])
    assert recent.tail("s") is None
    recent.trim("other", 99)
    assert recent.read("other", others[-1].position, 1) == []


def test_the_bound_counts_the_memory_that_encoded_entries_really_take() -> None:
    told = MessageDelta(run_id="run_0123456789", message_id="msg_0123456789", text="and so on")
    for text in ("and so on", "long " * 800):
        body = dump(told.model_copy(update={"text": text}))
        tracemalloc.start()
        try:
            entries = [entry(seq, body=bytes(bytearray(body))) for seq in range(1, 501)]
            for one in entries:
                SSE.chunk(one)
                one.encoded(websocket_frame)
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        counted = sum(map(weight, entries))
        assert 0.7 * taken < counted < 1.5 * taken


def test_a_page_is_bounded_in_bytes() -> None:
    recent = Recent()
    entries = [entry(seq, body=b"x" * (PAGE_BYTES // 2)) for seq in (1, 2, 3)]
    recent.put(START, entries)
    assert recent.read("s", START, 10) == entries[:2]


def test_a_dropped_session_is_not_known() -> None:
    recent = Recent()
    recent.put(START, log(3))
    recent.drop("s")
    recent.drop("s")
    assert recent.read("s", START, 1) is None
    assert recent.tail("s") is None


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(1, 8), st.integers(1, 8))
def test_every_page_is_a_true_stretch_of_the_log(sizes: list[int], bound: int, limit: int) -> None:
    recent, entries = Recent(entries=bound), log(sum(sizes))
    done = 0
    for size in sizes:
        recent.put(before(entries[done:]), entries[done : done + size])
        done += size
        for seq in range(done + 1):
            after = START if seq == 0 else entries[seq - 1].position
            page = recent.read("s", after, limit)
            expected = entries[seq : min(done, seq + limit)]
            assert page == expected if seq >= done - bound else page is None
