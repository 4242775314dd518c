"""The command line: `tidegate serve`. What goes wrong at the start is one line and exit code 2."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.metadata
import logging
import logging.config
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import orjson
import structlog
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from gateway.config import EngineName, LogLevel, Settings
from gateway.errors import StartupRefused
from runtime.registry import Registry
from runtime.runnable import Runnable

__all__ = ["configure_logging", "load_registry", "main"]

_logger = logging.getLogger(__name__)
_app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

EXAMPLES = """
[bold]Examples[/bold]

  tidegate serve                         the built-in agents, on port 8080\n
  tidegate serve --port 9000 --data /srv/chat\n
  tidegate serve agents:registry         what agents.py of this folder defines\n
  TIDEGATE_ENGINE=memory tidegate serve  each option is a variable too\n
"""

CHATTY = ("httpx", "httpx2", "openai")
"""Libraries that log a line for each request; heard when the level is `debug`."""

_DEFAULTS: dict[str, Any] = {name: field.default for name, field in Settings.model_fields.items()}


def main() -> None:
    """Run the command line; the process ends with its exit code."""
    _app(prog_name="tidegate")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"Tidegate {_version()}")
        raise typer.Exit


@_app.callback(epilog=EXAMPLES)
def _tidegate(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """A streaming gateway for agent sessions: one durable log, SSE and WebSocket."""


@_app.command(epilog=EXAMPLES)
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
        EngineName, typer.Option(envvar="TIDEGATE_ENGINE", help="`memory` keeps nothing.")
    ] = _DEFAULTS["engine"],
    model: Annotated[
        str | None,
        typer.Option(
            envvar="TIDEGATE_MODEL",
            metavar="NAME",
            help="Model of the assistant, at the endpoint of OPENAI_API_KEY or "
            "TIDEGATE_OPENAI_BASE_URL. Without these, a small one on this machine.",
        ),
    ] = None,
    log_level: Annotated[
        LogLevel, typer.Option(envvar="TIDEGATE_LOG_LEVEL", help="Least severe line logged.")
    ] = _DEFAULTS["log_level"],
) -> None:
    """Start the server. Ctrl-C stops it."""
    configure_logging(log_level)
    try:
        settings = _settings(
            host=host, port=port, data=data, engine=engine, model=model, log_level=log_level
        )
        _serve(settings, target)
    except StartupRefused as refused:
        typer.echo(f"tidegate: {refused}", err=True)
        raise typer.Exit(2) from None


def load_registry(target: str) -> Registry:
    """Return what `module:name` says is to be served.

    The name may lead through attributes (`agents:team.registry`) to a registry, to one runnable,
    or to a function without arguments that returns one of these.

    Raises:
        StartupRefused: If there is nothing of the kind; the text is one line and names the part
            that is wrong.
    """
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise StartupRefused(f"{target!r} is not MODULE:REGISTRY, for example agents:registry")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    found: Any = _translated(f"cannot import {module_name!r}", importlib.import_module, module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            raise StartupRefused(f"module {module_name!r} has no {name!r}")
        found = getattr(found, part)
    if callable(found) and not _is_runnable(found):
        found = _translated(f"{target} failed when called", found)
    if _is_runnable(found):
        found = _translated(f"{target} cannot be served", Registry, cast("Runnable", found))
    if not isinstance(found, Registry):
        raise StartupRefused(
            f"{target} is of type {type(found).__name__}: expected a Registry, an Agent, or a function "
            "that returns one"
        )
    if not len(found):
        raise StartupRefused(f"{target} has no agents")
    return found


def configure_logging(level: LogLevel) -> None:
    """Log to standard error: lines for people on a terminal, else one JSON object a line."""
    people = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if people else "iso", utc=not people),
    ]
    machines = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(
            serializer=lambda *a, **k: orjson.dumps(*a, **k).decode()
        ),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([structlog.dev.ConsoleRenderer()] if people else machines),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel("DEBUG" if level == "debug" else "WARNING")
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _serve(settings: Settings, target: str | None) -> None:
    # Imported here and not above, so that `--help` and `--version` answer at once.
    if target is None:
        from gateway.builtin import build_registry  # noqa: PLC0415

        registry = _translated("cannot make the built-in agents", build_registry, settings)
    else:
        registry = load_registry(target)
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


def _settings(**flags: object) -> Settings:
    try:
        return Settings(**cast("dict[str, Any]", flags))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        variable = name if name.isupper() else f"TIDEGATE_{name.upper()}"
        raise StartupRefused(f"{variable}: {first['msg']}") from None


def _translated(what: str, work: Callable[..., Any], *arguments: object) -> Any:
    """Call other people's code; whatever it raises becomes one line."""
    try:
        return work(*arguments)
    except Exception as error:
        _logger.debug("%s", what, exc_info=True)
        reason = " ".join(str(error).split())
        raise StartupRefused(f"{what}: {type(error).__name__}: {reason}") from error


def _is_runnable(thing: object) -> bool:
    wanted = ("name", "kind", "description", "options_type", "tool_infos", "execute", "aclose")
    return not isinstance(thing, type) and all(hasattr(thing, each) for each in wanted)


def _greet(url: str, settings: Settings, registry: Registry) -> None:
    console = Console(highlight=False)
    console.print(
        f"[bold]Tidegate {_version()}[/bold]  [link={url}][bold blue]{url}[/bold blue][/link]  "
        "[dim](Ctrl-C to stop)[/dim]",
        soft_wrap=True,
    )
    where = f"sqlite in {settings.data}" if settings.engine == "sqlite" else "memory"
    console.print(f"  [dim]engine[/dim]  {escape(where)}", soft_wrap=True)
    width = max(len(runnable.name) for runnable in registry)
    for place, runnable in enumerate(registry):
        console.print(
            f"  [dim]{'' if place else 'agents':6}[/dim]  [cyan]{runnable.name:{width}}[/cyan]  "
            f"[dim]{escape(runnable.description)}[/dim]",
            no_wrap=True,
            overflow="ellipsis",
        )


def _version() -> str:
    try:
        return importlib.metadata.version("tidegate")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
