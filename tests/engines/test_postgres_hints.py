"""Hints between processes: what they say, and what happens to the connection that they come over."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from gateway.engines.postgres import hints as module
from gateway.engines.postgres.hints import News, packed, unpacked
from gateway.errors import EngineUnavailable
from tests.faults.proxy import running_proxy
from tests.support.following import NEVER, PATIENCE, Pair, Reader, meddle, pair, sql, until
from tests.support.logs import add, bodies, make
from tests.support.postgres import shared
from tests.support.waiting import proven_blocked

POLL = 0.1


def test_any_amount_of_news_goes_into_payloads_that_postgres_takes() -> None:
    names = [f"session-{n}-{'é' * (n % 50)}" for n in range(500)]
    news = News(
        by="me",
        sessions={name: f"epoch.{n}.0123abcd" for n, name in enumerate(names)},
        clients={f'client "{n}"' for n in range(500)} | {"x" * 9000},
        orphans=True,
    )
    payloads = list(packed(news))
    assert all(len(payload.encode()) < 8000 for payload in payloads)
    pieces = [unpacked(payload) for payload in payloads]
    assert len(pieces) < 10
    sessions: dict[str, str] = {}
    clients: set[str] = set()
    for piece in pieces:
        assert piece is not None
        assert piece.by == "me"
        sessions |= piece.sessions
        clients |= piece.clients
    assert sessions == news.sessions
    assert clients == news.clients - {"x" * 9000}
    assert [piece.orphans for piece in pieces if piece] == [True] + [False] * (len(pieces) - 1)


def test_no_news_are_one_payload_that_only_says_who_is_there() -> None:
    (payload,) = packed(News(by="me"))
    assert unpacked(payload) == News(by="me")


@pytest.mark.parametrize(
    "payload", ["", "{", "[]", "7", '{"by": "me"}', '{"by":"me","sessions":[],"clients":1}']
)
def test_what_says_nothing_that_is_known_is_no_news(payload: str) -> None:
    assert unpacked(payload) is None


async def test_a_payload_of_somebody_else_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(monkeypatch) as nodes:
        made = await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        for payload in (
            "",
            "nonsense",
            '{"by":"x","sessions":{"s":"nonsense"},"clients":[],"orphans":0}',
        ):
            await sql("SELECT pg_notify('tidegate', $1)", payload)
        await add(nodes.here, b"1")
        await reader.has(1)
        await reader.leave()


async def test_what_many_sessions_have_to_say_at_once_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch) as nodes:
        told: list[News] = []
        meddle(nodes.there, lambda hear, news: told.append(news))
        names = {f"session-{n}" for n in range(300)}
        for name in names:
            nodes.here._following._hints.session(name, None)
        await until(lambda: {name for news in told for name in news.sessions} == names)
        assert len(told) < 5


async def test_between_two_notifications_there_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(monkeypatch) as nodes:
        loop, said = asyncio.get_running_loop(), list[float]()
        execute = module.packed

        def noted(news: News) -> object:
            said.append(loop.time())
            return execute(news)

        monkeypatch.setattr(module, "packed", noted)
        for n in range(20):
            nodes.here._following._hints.client(f"client-{n}")
            await until(lambda n=n: len(said) > n)  # type: ignore[misc] # mypy does not see the default
        # The loop's clock counts in milliseconds.
        assert all(later - sooner > 0.009 for sooner, later in pairwise(said))


async def hint_connections() -> list[int]:
    """Return the two that there are, once those of engines that were closed are really gone."""
    async with asyncio.timeout(PATIENCE):
        while True:
            rows = await sql(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'tidegate hints'"
                " AND datname = current_database() ORDER BY pid"
            )
            if len(rows) == 2:
                return [row["pid"] for row in rows]


@pytest.mark.fault("F15", holds=("I3",))
@pytest.mark.rule("resume.no_hole")
async def test_when_the_listening_connection_is_cut_it_comes_back_and_nothing_was_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEEPALIVE_SECONDS", NEVER)
    async with pair(monkeypatch) as nodes:
        made = await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        before = await hint_connections()
        await sql("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", before)
        await until(lambda: not nodes.here._following._hints._up)
        await add(nodes.here, b"1")  # of which nobody is told
        await reader.has(1)
        await until(lambda: nodes.here._following._hints._up)
        await reader.waits()
        await add(nodes.here, b"2")
        await reader.has(2)
        assert not set(before) & set(await hint_connections())
        await reader.leave()


@pytest.mark.fault("F15", holds=("I3",))
@pytest.mark.rule("resume.no_hole")
async def test_a_listening_connection_that_goes_silent_is_noticed_and_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEEPALIVE_SECONDS", 0.1)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.5)
    async with running_proxy(shared().port) as proxy:
        direct = shared().url("tests").replace(str(shared().port), str(proxy.port))
        async with pair(monkeypatch, direct=direct) as nodes:
            made = await make(nodes.here)
            reader = Reader(nodes.there)
            await reader.begin(made.tail)
            accepted = proxy.accepted
            for connection in proxy.connections:
                connection.faults.silent = True
            await add(nodes.here, b"1")
            await reader.has(1)
            await until(lambda: proxy.accepted > accepted and nodes.there._following._hints._up)
            await reader.waits()
            await add(nodes.here, b"2")
            await reader.has(2)
            await reader.leave()


@pytest.mark.fault("F15", holds=("I3",))
async def test_behind_what_swallows_notifications_the_poll_brings_everything_and_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "KEEPALIVE_SECONDS", 0.05)
    monkeypatch.setattr(module, "DEAF_SECONDS", 0.2)
    async with pair(monkeypatch, poll=POLL) as nodes:
        caplog.set_level(logging.INFO, module.__name__)
        made = await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        hints = nodes.there._following._hints
        hear = hints._notified
        await sql_as_listener(nodes, "UNLISTEN *")
        await until(lambda: "do not arrive" in caplog.text)
        for n in range(1, 4):
            await add(nodes.here, b"%d" % n)
            await reader.has(n)
        hear(None, 0, "tidegate", next(packed(News(by=hints._by))))
        await until(lambda: "arrive again" in caplog.text)
        await reader.leave()


async def sql_as_listener(nodes: Pair, statement: str) -> None:
    """Do something on the connection over which hints come to the readers' process."""
    (db,) = [
        db
        for db in nodes.there._connections._dedicated
        if db.get_settings().application_name == "tidegate hints"
    ]
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await db.execute(statement)
            except Exception:  # noqa: BLE001 - it is in use just now
                await asyncio.sleep(0.001)
            else:
                return


@pytest.mark.fault("F15", "F16", holds=("I3", "I12"))
async def test_while_the_store_is_away_readers_wait_and_then_get_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch, poll=POLL) as nodes:
        made = await make(nodes.here, "s", b"1")
        reader = Reader(nodes.there)
        await reader.begin()
        await reader.has(1)
        work = asyncio.create_task(nodes.there.wait_orphans())
        await reader.waits()
        shared().psql("ALTER DATABASE tests WITH ALLOW_CONNECTIONS false")
        try:
            shared().psql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'tests'"
            )
            looks = nodes.there._following._looks
            await until(lambda: looks._failures > 2 and not nodes.there._following._hints._up)
            with pytest.raises(EngineUnavailable):
                await nodes.there.read("s", made.tail, limit=1)
            fresh = asyncio.create_task(nodes.there.wait("s", made.tail))
            changed = asyncio.create_task(nodes.there.wait_subscriptions("tab", {}))
            await proven_blocked(fresh, changed, work)
        finally:
            shared().psql("ALTER DATABASE tests WITH ALLOW_CONNECTIONS true")
        async with asyncio.timeout(PATIENCE):
            await changed  # what it was to differ from was not known: it looks again
        await until(lambda: nodes.here._following._hints._up)
        await add(nodes.here, b"2")
        await reader.has(2)
        async with asyncio.timeout(PATIENCE):
            await fresh
        work.cancel()
        await reader.leave()


async def test_the_last_hints_are_still_said_when_a_process_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.3)
    async with pair(monkeypatch) as nodes:
        waiting = asyncio.create_task(nodes.there.wait_orphans())
        await proven_blocked(waiting)
        hints = nodes.here._following._hints
        hints.client("tab")
        await until(lambda: not hints._pending)  # now it gathers what else there is
        nodes.here._following.left_alone()
        await nodes.here.aclose()
        async with asyncio.timeout(PATIENCE):
            await waiting


async def test_of_a_burst_of_commits_readers_get_each_entry_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(monkeypatch) as nodes:
        made = await make(nodes.here)
        reader = Reader(nodes.there)
        await reader.begin(made.tail)
        async with asyncio.TaskGroup() as writing:
            for n in range(100):
                writing.create_task(add(nodes.here if n % 2 else nodes.there, b"%d" % n))
        await reader.has(100)
        assert sorted(bodies(reader.entries)) == sorted(b"%d" % n for n in range(100))
        await reader.leave()
