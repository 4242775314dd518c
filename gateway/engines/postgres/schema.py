"""The schema of the database: what it is, whether this version can work with it, how it is changed.

The steps are in `migrations`. What is loaded to run them, SQLAlchemy and Alembic, is loaded only then.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import time
from dataclasses import dataclass
from typing import Any

import asyncpg

from gateway.config import place
from gateway.engines.postgres.connections import arguments
from gateway.errors import StartupRefused

__all__ = ["REVISION", "Schema", "migrate", "prepare", "reached", "script"]

REVISION = "0001"
"""The newest step that this version knows."""

PAUSE_SECONDS = 0.25
"""Between attempts to reach a database that does not answer yet."""

_OURS = re.compile(r"\d{4}")


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database says of its schema.

    Attributes:
        revision: The last step that was run; None if there was none.
        oldest: The oldest revision whose code works with it.
    """

    revision: str | None
    oldest: str | None = None

    @property
    def is_older(self) -> bool:
        """Whether steps have to be run before this version can work with it."""
        return self.revision is None or self.revision < REVISION

    def check(self) -> None:
        """Check that this version can work with it, at least after steps that it knows.

        Raises:
            StartupRefused: If not.
        """
        if self.revision is not None and _OURS.fullmatch(self.revision) is None:
            raise StartupRefused(
                "the database belongs to another program, which has its own table alembic_version: "
                "give Tidegate a database to itself"
            )
        if self.revision is not None and self.revision > REVISION < (self.oldest or self.revision):
            raise StartupRefused(
                f"the database was made by a newer version of the server (schema {self.revision}, "
                f"this version knows {REVISION})"
            )


async def _read(db: asyncpg.Connection) -> Schema:
    """Return what a database says of its schema."""
    if await db.fetchval("SELECT to_regclass('alembic_version')") is None:
        return Schema(None)
    revision = await db.fetchval("SELECT version_num FROM alembic_version")
    if revision is None or _OURS.fullmatch(revision) is None:
        return Schema(revision)
    return Schema(revision, await db.fetchval("SELECT oldest FROM compatibility"))


async def prepare(url: str, *, migrate: bool = True, patience: float = 0.0) -> None:
    """Make sure that a database has a schema with which this version can work.

    Args:
        url: Of the database.
        migrate: Whether to run the steps that are missing.
        patience: For how many seconds to try to reach a database that does not answer.

    Raises:
        StartupRefused: If it cannot be reached or used, or has another schema, with the reason.
    """
    schema = await reached(url, patience)
    schema.check()
    if not schema.is_older:
        return
    if not migrate:
        raise StartupRefused(
            f"the database has {_named(schema)}, and this version needs schema {REVISION}: "
            "run `tidegate migrate`"
        )
    await _migrate(url)
    (await reached(url, patience)).check()


def _named(schema: Schema) -> str:
    return "no schema yet" if schema.revision is None else f"schema {schema.revision}"


async def migrate(url: str, *, patience: float = 0.0) -> list[str]:
    """Run the steps that are missing; return their revisions.

    Raises:
        StartupRefused: As with `prepare`.
    """
    (await reached(url, patience)).check()
    return await _migrate(url)


async def _migrate(url: str) -> list[str]:
    # Imported here and not above: it takes half a second, and most starts have nothing to do.
    running = await asyncio.to_thread(_running)
    scripts = await asyncio.to_thread(running.load)
    try:
        done: list[str] = await running.run_steps(url, scripts)
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise StartupRefused(f"cannot migrate the database: {_line(error)}") from error
    return done


def _running() -> Any:
    return importlib.import_module("gateway.engines.postgres.migrations.running")


async def script(url: str, *, patience: float = 0.0) -> str:
    """Return the SQL of the steps that are missing; empty if none is.

    Raises:
        StartupRefused: As with `prepare`.
    """
    schema = await reached(url, patience)
    schema.check()
    running = await asyncio.to_thread(_running)
    scripts = await asyncio.to_thread(running.load)
    written: str = running.written_out(scripts, schema.revision)
    return written


async def reached(url: str, patience: float) -> Schema:
    """Return the schema of a database, waiting for one that is not up yet.

    Raises:
        StartupRefused: If it cannot be reached for so many seconds, or refuses us; in one line, which
            has no part of the URL but what `place` makes of it.
    """
    until = time.monotonic() + patience
    while True:
        try:
            return await _look(url)
        except _NotYet as error:
            if time.monotonic() >= until:
                raise StartupRefused(f"cannot reach {place(url)}: {error}") from error
        await asyncio.sleep(PAUSE_SECONDS)


class _NotYet(Exception):
    """The database may be there in a moment."""


async def _look(url: str) -> Schema:
    try:
        db = await asyncpg.connect(**arguments(url, "tidegate schema"))
    except _AWAY as error:
        raise _NotYet(_line(error)) from error
    except asyncpg.PostgresError as error:
        raise StartupRefused(f"{place(url)} refuses us: {_line(error)}") from error
    except (asyncpg.InterfaceError, ValueError) as error:
        raise StartupRefused(
            f"cannot use the URL of {place(url)}: its options make no sense"
        ) from error
    try:
        return await _read(db)
    except _AWAY as error:
        raise _NotYet(_line(error)) from error
    except asyncpg.PostgresError as error:
        raise StartupRefused(f"cannot use {place(url)}: {_line(error)}") from error
    finally:
        db.terminate()


_AWAY = (
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.TargetServerAttributeNotMatched,
    OSError,
    TimeoutError,
)
"""What passes by itself: it is starting, failing over, full, or not known to the name server yet."""


def _line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "no server there takes writes"
    if isinstance(error, OSError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0)
    return " ".join(str(error).split()) or "it does not answer"
