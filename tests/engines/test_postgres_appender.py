"""The Postgres engine's appends: group commit, what is refused alone, outcomes that nobody was told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count, pairwise

import asyncpg
import pytest

from gateway.engines.postgres.calls import APPEND, Try, arguments
from gateway.engines.postgres.lane import BATCH_BYTES, BATCH_LIMIT
from gateway.errors import (
    CommandConflict,
    EngineClosed,
    EngineUnavailable,
    Fenced,
    GatewayError,
    LogMoved,
    SessionConflict,
    SessionGone,
    SessionUnknown,
)
from gateway.log.engine import Appended, Write
from gateway.log.position import NO_TAG, Position
from tests.engines.postgres import LIMIT, Store, store, until
from tests.faults.proxy import Proxy, running_proxy
from tests.support.logs import FIRST, NEW, SECOND, answer
from tests.support.postgres import empty_database, shared
from tests.support.waiting import proven_blocked


@pytest.fixture
async def one() -> AsyncIterator[Store]:
    """A store with one lane, and the sessions `gate`, `a`, `b` and `c`."""
    async with store(await empty_database(), writers=1) as opened:
        await opened.make("gate", "a", "b", "c")
        yield opened


async def piled_up(opened: Store, *writes: Write) -> list[Appended | BaseException]:
    """Let the lane do writes in one batch, if they fit in one; return what each came to."""
    async with opened.held("gate"):
        first = opened.begin(Write("gate", [b"first"]))
        await until(lambda: opened.waiting_for("transactionid"))
        rest = opened.begin(*writes)
        await proven_blocked(*first, *rest)
    async with asyncio.timeout(LIMIT):
        return await asyncio.gather(*rest, return_exceptions=True)  # noqa: TID251 - results, in order


async def test_writes_of_many_sessions_that_come_together_share_one_commit(one: Store) -> None:
    names = [f"s{n}" for n in range(40)]
    await one.make(*names)
    await piled_up(one, *(Write(name, [b"1", b"2"]) for name in names))
    assert await one.commits() == 2, "one for what came first, one for all others"
    for name in names:
        assert await one.bodies(name) == [b"1", b"2"]


async def test_several_writes_of_one_session_are_done_one_after_the_other_in_their_order(
    one: Store,
) -> None:
    writes = [Write(name, [b"%d" % n]) for n in range(5) for name in "abc"]
    results = await piled_up(one, *writes)
    for name in "abc":
        assert await one.bodies(name) == [b"0", b"1", b"2", b"3", b"4"]
    assert await one.commits() == 6
    assert all(isinstance(result, Appended) for result in results)


async def test_a_batch_is_bounded_in_writes_and_in_bytes(one: Store) -> None:
    large = bytes(BATCH_BYTES // 2 + 1)
    await piled_up(one, *(Write(name, [large]) for name in "abc"))
    assert await one.commits() == 4
    results = await piled_up(
        one, *(Write(f"n{n}", [b"x"], create=NEW) for n in range(BATCH_LIMIT + 1))
    )
    assert not any(isinstance(result, BaseException) for result in results)
    assert await one.commits() == 4 + 3


async def test_a_write_that_is_refused_refuses_itself_and_nothing_else(one: Store) -> None:
    moved = (await one.append(Write("a", [b"0"]))).tail
    await one.append(Write("a", [b"1"]))
    await one.append(Write("b", [], claim=FIRST))
    await one.append(Write("c", [b"0"], answer=answer()))
    await one.make("again", "other", "fence", "gone")
    await one.look.execute("DELETE FROM session WHERE session_id = 'gone'")
    await one.look.execute("INSERT INTO tombstone (session_id, at) VALUES ('gone', 1)")
    before = len(one.committed)
    writes: list[tuple[Write, type[GatewayError] | None]] = [
        (Write("a", [b"x"], expect=moved), LogMoved),
        (Write("b", [b"x"], claim=SECOND), Fenced),
        (Write("c", [b"x"], answer=answer(digest="b2")), CommandConflict),
        (Write("nobody", [b"x"]), SessionUnknown),
        (Write("gone", [b"x"]), SessionGone),
        (Write("again", [b"x"], create=replace(NEW, digest="d2")), SessionConflict),
        (Write("fence", [b"x"], fence=FIRST), Fenced),
        (Write("other", [b"1"], title="done"), None),
        (Write("new", [b"1"], create=NEW, claim=SECOND, status="running"), None),
    ]
    results = await piled_up(one, *(write for write, _ in writes))
    for result, (_, expected) in zip(results, writes, strict=True):
        assert type(result) is (expected or Appended)
    assert await one.commits() == 5
    assert [await one.bodies(name) for name in ("other", "new")] == [[b"1"], [b"1"]]
    assert {done.session_id for done in one.committed[before:]} == {"gate", "other", "new"}
    gone = await one.look.fetchval("SELECT count(*) FROM session WHERE session_id = 'gone'")
    assert gone == 0
    kept = await one.look.fetchval("SELECT count(*) FROM session WHERE judged OR title = 'x'")
    assert kept == 0


async def test_a_repeated_command_gets_its_first_answer_in_the_middle_of_a_batch(
    one: Store,
) -> None:
    first = await one.append(Write("a", [b"1"], answer=answer()))
    again, other = await piled_up(
        one, Write("a", [b"1"], answer=answer()), Write("b", [b"1"], answer=answer())
    )
    assert again == Appended((), first.tail, first.answer, repeated=True)
    assert isinstance(other, Appended)
    assert not other.repeated
    assert other.answer == replace(answer(), position=other.entries[0].position)


async def test_what_follows_a_commit_is_told_the_tail_before_and_whether_a_run_was_left_alone(
    one: Store,
) -> None:
    made = await one.append(Write("s", [b"1"], create=NEW, claim=FIRST, status="running"))
    await one.append(Write("s", [b"2"], fence=FIRST))
    await one.append(Write("s", [b"3"], fence=FIRST, release=True))
    await one.append(Write("s", [], claim=SECOND))
    await one.append(Write("s", [], fence=SECOND, release=True, status="idle"))
    done = [each for each in one.committed if each.session_id == "s"]
    assert [each.left_alone for each in done] == [False, False, True, False, False]
    assert done[0].before == Position(made.tail.epoch, 0, NO_TAG)
    for earlier, later in pairwise(done):
        assert later.before == earlier.appended.tail


async def test_a_value_that_the_database_cannot_keep_fails_its_own_write_and_no_other(
    one: Store,
) -> None:
    wrong = Write("a", [b"1"], answer=answer("nul\0"))
    bad, good, next_ = await piled_up(
        one, wrong, Write("b", [b"1"], title="a\0b"), Write("b", [b"2"])
    )
    assert type(bad) is EngineUnavailable
    assert isinstance(good, Appended)
    assert isinstance(next_, Appended)
    assert await one.bodies("a") == []
    assert await one.bodies("b") == [b"1", b"2"], "in their order"
    title = await one.look.fetchval("SELECT title FROM session WHERE session_id = 'b'")
    assert title == "a\N{REPLACEMENT CHARACTER}b"


async def test_callers_that_went_away_undo_nothing(one: Store) -> None:
    async with one.held("gate"):
        callers = one.begin(Write("gate", [b"1"]))
        await until(lambda: one.waiting_for("transactionid"))
        callers += one.begin(*(Write(name, [b"1"]) for name in "abc"))
        await proven_blocked(*callers)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
    await until(lambda: sum(bool(done.appended.entries) for done in one.committed) == 4)
    assert [await one.bodies(name) for name in ("gate", "a", "b", "c")] == [[b"1"]] * 4


@pytest.mark.rule("log.order")
async def test_of_two_processes_that_know_the_same_tail_one_writes_and_no_seq_is_left_out() -> None:
    url = await empty_database()
    async with store(url) as left, store(url) as right:
        await left.make("s")

        async def decide(mine: Store, name: bytes) -> int:
            """Append ten times after looking, as sessions do; return how often it came too late."""
            late = done = 0
            while done < 10:
                seen = await mine.tail()
                try:
                    await mine.append(Write("s", [name, name], expect=seen))
                    done += 1
                except LogMoved:
                    late += 1
            return late

        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            tasks.create_task(decide(left, b"l"))
            tasks.create_task(decide(right, b"r"))
        found = await left.bodies()
        assert found[::2] == found[1::2], "each write is whole"
        assert sorted(found) == [b"l"] * 20 + [b"r"] * 20

        same = await left.tail()
        tries = left.begin(*[Write("s", [b"x"], expect=same)] * 3)
        tries += right.begin(*[Write("s", [b"x"], expect=same)] * 3)
        await asyncio.wait(tries, timeout=LIMIT)
        assert sum(isinstance(each.exception(), LogMoved) for each in tries) == 5


async def test_a_session_that_two_processes_create_at_once_is_created_once() -> None:
    """Others that make one of them at the same time, and let it be, hold both up in the middle."""
    url = await empty_database()
    names = [f"s{n:02}" for n in range(40)]
    async with store(url, writers=1) as left, store(url, writers=1) as right:
        other: asyncpg.Connection = await asyncpg.connect(url)
        changing = other.transaction()
        await changing.start()
        tried = [Try(Write(name, [], create=NEW)) for name in (names[0], names[20])]
        await other.fetchrow(APPEND, *arguments(tried, 80, None, 20))
        writes = [Write(name, [b"1"], create=NEW) for name in names]
        tries = left.begin(*writes)
        await until(lambda: left.waiting_for("transactionid"))
        tries += right.begin(*reversed(writes))
        await until(lambda: _two_wait(left))
        await changing.rollback()
        await other.close()
        done, _ = await asyncio.wait(tries, timeout=LIMIT)
        assert sum(task.result().repeated for task in done) == len(names)
        for name in names:
            assert await left.bodies(name) == [b"1"]
    assert "deadlock detected" not in shared().log.read_text(errors="replace")


async def _two_wait(opened: Store) -> bool:
    return len(await opened.waiting_for("transactionid")) == 2


async def test_batches_of_the_same_sessions_in_opposite_orders_do_not_wait_in_a_circle() -> None:
    url = await empty_database()
    names = [f"s{n:02}" for n in range(24)]
    async with store(url, writers=1) as left, store(url, writers=1) as right:
        await left.make(*names)
        for _ in range(10):
            tries = left.begin(*(Write(name, [b"l"]) for name in names))
            tries += right.begin(*(Write(name, [b"r"]) for name in reversed(names)))
            await asyncio.wait(tries, timeout=LIMIT)
            assert all(isinstance(each.result(), Appended) for each in tries)
    assert "deadlock detected" not in shared().log.read_text(errors="replace")


@pytest.mark.fault("F11", holds=("I1", "I4"))
async def test_appends_whose_connections_are_killed_at_random_are_done_once() -> None:
    url, chance = await empty_database(), random.Random(6)  # noqa: S311 - no secret
    async with store(url) as opened:
        await opened.make(*"abcd")
        stop = asyncio.Event()
        told: dict[str, list[tuple[bytes, Position]]] = {name: [] for name in "abcd"}

        async def write(name: str) -> None:
            for n in count():
                body = b"%d" % n
                appended = await opened.append(Write(name, [body, body + b"+"]))
                told[name].append((body, appended.tail))
                if stop.is_set():
                    return

        async with asyncio.timeout(2 * LIMIT), asyncio.TaskGroup() as tasks:
            for name in "abcd":
                tasks.create_task(write(name))
            for _ in range(12):
                await asyncio.sleep(chance.uniform(0, 0.1))
                await opened.look.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'tidegate append%' AND datname = current_database()"
                )
            stop.set()
        for name in "abcd":
            found = await opened.bodies(name)
            assert found == [part for body, _ in told[name] for part in (body, body + b"+")]
            assert [tail.seq for _, tail in told[name]] == list(range(2, len(found) + 1, 2))


LOST = [
    pytest.param(Write("s", [b"1", b"2"], answer=answer()), id="entries"),
    pytest.param(Write("s", [], claim=SECOND), id="claim"),
    pytest.param(Write("s", [], status="closed"), id="status"),
    pytest.param(Write("new", [b"1"], create=NEW, answer=answer()), id="create"),
]


@pytest.mark.fault("F11", holds=("I1", "I13"))
@pytest.mark.parametrize("write", LOST)
async def test_a_write_whose_answer_was_lost_is_found_and_not_done_again(write: Write) -> None:
    async with proxied() as (opened, proxy):
        await opened.append(Write("s", [b"0"], create=NEW))
        opened.committed.clear()
        look = "SELECT last_write, tail_seq, tail_tag FROM session WHERE session_id = $1"
        before = await opened.look.fetchrow(look, write.session_id)
        lose_the_next_answer(proxy)
        proxy.refuse = True
        (lost,) = opened.begin(write)
        await until(lambda: proxy.cuts)
        written = await opened.look.fetchrow(look, write.session_id)
        assert written != before
        assert not lost.done()
        proxy.refuse = False
        async with asyncio.timeout(LIMIT):
            appended = await lost
        assert await opened.look.fetchrow(look, write.session_id) == written
        assert [entry.body for entry in appended.entries] == list(write.bodies)
        assert written is not None
        assert (appended.tail.seq, appended.tail.tag) == (written["tail_seq"], written["tail_tag"])
        assert not appended.repeated
        (done,) = opened.committed
        assert done.appended == appended
        seq, tag = (0, NO_TAG) if before is None else (before["tail_seq"], before["tail_tag"])
        assert (done.before.seq, done.before.tag) == (seq, tag)
        if write.answer is not None:
            assert appended.answer == replace(write.answer, position=appended.entries[0].position)


async def test_a_write_that_was_lost_on_its_way_is_done_on_the_next_connection() -> None:
    async with proxied() as (opened, proxy):
        await opened.append(Write("s", [b"0"], create=NEW))
        proxy.change_all(silent=True)
        (lost,) = opened.begin(Write("s", [b"1"]))
        await proven_blocked(lost)
        proxy.change_all(silent=False)
        proxy.cut_all()
        async with asyncio.timeout(LIMIT):
            assert (await lost).tail.seq == 2
        assert await opened.bodies() == [b"0", b"1"]


async def test_what_was_sent_on_a_connection_that_was_given_up_is_never_done_later(
    one: Store,
) -> None:
    """A server that was busy, or a proxy, may come back to what we have long done otherwise."""
    late = [Try(Write("a", [b"late"]))]
    await one.look.execute("SELECT settle_writes(77, '{}', '{}', '{}')")
    with pytest.raises(asyncpg.PostgresConnectionError):
        await one.look.fetchrow(APPEND, *arguments(late, 77, None, 20))
    assert await one.bodies("a") == []
    await one.look.fetchrow(APPEND, *arguments(late, 78, None, 20))
    assert await one.bodies("a") == [b"late"]


async def test_an_answer_is_looked_for_only_when_the_lost_call_has_ended(one: Store) -> None:
    """It may be waiting for a row, and be done after that."""
    busy: asyncpg.Connection = await asyncpg.connect(one.connections.url)
    tries = [Try(Write("a", [b"1"]))]
    async with one.held("a"):
        call = asyncio.create_task(busy.fetchrow(APPEND, *arguments(tries, 79, None, 20)))
        pid = busy.get_server_pid()
        event = "SELECT wait_event = 'transactionid' FROM pg_stat_activity WHERE pid = $1"
        await until(lambda: one.look.fetchval(event, pid))
        asked = asyncio.create_task(
            one.look.fetchrow(
                "SELECT seq FROM settle_writes(79, ARRAY['a'], ARRAY[$1], ARRAY[NULL])",
                tries[0].tag,
            )
        )
        await proven_blocked(asked)
    async with asyncio.timeout(LIMIT):
        await call
        row = await asked
    assert row is not None
    assert row["seq"] == 1
    await busy.close()


async def test_while_the_store_is_away_callers_are_told_soon_and_it_goes_on_when_it_is_back() -> (
    None
):
    async with proxied(patience=0.3) as (opened, proxy):
        await opened.append(Write("s", [b"0"], create=NEW))
        proxy.refuse = True
        proxy.cut_all()
        (lane,) = opened.appender._lanes
        await until(lambda: lane._db is None or lane._db.is_closed())
        async with asyncio.timeout(LIMIT):
            with pytest.raises(EngineUnavailable):
                await opened.appender.append(Write("s", [b"never"]))
        proxy.refuse = False
        await opened.append(Write("s", [b"1"]))
        assert await opened.bodies() == [b"0", b"1"]


async def test_a_write_that_may_have_been_done_is_waited_for_however_long_the_store_is_away() -> (
    None
):
    async with proxied(patience=0.2) as (opened, proxy):
        await opened.append(Write("s", [b"0"], create=NEW))
        lose_the_next_answer(proxy)
        proxy.refuse = True
        (lost,) = opened.begin(Write("s", [b"1"]))
        await until(lambda: proxy.cuts)
        with pytest.raises(EngineUnavailable):
            await opened.appender.append(Write("s", [b"2"]))
        assert not lost.done()
        proxy.refuse = False
        async with asyncio.timeout(LIMIT):
            assert (await lost).tail.seq == 2
        assert await opened.bodies() == [b"0", b"1"]


async def test_closing_finishes_what_was_accepted_and_takes_nothing_more(one: Store) -> None:
    async with one.held("gate"):
        accepted = one.begin(*(Write(name, [b"1"]) for name in ("gate", "a", "b", "c")))
        await until(lambda: one.waiting_for("transactionid"))
        closing = asyncio.create_task(one.appender.aclose())
        await proven_blocked(closing)
        with pytest.raises(EngineClosed):
            await one.appender.append(Write("a", [b"2"]))
    async with asyncio.timeout(LIMIT):
        await closing
    assert all(task.result().tail.seq == 1 for task in accepted)
    assert await one.bodies("a") == [b"1"]


async def test_closing_without_the_store_ends_and_every_caller_is_told() -> None:
    async with proxied(patience=0.3) as (opened, proxy):
        await opened.append(Write("s", [b"0"], create=NEW))
        proxy.change_all(silent=True)
        (sent,) = opened.begin(Write("s", [b"1"]))
        await proven_blocked(sent)
        (queued,) = opened.begin(Write("s", [b"2"]))
        await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT):
            await opened.appender.aclose()
        done, _ = await asyncio.wait([sent, queued], timeout=LIMIT)
        assert len(done) == 2
        assert all(isinstance(task.exception(), EngineUnavailable) for task in done)


async def test_a_primary_that_takes_no_writes_any_more_is_left() -> None:
    cluster = shared()
    async with store(await empty_database()) as opened:
        await opened.make("s")
        try:
            cluster.configure(default_transaction_read_only="on")
            await until(lambda: _says(opened, "default_transaction_read_only", "on"))
            (waiting,) = opened.begin(Write("s", [b"1"]))
            await proven_blocked(waiting)
        finally:
            cluster.configure(default_transaction_read_only="off")
        async with asyncio.timeout(LIMIT):
            assert (await waiting).tail.seq == 1


async def _says(opened: Store, setting: str, value: str) -> bool:
    found: str = await opened.look.fetchval("SELECT current_setting($1)", setting)
    return found == value


def lose_the_next_answer(proxy: Proxy) -> None:
    """Cut each connection when the server has answered, and before anything of it was passed on."""
    for connection in proxy.connections:
        connection.faults = replace(
            connection.faults, cut_to_client_after=connection.to_client, reset=True
        )


@asynccontextmanager
async def proxied(*, patience: float = LIMIT) -> AsyncIterator[tuple[Store, Proxy]]:
    """Open a store with one lane behind a proxy."""
    url = await empty_database()
    async with running_proxy(shared().port) as proxy:
        through = url.replace(f":{shared().port}/", f":{proxy.port}/")
        async with store(url, through=through, writers=1, patience=patience) as opened:
            yield opened, proxy
