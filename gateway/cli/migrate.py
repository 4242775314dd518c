"""`tidegate migrate`: brings the schema of a Postgres database up to date."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from gateway.cli.loading import engine_option, load_settings
from gateway.cli.logs import configure_logging
from gateway.config import Settings, place
from gateway.errors import StartupRefused

__all__ = ["EXAMPLES", "migrate"]

EXAMPLES = """
[bold]Examples[/bold]

  export TIDEGATE_ENGINE=postgresql://tidegate:secret@db/chat\n
  tidegate migrate                       do it; servers may go on meanwhile\n
  tidegate migrate --check               exit code 1 if there is something to do\n
  tidegate migrate --sql > steps.sql     for whoever may change tables, and you may not\n

A server does it by itself when it starts, unless told --no-migrate. It is safe to do it from many
places at once, and to interrupt it. There is no way back but a backup.
"""

OUT_OF_DATE = 1
"""Exit code of `--check` if there is something to do."""


def migrate(
    *,
    engine: Annotated[
        str | None,
        typer.Option(
            envvar="TIDEGATE_ENGINE",
            callback=engine_option,
            metavar="postgresql://…",
            help="The database. A password is better in the variable: others see arguments.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; say whether there is something to do.")
    ] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Change nothing; print what would be run.")
    ] = False,
) -> None:
    """Bring the schema of a Postgres database up to date."""
    configure_logging("info")
    flags: dict[str, Any] = {} if engine is None else {"engine": engine}
    try:
        settings = load_settings(**flags)
        code = asyncio.run(_migrate(settings, check=check, sql=sql))
    except StartupRefused as refused:
        typer.echo(f"tidegate: {refused}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(code)


async def _migrate(settings: Settings, *, check: bool, sql: bool) -> int:
    # Imported here and not above, so that `--help` and `--version` answer at once.
    from gateway import stores  # noqa: PLC0415

    before, known = await stores.schema_names(settings)
    if sql:
        typer.echo(await stores.schema_script(settings), nl=False)
        return 0
    where = place(settings.engine)
    if not stores.is_schema_old(before, known):
        newer = "" if before == known else f", newer than this version's {known} and fit for it"
        typer.echo(f"{where} is up to date: schema {before}{newer}")
        return 0
    if check:
        typer.echo(f"{where} has {_named(before)}; this version needs schema {known}")
        return OUT_OF_DATE
    done = await stores.migrate_store(settings)
    if done:
        typer.echo(f"{where}: from {_named(before)} to schema {done[-1]}")
    else:
        typer.echo(f"{where} is up to date: another process has just done it")
    return 0


def _named(revision: str | None) -> str:
    return "no schema" if revision is None else f"schema {revision}"
