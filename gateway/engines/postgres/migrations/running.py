"""Runs the steps, with Alembic: one at a time, each in a transaction of its own.

Many processes may do it at once: before each step they queue for a lock, and look again at what is
left. The lock ends with the transaction, so it holds behind a PgBouncer too, and a process that dies
in the middle leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import io
import logging
import random
from pathlib import Path

import asyncpg
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gateway.engines.postgres.connections import arguments
from gateway.errors import StartupRefused

__all__ = ["load", "run_steps", "written_out"]

FOLDER = Path(__file__).parent

LOCK = 0x54494445
"""The advisory lock's key, `TIDE` in ASCII."""

LOCK_TIMEOUT_MS = 3000
"""How long a step waits for a table that others use. While it waits, all who come after it wait too, so
it gives up soon and tries again."""

TRIES = 20
"""How often a step is tried whose table others use: for a minute, and the pauses."""

_logger = logging.getLogger(__name__)


def load(folder: Path = FOLDER) -> ScriptDirectory:
    """Return the steps, read whole. Blocks: not for the event loop."""
    scripts = ScriptDirectory(folder, version_locations=[folder / "versions"])
    scripts.get_heads()
    return scripts


async def run_steps(url: str, scripts: ScriptDirectory) -> list[str]:
    """Bring a database to the newest schema; return the revisions that this call has run.

    Raises:
        StartupRefused: If a table stays in use by others for too long.
        asyncpg.PostgresError, OSError: If the database fails, or refuses.
    """

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(**arguments(url, "tidegate migrate"))

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    done: list[str] = []
    try:
        while (revision := await _one_step(engine, scripts)) is not None:
            _logger.info("the schema was changed", extra={"revision": revision})
            done.append(revision)
    finally:
        await engine.dispose()
    return done


async def _one_step(engine: AsyncEngine, scripts: ScriptDirectory) -> str | None:
    """Do what comes next; return None if there is nothing."""
    for _ in range(TRIES):
        try:
            async with engine.connect() as db, db.begin():
                await _alone(db)
                return await db.run_sync(_next, scripts)
        except asyncpg.LockNotAvailableError:
            pass
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != asyncpg.LockNotAvailableError.sqlstate:
                raise
        _logger.info("a table is in use; trying again")
        await asyncio.sleep(random.uniform(0.2, 1))  # noqa: S311 - no secret
    raise StartupRefused(
        "cannot migrate the database: its tables stay in use; see pg_stat_activity for long transactions"
    )


async def _alone(db: AsyncConnection) -> None:
    """Wait until no other process changes the schema, and keep others waiting until the commit."""
    told = False
    while not (await db.execute(text(f"SELECT pg_try_advisory_xact_lock({LOCK})"))).scalar_one():
        if not told:
            _logger.info("another process changes the schema; waiting for it")
            told = True
        await asyncio.sleep(0.1)  # asking holds nothing up; waiting in the database could


def _next(db: Connection, scripts: ScriptDirectory) -> str | None:
    """Run the step after the one that was run last, if there is one."""
    before = MigrationContext.configure(db).get_current_revision()
    left = _after(scripts, before)
    if not left:
        return None
    db.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
    context = MigrationContext.configure(
        db,
        opts={"fn": lambda heads, _: scripts._upgrade_revs(left[0], heads)},  # noqa: SLF001 - as Alembic's manual does
    )
    with Operations.context(context):
        context.run_migrations()
    return left[0]


def _after(scripts: ScriptDirectory, before: str | None) -> list[str]:
    """Return the revisions that come after one, oldest first; none if it is not known here."""
    known = [script.revision for script in scripts.walk_revisions()][::-1]
    if before is None:
        return known
    return known[known.index(before) + 1 :] if before in known else []


def written_out(scripts: ScriptDirectory, before: str | None) -> str:
    """Return what `run_steps` would run after a revision, as SQL; empty if nothing."""
    left = _after(scripts, before)
    if not left:
        return ""
    said = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql",
        opts={
            "as_sql": True,
            "output_buffer": said,
            "starting_rev": before,
            "transaction_per_migration": True,
            "fn": lambda heads, _: scripts._upgrade_revs(left[-1], heads),  # noqa: SLF001 - as above
        },
    )
    with Operations.context(context), context.begin_transaction():
        context.run_migrations()
    return said.getvalue()
