"""Which store logs are kept in: the one place that names the engines."""

from __future__ import annotations

import asyncio
import importlib
from types import ModuleType

from gateway.config import Settings, is_postgres
from gateway.engines.memory import MemoryEngine
from gateway.engines.sqlite import SqliteEngine
from gateway.errors import StartupRefused
from gateway.log.engine import Engine

__all__ = ["is_schema_old", "migrate_store", "open_store", "schema_names", "schema_script"]


async def open_store(settings: Settings) -> Engine:
    """Open the store that the settings name.

    Raises:
        StartupRefused: If that cannot be done, with the reason in one line.
    """
    if settings.engine == "memory":
        return MemoryEngine()
    if not is_postgres(settings.engine):
        return await SqliteEngine.open(settings.data, synchronous=settings.synchronous)
    module = await _postgres("engine")
    opened: Engine = await module.PostgresEngine.open(
        settings.engine,
        direct=settings.engine_direct,
        pool=settings.engine_pool,
        writers=settings.engine_writers,
        lease=settings.lease_s,
        migrate=settings.migrate,
        patience=settings.engine_wait_s,
    )
    return opened


async def schema_names(settings: Settings) -> tuple[str | None, str]:
    """Return the revision of a Postgres database, None if it has none, and the one of this version.

    Raises:
        StartupRefused: If the database cannot be reached or used, or is too new for this version.
    """
    schema = await _schema(settings)
    found = await schema.reached(_url(settings), settings.engine_wait_s)
    found.check()
    return found.revision, schema.REVISION


def is_schema_old(revision: str | None, known: str) -> bool:
    """Say whether a database with that revision has to be migrated for a version that knows another."""
    return revision is None or revision < known


async def migrate_store(settings: Settings) -> list[str]:
    """Run the steps that the schema of a Postgres database lacks; return their revisions.

    Raises:
        StartupRefused: As `schema_names`, or if a step cannot be run.
    """
    done: list[str] = await (await _schema(settings)).migrate(
        _url(settings), patience=settings.engine_wait_s
    )
    return done


async def schema_script(settings: Settings) -> str:
    """Return the SQL of the steps that the schema of a Postgres database lacks.

    Raises:
        StartupRefused: As `schema_names`.
    """
    script: str = await (await _schema(settings)).script(
        _url(settings), patience=settings.engine_wait_s
    )
    return script


async def _schema(settings: Settings) -> ModuleType:
    if not is_postgres(settings.engine):
        raise StartupRefused(
            f"the engine `{settings.engine}` needs no migration: name a Postgres database with"
            " TIDEGATE_ENGINE or --engine"
        )
    return await _postgres("schema")


async def _postgres(name: str) -> ModuleType:
    """Return a module of the engine, whose libraries need not be there."""
    try:
        return await asyncio.to_thread(importlib.import_module, f"gateway.engines.postgres.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gateway"):
            raise
        raise StartupRefused(
            f"for Postgres {error.name} is missing: pip install 'tidegate[postgres]'"
        ) from error


def _url(settings: Settings) -> str:
    """Return the URL for what cannot be done through a PgBouncer."""
    return settings.engine_direct or settings.engine
