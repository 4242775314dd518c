"""How the schema of a Postgres database is made and changed, by many at once and beside older nodes."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from gateway.engines.postgres import schema
from gateway.engines.postgres.engine import PostgresEngine
from gateway.engines.postgres.migrations import running
from gateway.errors import StartupRefused
from tests.support.logs import add, bodies, kept, make
from tests.support.postgres import Cluster, shared

ROOT = Path(__file__).parents[2]
LIMIT = 30.0

NEXT = """
from gateway.engines.postgres.migrations import step
from alembic import op

revision = "0002"
down_revision = "0001"
mark = step(compatible_with="{oldest}")

def upgrade():
    op.execute("ALTER TABLE session ADD COLUMN colour text NOT NULL DEFAULT 'blue'")
    op.execute("ALTER TABLE entry ADD COLUMN size bigint")
    mark()
"""
"""A step of the version to come."""


@pytest.fixture
def url() -> str:
    """A database with nothing in it."""
    return shared().create_database("migrations")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    db = await asyncpg.connect(url)
    try:
        yield db
    finally:
        await db.close()


async def until_true(db: asyncpg.Connection, question: str) -> None:
    async with asyncio.timeout(LIMIT):
        while not await db.fetchval(question):
            continue


def steps_to_come(folder: Path, *, oldest: str) -> Path:
    """Make a folder of steps: those that there are, and the next."""
    versions = folder / "versions"
    versions.mkdir(parents=True)
    for file in (running.FOLDER / "versions").glob("r*.py"):
        (versions / file.name).write_bytes(file.read_bytes())
    (versions / "r0002_next.py").write_text(NEXT.format(oldest=oldest))
    return folder


async def to_come(url: str, folder: Path, *, oldest: str) -> list[str]:
    """Migrate as the version to come does."""
    scripts = await asyncio.to_thread(running.load, steps_to_come(folder, oldest=oldest))
    return await running.run_steps(url, scripts)


def test_this_version_knows_the_newest_step() -> None:
    assert list(running.load().get_heads()) == [schema.REVISION]


async def test_a_database_with_nothing_in_it_gets_the_schema_once(url: str) -> None:
    assert await schema.migrate(url) == ["0001"]
    assert await schema.migrate(url) == []
    found = await schema.reached(url, 0)
    assert (found.revision, found.oldest) == ("0001", "0001")
    assert await schema.script(url) == ""


async def test_what_is_printed_does_the_same_as_what_is_run(url: str) -> None:
    script = await schema.script(url)
    assert (await schema.reached(url, 0)).revision is None, "printing has changed something"
    other = shared().create_database("printed")
    shared().psql(script, "printed")
    await schema.migrate(url)
    dumps = [
        [
            line
            for line in shared().run("pg_dump", shared().url(name), "--schema-only").splitlines()
            if not line.startswith("\\")  # a password of the dump itself
        ]
        for name in ("migrations", "printed")
    ]
    assert dumps[0] == dumps[1]
    assert await schema.migrate(other) == []


def test_of_processes_that_start_at_once_one_makes_the_schema_and_all_go_on(url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "gateway", "migrate"],
            cwd=ROOT,
            env={**os.environ, "TIDEGATE_ENGINE": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=LIMIT)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum("from no schema to schema 0001" in words for words in said) == 1
    assert sum("is up to date" in words for words in said) == 2


async def test_an_older_schema_is_refused_by_who_may_not_change_it(url: str) -> None:
    with pytest.raises(StartupRefused, match=r"no schema yet.*`tidegate migrate`$"):
        await PostgresEngine.open(url, migrate=False)
    await schema.migrate(url)
    engine = await PostgresEngine.open(url, migrate=False)
    await engine.aclose()


async def test_this_version_works_on_and_beside_a_newer_schema_that_is_fit_for_it(
    url: str, tmp_path: Path
) -> None:
    running_node = await PostgresEngine.open(url)
    await make(running_node, "s", b"1")
    assert await to_come(url, tmp_path, oldest="0001") == ["0002"]
    await add(running_node, b"2")
    started_later = await PostgresEngine.open(url)
    await add(started_later, b"3")
    for engine in (running_node, started_later):
        assert bodies(await kept(engine)) == [b"1", b"2", b"3"]
        assert (await engine.session("s")).tail.seq == 3
        assert len(await engine.sessions(limit=9, after=None)) == 1
        await engine.aclose()
    assert await schema.migrate(url) == []


async def test_a_newer_schema_that_is_not_fit_for_this_version_is_refused(
    url: str, tmp_path: Path
) -> None:
    await to_come(url, tmp_path, oldest="0002")
    for open_it in (PostgresEngine.open(url), schema.migrate(url)):
        with pytest.raises(StartupRefused, match=r"newer version .*\(schema 0002, .* knows 0001\)"):
            await open_it


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(url: str) -> None:
    shared().psql(
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('e19');",
        "migrations",
    )
    with pytest.raises(StartupRefused, match="another program"):
        await PostgresEngine.open(url)
    assert shared().psql(r"\dt", "migrations").count("table") == 1


async def test_a_process_that_dies_in_the_middle_of_a_step_leaves_nothing_behind(url: str) -> None:
    async with connected(url) as other, connected(url) as observer:
        in_the_way = other.transaction()
        await in_the_way.start()
        await other.execute("CREATE TABLE answer ()")  # a name that a table of ours will have
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            f"import asyncio; from gateway.engines.postgres import schema;"
            f"asyncio.run(schema.migrate({url!r}))",
            cwd=ROOT,
        )
        try:
            ours = "FROM pg_stat_activity WHERE application_name = 'tidegate migrate'"
            waits = f"SELECT EXISTS (SELECT {ours} AND wait_event_type = 'Lock')"
            await until_true(observer, waits)
        finally:
            process.kill()
            await process.wait()
        await in_the_way.rollback()
        await until_true(observer, f"SELECT NOT EXISTS (SELECT {ours})")
    assert shared().psql(r"\dt", "migrations") == ""
    assert await schema.migrate(url) == ["0001"]


async def test_a_step_whose_table_is_in_use_lets_others_pass_and_is_tried_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(running, "LOCK_TIMEOUT_MS", 30)
    caplog.set_level(logging.INFO, running.__name__)
    await schema.migrate(url)
    async with connected(url) as other, connected(url) as third:
        async with other.transaction():
            await other.execute("SELECT FROM session")  # as a long query does
            migrating = asyncio.create_task(to_come(url, tmp_path, oldest="0001"))
            async with asyncio.timeout(LIMIT):
                while caplog.text.count("a table is in use") < 2:
                    await third.execute("SELECT FROM session")
                    assert not migrating.done()
        async with asyncio.timeout(LIMIT):
            assert await migrating == ["0002"]


async def test_a_step_whose_table_stays_in_use_is_given_up(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LOCK_TIMEOUT_MS", 1)
    monkeypatch.setattr(running, "TRIES", 2)
    await schema.migrate(url)
    async with connected(url) as other, other.transaction():
        await other.execute("SELECT FROM session")
        with pytest.raises(StartupRefused, match="stay in use"):
            await to_come(url, tmp_path, oldest="0001")
    assert (await schema.reached(url, 0)).revision == "0001"


async def test_a_database_that_is_not_up_yet_is_waited_for_and_one_that_refuses_is_not() -> None:
    cluster = Cluster()
    try:
        await asyncio.to_thread(cluster.initdb)
        with pytest.raises(StartupRefused, match=r"^cannot reach .*refused$"):
            await schema.prepare(cluster.url(), patience=0.3)
        preparing = asyncio.create_task(schema.prepare(cluster.url(), patience=LIMIT))
        await asyncio.to_thread(cluster.start)
        await preparing
        cluster.psql("CREATE ROLE chat LOGIN PASSWORD 'right';")
        hosts = cluster.data / "pg_hba.conf"
        hosts.write_text(f"host all chat 127.0.0.1/32 scram-sha-256\n{hosts.read_text()}")
        cluster.configure()
        url = cluster.url().replace("tidegate@", "chat:very-secret@")
        async with asyncio.timeout(LIMIT / 2):
            for wrong, words in ((url, "password"), (cluster.url("nothing"), "does not exist")):
                with pytest.raises(StartupRefused, match=words) as refused:
                    await schema.prepare(wrong, patience=LIMIT)
                assert "very-secret" not in str(refused.value)
                assert len(str(refused.value).splitlines()) == 1
    finally:
        await asyncio.to_thread(cluster.remove)
