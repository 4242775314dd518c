"""`tidegate serve`: the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from gateway.cli.loading import built_in, engine_option, load_registry, load_settings
from gateway.cli.logs import configure_logging
from gateway.cli.version import version
from gateway.config import LogLevel, Role, Settings, is_postgres, place
from gateway.errors import StartupRefused
from runtime.registry import Registry

__all__ = ["EXAMPLES", "serve"]

EXAMPLES = """
[bold]Examples[/bold]

  tidegate serve                         the built-in agents, on port 8080\n
  tidegate serve --port 9000 --data /srv/chat\n
  tidegate serve agents:registry         what agents.py of this folder defines\n
  TIDEGATE_ENGINE=memory tidegate serve  each option is a variable too\n
  TIDEGATE_ENGINE=postgresql://tidegate@db/chat tidegate serve\n
"""

_DEFAULTS: dict[str, Any] = {name: field.default for name, field in Settings.model_fields.items()}


def serve(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:REGISTRY",
            help="What to serve: a registry, an agent, or a function that returns one, in a "
            "module that Python finds from here. Without it, the built-in agents.",
        ),
    ] = None,
    *,
    host: Annotated[
        str, typer.Option(envvar="TIDEGATE_HOST", metavar="ADDRESS", help="Where to listen.")
    ] = _DEFAULTS["host"],
    port: Annotated[
        int,
        typer.Option(
            envvar="TIDEGATE_PORT", metavar="PORT", min=0, max=65_535, help="Port; 0 takes any."
        ),
    ] = _DEFAULTS["port"],
    data: Annotated[
        Path, typer.Option(envvar="TIDEGATE_DATA", metavar="DIR", help="Where logs are kept.")
    ] = _DEFAULTS["data"],
    engine: Annotated[
        str,
        typer.Option(
            envvar="TIDEGATE_ENGINE",
            callback=engine_option,
            metavar="sqlite|memory|postgresql://…",
            help="Where logs are kept: `memory` keeps nothing; several servers may share a "
            "Postgres database. A password is better in the variable: others see arguments.",
        ),
    ] = _DEFAULTS["engine"],
    migrate: Annotated[
        bool,
        typer.Option(
            "--migrate/--no-migrate",
            envvar="TIDEGATE_MIGRATE",
            help="Whether to bring the schema of a Postgres database up to date first.",
        ),
    ] = _DEFAULTS["migrate"],
    model: Annotated[
        str | None,
        typer.Option(
            envvar="TIDEGATE_MODEL",
            metavar="NAME",
            help="Model of the assistant, at the endpoint of OPENAI_API_KEY or "
            "TIDEGATE_OPENAI_BASE_URL. Without these, a small one on this machine.",
        ),
    ] = None,
    role: Annotated[
        Role,
        typer.Option(
            envvar="TIDEGATE_ROLE",
            help="Of servers on one Postgres database, `edge` serves clients and leaves runs to "
            "others, `worker` only does runs.",
        ),
    ] = _DEFAULTS["role"],
    max_runs: Annotated[
        int,
        typer.Option(
            envvar="TIDEGATE_MAX_RUNS",
            metavar="N",
            min=0,
            help="Runs at work at once; more wait. 0: 256 on Postgres, else no limit.",
        ),
    ] = _DEFAULTS["max_runs"],
    log_level: Annotated[
        LogLevel, typer.Option(envvar="TIDEGATE_LOG_LEVEL", help="Least severe line logged.")
    ] = _DEFAULTS["log_level"],
) -> None:
    """Start the server. Ctrl-C stops it."""
    configure_logging(log_level)
    try:
        settings = load_settings(
            host=host,
            port=port,
            data=data,
            engine=engine,
            migrate=migrate,
            model=model,
            role=role,
            max_runs=max_runs,
            log_level=log_level,
        )
        _serve(settings, target)
    except StartupRefused as refused:
        typer.echo(f"tidegate: {refused}", err=True)
        raise typer.Exit(2) from None


def _serve(settings: Settings, target: str | None) -> None:
    registry = built_in(settings) if target is None else load_registry(target)
    # Imported here and not above, so that `--help` and `--version` answer at once.
    from gateway.app import serve as serve_forever  # noqa: PLC0415

    def ready(url: str) -> None:
        _greet(url, settings, registry)

    # `serve` ends in order on the first signal; Ctrl-C before that, or a second one, ends at once.
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        runner.run(serve_forever(settings, registry, ready))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not made for every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _greet(url: str, settings: Settings, registry: Registry) -> None:
    console = Console(highlight=False)
    console.print(
        f"[bold]Tidegate {version()}[/bold]  [link={url}][bold blue]{url}[/bold blue][/link]  "
        "[dim](Ctrl-C to stop)[/dim]",
        soft_wrap=True,
    )
    console.print(f"  [dim]engine[/dim]  {escape(_where(settings))}", soft_wrap=True)
    width = max(len(runnable.name) for runnable in registry)
    for number, runnable in enumerate(registry):
        console.print(
            f"  [dim]{'' if number else 'agents':6}[/dim]  [cyan]{runnable.name:{width}}[/cyan]  "
            f"[dim]{escape(runnable.description)}[/dim]",
            no_wrap=True,
            overflow="ellipsis",
        )


def _where(settings: Settings) -> str:
    """Return where logs are kept, without a password."""
    if is_postgres(settings.engine):
        return f"postgres at {place(settings.engine)}"
    return f"sqlite in {settings.data}" if settings.engine == "sqlite" else "memory"
