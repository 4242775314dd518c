"""The Postgres engine's connections: what goes wrong with them, in which words, and what is tried again."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.engines.postgres import connections as module
from gateway.engines.postgres.connections import Connections, is_lost, translated
from gateway.errors import EngineClosed, EngineUnavailable, StartupRefused
from tests.engines.postgres import LIMIT, until
from tests.faults.proxy import running_proxy
from tests.support.postgres import Cluster, empty_database, shared

PASSWORD = "sesame"  # noqa: S105 - of nobody


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    opened = await Connections.open(await empty_database(), readers=2)
    yield opened
    await opened.aclose()


async def end_all_but(db: asyncpg.Connection) -> None:
    """Let the server end all other connections to the database."""
    await db.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"postgresql://me:{PASSWORD}@127.0.0.1:1/tests", "Connect call failed"),
        (f"postgresql://me:{PASSWORD}@127.0.0.1:x1/tests", "is wrong"),
        (f"postgresql://me:{PASSWORD}@127.0.0.1:1/tests?statement_cache_size={PASSWORD}", "wrong"),
    ],
)
async def test_a_database_that_cannot_be_used_is_said_in_one_line_without_the_password(
    url: str, reason: str
) -> None:
    with pytest.raises(StartupRefused) as refused:
        await Connections.open(url)
    assert reason in str(refused.value)
    assert PASSWORD not in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_a_database_that_does_not_exist_is_named() -> None:
    with pytest.raises(StartupRefused, match='database "nowhere" does not exist'):
        await Connections.open(shared().url("nowhere"))


async def test_a_read_whose_connection_was_lost_is_done_on_another(
    connections: Connections,
) -> None:
    tries: list[int] = []

    async def read(db: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]) -> int:
        tries.append(db.get_server_pid())
        if len(tries) == 1:
            killer: asyncpg.Connection = await asyncpg.connect(connections.url)
            await end_all_but(killer)
            await killer.close()
        value: int = await db.fetchval("SELECT 7")
        return value

    assert await connections.read(read) == 7
    assert len(set(tries)) == 2


async def test_a_read_that_fails_otherwise_is_not_tried_again(connections: Connections) -> None:
    tries: list[int] = []

    async def read(db: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]) -> None:
        tries.append(1)
        await db.execute("SELECT 1 / 0")

    with pytest.raises(EngineUnavailable) as failed:
        await connections.read(read)
    assert isinstance(failed.value.__cause__, asyncpg.DivisionByZeroError)
    assert len(tries) == 1


async def test_a_statement_that_takes_too_long_is_told_and_its_connection_is_of_use_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COMMAND_SECONDS", 0.1)
    connections = await Connections.open(await empty_database(), readers=1)
    with pytest.raises(EngineUnavailable) as told:
        async with connections.reading() as db:
            await db.execute("SELECT pg_sleep(60)")
    assert isinstance(told.value.__cause__, TimeoutError)
    async with connections.reading() as db:
        assert await db.fetchval("SELECT 1", timeout=LIMIT) == 1
    await connections.aclose()


async def test_a_pool_that_is_used_up_is_told(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connections.reading(), connections.reading():
        monkeypatch.setattr(module, "ACQUIRE_SECONDS", 0.1)
        with pytest.raises(EngineUnavailable):
            async with connections.reading():
                pass


async def test_after_closing_everything_says_so(connections: Connections) -> None:
    private = connections.private("test")
    async with private.using() as db:
        pass
    await connections.aclose()
    await connections.aclose()
    assert db.is_closed()
    with pytest.raises(EngineClosed):
        async with connections.reading():
            pass
    with pytest.raises(EngineClosed):
        await connections.dedicated("test")
    with pytest.raises(EngineClosed):
        async with private.using():
            pass


async def test_an_outage_is_logged_once_and_its_end_once_without_the_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = (await empty_database()).replace("tidegate@", f"tidegate:{PASSWORD}@")
    async with running_proxy(shared().port) as proxy:
        through = url.replace(f":{shared().port}/", f":{proxy.port}/")
        connections = await Connections.open(through)
        caplog.clear()
        proxy.refuse = True
        proxy.cut_all()
        for _ in range(5):
            with pytest.raises(EngineUnavailable):
                await connections.read(lambda db: db.fetchval("SELECT 1"))
        proxy.refuse = False
        for _ in range(5):
            assert await connections.read(lambda db: db.fetchval("SELECT 1")) == 1
        await connections.aclose()
    said = [record for record in caplog.records if record.name.startswith("gateway.engines")]
    assert [record.levelno for record in said] == [logging.ERROR, logging.WARNING]
    assert f"127.0.0.1:{proxy.port}/tests" in caplog.text
    assert PASSWORD not in caplog.text


async def test_a_dedicated_connection_has_none_of_the_time_limits_that_the_database_sets() -> None:
    url = await empty_database()
    shared().psql("ALTER DATABASE tests SET statement_timeout = '60s'")
    shared().psql("ALTER DATABASE tests SET lock_timeout = '60s'")
    shared().psql("ALTER DATABASE tests SET transaction_timeout = '60s'")
    try:
        connections = await Connections.open(url)
        db = await connections.dedicated("test")
        for name in ("statement_timeout", "lock_timeout", "transaction_timeout"):
            assert await db.fetchval("SELECT current_setting($1)", name) == "0"
        assert await db.fetchval("SHOW application_name") == "tidegate test"
        await connections.aclose()
    finally:
        shared().psql("ALTER DATABASE tests RESET ALL")


async def test_the_other_end_s_vanishing_is_noticed(connections: Connections) -> None:
    db = await connections.dedicated("test")
    link: socket.socket = db._transport.get_extra_info("socket")  # type: ignore[attr-defined] # the driver shows it nowhere
    assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000


async def test_what_the_url_says_is_kept() -> None:
    url = await empty_database()
    asked = f"{url}?statement_cache_size=0&search_path=elsewhere,public&application_name=mine"
    connections = await Connections.open(asked)
    async with connections.reading() as db:
        assert await db.fetchval("SHOW search_path") == "elsewhere,public"
        assert await db.fetchval("SHOW application_name") == "mine"
        await db.fetchval("SELECT $1::int", 1)
        assert (
            await db.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0
        )
    await connections.aclose()


async def test_of_several_hosts_the_one_that_takes_writes_is_used() -> None:
    url = await empty_database()
    shared().psql("CREATE ROLE reader LOGIN SUPERUSER")
    shared().psql("ALTER ROLE reader SET default_transaction_read_only = on")
    try:
        with pytest.raises(StartupRefused):
            await Connections.open(url.replace("tidegate@", "reader@"))
        any_of_them = url.replace("tidegate@", "reader@") + "?target_session_attrs=any"
        await (await Connections.open(any_of_them)).aclose()
        several = url.replace("@127.0.0.1", "@127.0.0.1:1,127.0.0.1")
        await (await Connections.open(several)).aclose()
    finally:
        shared().psql("DROP ROLE reader")


@pytest.mark.fault("F12", holds=("I2",))
async def test_when_another_server_has_taken_over_no_connection_to_the_old_one_is_used_again() -> (
    None
):
    url, other = await empty_database(), Cluster.started()
    other.create_database("tests")
    try:
        async with running_proxy(shared().port) as proxy:
            through = url.replace(f":{shared().port}/", f":{proxy.port}/")
            connections = await Connections.open(through, readers=2)
            async with connections.reading(), connections.reading():
                pass
            old = await connections.dedicated("old")
            proxy.target = other.port
            new = await connections.dedicated("new")
            assert await new.fetchval("SHOW port") == str(other.port)
            await until(old.is_closed)
            async with connections.reading() as one, connections.reading() as two:
                assert await one.fetchval("SHOW port") == str(other.port)
                assert await two.fetchval("SHOW port") == str(other.port)
            await connections.aclose()
    finally:
        other.remove()


async def test_a_private_connection_comes_back_and_is_given_to_one_at_a_time(
    connections: Connections,
) -> None:
    private = connections.private("test")
    await private.open()
    async with private.using() as db, connections.reading() as killer:
        first = db.get_server_pid()
        assert await db.fetchval("SHOW application_name") == "tidegate test"
        await killer.execute("SELECT pg_terminate_backend($1, 10000)", first)
    async with asyncio.timeout(LIMIT):
        await until(db.is_closed)
    pids: list[int] = []

    async def use() -> None:
        async with private.using() as db:
            await db.execute("SELECT pg_sleep(0.01)")
            pids.append(db.get_server_pid())

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(use())
    assert len(set(pids)) == 1
    assert pids[0] != first
    await private.aclose()


def test_what_is_lost_and_what_has_only_failed_are_told_apart() -> None:
    lost = [
        asyncpg.ConnectionDoesNotExistError(),
        asyncpg.AdminShutdownError(),
        asyncpg.CannotConnectNowError(),
        asyncpg.ReadOnlySQLTransactionError(),
        asyncpg.InterfaceError("the connection is closed"),
        ConnectionResetError(),
    ]
    failed = [
        asyncpg.UniqueViolationError(),
        asyncpg.DeadlockDetectedError(),
        asyncpg.DiskFullError(),
        asyncpg.DataError("cannot be sent"),
        TimeoutError(),
        None,
    ]
    assert [is_lost(error) for error in lost] == [True] * len(lost)
    assert [is_lost(error) for error in failed] == [False] * len(failed)
    for error in (*lost, *failed):
        if error is not None and not isinstance(error, asyncpg.DataError):
            with pytest.raises(EngineUnavailable) as told, translated():
                raise error
            assert told.value.__cause__ is error
