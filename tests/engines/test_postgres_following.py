"""Fan-out between processes: what one writes comes to readers of the others, once, in order, in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product
from random import Random

import pytest

from gateway.engines.postgres import looks
from gateway.engines.postgres.hints import News
from gateway.engines.postgres.rings import BACKLOG
from gateway.errors import CursorInvalid, SessionGone
from gateway.log.engine import Write
from tests.support.following import (
    Pair,
    Reader,
    answered,
    count_looks,
    meddle,
    pair,
    sql,
    until,
)
from tests.support.interleaving import Interleaved
from tests.support.logs import FIRST, NEW, add, bodies, make, tail
from tests.support.waiting import proven_blocked

POLL = 0.1


def deafen(nodes: Pair) -> None:
    """Lose all hints that come to where the readers are."""
    meddle(nodes.there, lambda hear, news: None)


async def test_a_hint_brings_what_another_process_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(monkeypatch) as nodes:
        await make(nodes.here, "s", b"1")
        reader = Reader(nodes.there)
        await reader.begin()
        await add(nodes.here, b"2", b"3")
        await reader.has(3)
        await reader.waits()
        await add(nodes.there, b"4")
        await add(nodes.here, b"5")
        await reader.has(5)
        assert bodies(reader.entries) == [b"1", b"2", b"3", b"4", b"5"]
        await reader.leave()


@pytest.mark.fault("F16", holds=("I3",))
@pytest.mark.rule("resume.no_hole")
async def test_without_any_hint_the_poll_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(monkeypatch, poll=POLL) as nodes:
        deafen(nodes)
        await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin()
        for n in range(1, 6):
            await add(nodes.here, b"%d" % n)
            await reader.has(n)
        await reader.leave()


@pytest.mark.fault("F16", holds=("I3",))
@pytest.mark.rule("resume.no_hole")
async def test_hints_that_are_lost_doubled_late_or_wrong_change_nothing_but_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch, poll=POLL) as nodes:
        loop, random = asyncio.get_running_loop(), Random(1)  # noqa: S311 - the same each time
        old: list[str] = [""]

        def spoil(hear: Callable[[News], None], news: News) -> None:
            old.extend(news.sessions.values())
            news.sessions["s"] = random.choice(old)
            for _ in range(random.randrange(3)):
                loop.call_later(random.uniform(0, 0.2), hear, news)

        meddle(nodes.there, spoil)
        await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin()
        for n in range(1, 41):
            await add(random.choice([nodes.here, nodes.there]), b"%d" % n)
            if n % 10 == 0:
                await reader.has(n)
        assert bodies(reader.entries) == [b"%d" % n for n in range(1, 41)]
        await reader.leave()


async def test_two_hundred_readers_cost_one_fetch_and_get_the_same_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch) as nodes:
        made = await make(nodes.here)
        readers = [Reader(nodes.there) for _ in range(200)]
        for reader in readers:
            await reader.begin(made.tail)
        asked = count_looks(monkeypatch)
        for n in range(1, 6):
            await add(nodes.here, b"%d" % n)
            for reader in readers:
                await reader.has(n)
        for reader in readers[1:]:
            shared = zip(reader.entries, readers[0].entries, strict=True)
            assert all(mine is theirs for mine, theirs in shared)
        fetched = [
            entry
            for _, answers in asked
            for _, found in answers.fetched
            if found is not None
            for entry in found.entries
        ]
        assert bodies(fetched) == [b"%d" % n for n in range(1, 6)]
        for reader in readers:
            await reader.leave()


async def test_what_others_wrote_before_a_commit_of_ours_is_fetched_and_the_ring_has_no_hole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch) as nodes:
        deafen(nodes)
        made = await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        await add(nodes.here, b"1")
        await add(nodes.there, b"2")
        await reader.has(2)
        page = await nodes.there._following.read("s", made.tail, 10)
        assert page is not None
        assert bodies(page) == [b"1", b"2"]
        await reader.leave()


async def test_reading_on_one_process_what_was_just_written_on_another_needs_no_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch) as nodes:
        deafen(nodes)
        made = await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        position = made.tail
        for n in range(20):
            await add(nodes.here, b"%d" % n)
            page = await nodes.there.read("s", position, limit=10)
            assert bodies(page) == [b"%d" % n]
            position = page[-1].position
        await reader.has(20)
        await reader.leave()


class Elsewhere(Interleaved):
    """Reads and waits on one process, and appends on another."""

    def __init__(self, nodes: Pair, session_id: str, plan: tuple[int, ...]) -> None:
        super().__init__(nodes.there, session_id, plan)
        self._here = nodes.here

    async def _append(self) -> None:
        self.appended.append(b"%d" % len(self.appended))
        await add(self._here, self.appended[-1], session_id=self._session_id)


@pytest.mark.rule("resume.no_hole")
async def test_no_interleaving_of_another_process_with_a_follower_loses_or_repeats_an_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch) as nodes:
        for number, plan in enumerate(product((0, 1, 3), (0, 1), (0, 2), (0, 2), (0, 1))):
            session_id = f"s{number}"
            made = await make(nodes.here, session_id)
            log, reader = Elsewhere(nodes, session_id, plan), Reader(nodes.there, session_id)
            reader._engine = log  # type: ignore[assignment] # passes everything on
            following = asyncio.create_task(reader._read(made.tail))
            await until(lambda reader=reader, plan=plan: len(reader.entries) >= sum(plan) + 2)  # type: ignore[misc] # mypy does not see the defaults
            following.cancel()
            assert bodies(reader.entries) == log.appended[: len(reader.entries)], plan


async def lost(count: int) -> None:
    """Lose the end of the log `s`, as a standby that takes over has not got it."""
    await sql(
        "WITH s AS (SELECT number, tail_seq - $1 AS seq FROM session WHERE session_id = 's'),"
        " gone AS (DELETE FROM entry USING s WHERE session = number AND entry.seq > s.seq)"
        " UPDATE session SET tail_seq = s.seq, tail_tag = coalesce((SELECT tag FROM entry"
        " WHERE session = s.number AND entry.seq = s.seq), '00000000')"
        " FROM s WHERE session.number = s.number",
        count,
    )


@pytest.mark.rule("log.order")
@pytest.mark.parametrize("others", [0, 1, 2, 5], ids="{} others".format)
async def test_readers_learn_that_the_store_lost_what_they_saw_and_nothing_of_it_is_served_again(
    monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    async with pair(monkeypatch, poll=POLL) as nodes:
        deafen(nodes)
        made = await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        for n in range(1, 6):
            await add(nodes.here, b"%d" % n)
            await reader.has(n)
        await reader.waits()
        await lost(2)
        if others:
            await add(nodes.here, *[b"other %d" % n for n in range(others)])
        ended = await reader.end()
        assert isinstance(ended, CursorInvalid)
        assert ended.reason == ("cursor_ahead" if others < 2 else "fork")
        again = Reader(nodes.there)
        await again.begin(reader.entries[2].position)
        await until(lambda: len(again.entries) >= others)
        assert bodies(again.entries) == [b"other %d" % n for n in range(others)]
        for phantom in reader.entries[3:]:
            with pytest.raises(CursorInvalid):
                await nodes.there.read("s", phantom.position, limit=10)
        await again.leave()


async def test_a_commit_of_ours_in_another_history_ends_readers_of_the_lost_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch) as nodes:
        made = await make(nodes.there)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        await add(nodes.there, b"1", b"2")
        await reader.has(2)
        await reader.waits()
        await lost(1)
        await add(nodes.there, b"other")
        assert isinstance(await reader.end(), CursorInvalid)
        kept = await nodes.there.read("s", reader.entries[0].position, limit=10)
        assert bodies(kept) == [b"other"]


@pytest.mark.parametrize("hints", [True, False], ids=["by a hint", "by the poll"])
async def test_readers_learn_that_a_session_was_deleted_or_made_again_elsewhere(
    monkeypatch: pytest.MonkeyPatch, *, hints: bool
) -> None:
    async with pair(monkeypatch, poll=3600 if hints else POLL) as nodes:
        if not hints:
            deafen(nodes)
        await make(nodes.here, "gone", b"1")
        await make(nodes.here, "again")
        gone, again = Reader(nodes.there, "gone"), Reader(nodes.there, "again")
        await gone.begin()
        await again.begin()
        await nodes.here.delete("gone")
        assert isinstance(await gone.end(), SessionGone)
        await sql("UPDATE session SET epoch = 'another' WHERE session_id = 'again'")
        if hints:
            await add(nodes.here, b"1", session_id="again")
        ended = await again.end()
        assert isinstance(ended, CursorInvalid)
        assert ended.reason == "epoch_changed"


async def test_what_was_trimmed_elsewhere_is_not_served_from_the_ring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch, poll=POLL) as nodes:
        deafen(nodes)
        made = await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        await add(nodes.here, b"1", b"2", b"3")
        await reader.has(3)
        assert nodes.there._following._rings.read("s", made.tail, 10)
        await nodes.here.trim("s", 2)
        await until(lambda: nodes.there._following._rings.read("s", made.tail, 10) is None)
        with pytest.raises(CursorInvalid):
            await nodes.there.read("s", made.tail, limit=10)
        assert bodies(await nodes.there.read("s", reader.entries[1].position, limit=10)) == [b"3"]
        await reader.leave()


async def test_a_large_backlog_is_paged_from_the_store_and_does_not_go_through_the_ring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch) as nodes:
        made = await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        for count in (BACKLOG + 1, BACKLOG):
            before = len(reader.entries)
            await nodes.here.append(Write("s", [b"%d" % n for n in range(count)]))
            await reader.has(before + count)
            await reader.waits()
            kept = nodes.there._following._rings._recent.start("s")
            assert kept == (None if count > BACKLOG else before)
        await reader.leave()


async def test_a_thousand_sessions_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(monkeypatch) as nodes:
        meddle(nodes.there, lambda hear, news: None)
        count = 1000
        await sql(
            "INSERT INTO session (session_id, agent, metadata, digest, status, created_at, epoch,"
            " start_seq, start_tag, tail_seq, tail_tag, tail_at, last_write)"
            " SELECT 's' || n, 'echo', '{}', 'd', 'idle', 0, 'e', 0, '00000000', 0, '00000000', 0, ''"
            " FROM generate_series(1, $1) AS n",
            count,
        )
        at = await tail(nodes.there, "s1")
        asked = count_looks(monkeypatch)
        waiting = [asyncio.create_task(nodes.there.wait(f"s{n}", at)) for n in range(1, count + 1)]
        awaited = nodes.there._following._sessions.awaited()
        await until(lambda: len(awaited) == count and answered(nodes.there))
        assert len(asked) <= 5
        asked.clear()
        await sql("UPDATE session SET tail_seq = 1, tail_tag = '00000001'")
        await sql(
            "INSERT INTO entry (session, seq, tag, at, body)"
            " SELECT number, 1, '00000001', 0, 'x' FROM session"
        )
        nodes.there._following._looks.want_all()
        async with asyncio.timeout(30):
            await asyncio.wait(waiting)
        assert sum(len(questions.checks) for questions, _ in asked) == count
        assert len(asked) <= 5 + count // looks.FETCHES


async def test_a_session_that_nobody_waits_for_is_let_go_of_with_its_ring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looks, "GRACE_SECONDS", 0.2)
    async with pair(monkeypatch, poll=POLL) as nodes:
        made = await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        await add(nodes.here, b"1")
        await reader.has(1)
        rings = nodes.there._following._rings
        assert rings._recent.start("s") == 0
        await reader.leave()
        await until(lambda: len(rings) == 0)
        assert rings._recent.start("s") is None
        await add(nodes.there, b"2")
        assert rings._recent.start("s") is None


@pytest.mark.fault("F16", holds=("I12",))
async def test_without_hints_work_and_changed_subscriptions_are_found_by_the_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch, poll=POLL) as nodes:
        deafen(nodes)
        waiting = [
            asyncio.create_task(nodes.there.wait_orphans()),
            asyncio.create_task(nodes.there.wait_subscriptions("tab", {})),
        ]
        await proven_blocked(*waiting)
        await nodes.here.append(Write("s", (), create=NEW, claim=FIRST, status="running"))
        await nodes.here.subscribe("tab", "s", "0")
        async with asyncio.timeout(30):
            await waiting[1]
        await proven_blocked(waiting[0])
        await nodes.here.append(Write("s", (), fence=FIRST, release=True))
        async with asyncio.timeout(30):
            await waiting[0]
        await sql("UPDATE session SET reserved_until = 1e15")
        waiting[0] = asyncio.create_task(nodes.there.wait_orphans())
        await proven_blocked(waiting[0])
        await sql("UPDATE session SET reserved_until = 0, claim_nonce = 'n', claim_until = 1")
        async with asyncio.timeout(30):
            await waiting[0]


async def test_with_hints_work_and_changed_subscriptions_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch) as nodes:
        waiting = [
            asyncio.create_task(nodes.there.wait_orphans()),
            asyncio.create_task(nodes.there.wait_subscriptions("tab", {})),
        ]
        await proven_blocked(*waiting)
        await nodes.here.append(Write("s", (), create=NEW, status="running"))
        await nodes.here.subscribe("tab", "s", "0")
        async with asyncio.timeout(30):
            await asyncio.wait(waiting)
