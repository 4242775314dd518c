"""`tidegate migrate`, and `tidegate serve` on a Postgres database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.cli.support.process import afresh, tidegate
from tests.support.postgres import shared
from tests.support.server import running_server

SECRET = "very-secret"  # noqa: S105 - of nothing


@pytest.fixture
def url() -> str:
    """A database with nothing in it; the URL has a password."""
    shared().create_database("cli")
    return shared().url("cli", password=SECRET)


def test_migrate_says_what_there_is_to_do_and_what_it_has_done(url: str) -> None:
    place = f"127.0.0.1:{shared().port}/cli"
    to_do = tidegate("migrate", "--check", TIDEGATE_ENGINE=url)
    assert to_do.stdout.decode() == f"{place} has no schema; this version needs schema 0001\n"
    assert to_do.returncode == 1
    printed = tidegate("migrate", "--sql", TIDEGATE_ENGINE=url)
    assert (b"CREATE TABLE session" in printed.stdout, printed.returncode) == (True, 0)
    assert shared().psql(r"\dt", "cli") == "", "printing has changed something"
    done = tidegate("migrate", "--engine", url)
    assert done.stdout.decode() == f"{place}: from no schema to schema 0001\n"
    assert done.returncode == 0
    nothing = tidegate("migrate", "--check", TIDEGATE_ENGINE=url)
    assert nothing.stdout.decode() == f"{place} is up to date: schema 0001\n"
    assert nothing.returncode == 0
    for each in (to_do, printed, done, nothing):
        assert SECRET.encode() not in each.stdout + each.stderr


def test_migrate_is_refused_for_an_engine_that_has_nothing_to_migrate() -> None:
    done = tidegate("migrate", "--engine", "sqlite")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("tidegate: the engine `sqlite` needs no migration")
    assert done.returncode == 2


async def test_a_server_makes_the_schema_itself_and_greets_without_the_password(
    url: str, tmp_path: Path
) -> None:
    refused = await asyncio.to_thread(
        tidegate, "serve", "--engine", url, "--no-migrate", cwd=tmp_path
    )
    (line,) = refused.stderr.decode().splitlines()
    assert "run `tidegate migrate`" in line
    assert refused.returncode == 2
    async with running_server(tmp_path, ["--engine", url]) as server:
        greeting = "\n".join(server.output)
        assert f"postgres at 127.0.0.1:{shared().port}/cli" in greeting
    assert SECRET not in greeting
    assert SECRET.encode() not in refused.stderr + refused.stdout


def test_a_database_that_cannot_be_reached_is_one_clear_line_and_exit_code_2() -> None:
    url = f"postgresql://chat:{SECRET}@127.0.0.1:1/chat"
    done = tidegate("serve", TIDEGATE_ENGINE=url, TIDEGATE_ENGINE_WAIT_S="0.5")
    assert done.stderr == b"tidegate: cannot reach 127.0.0.1:1/chat: Connection refused\n"
    assert (done.stdout, done.returncode) == (b"", 2)


def test_without_the_extra_it_is_named() -> None:
    without = "import sys; sys.modules['asyncpg'] = None; from gateway.__main__ import main; main()"
    done = afresh("-c", without, "serve", "--engine", "postgresql://h/d")
    (line,) = done.stderr.splitlines()
    assert line == b"tidegate: for Postgres asyncpg is missing: pip install 'tidegate[postgres]'"
    assert done.returncode == 2
