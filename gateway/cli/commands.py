"""The commands of `tidegate`, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli import chat, conformance, migrate, run, serve
from gateway.cli.version import version
from runtime.cli.process import run_process

__all__ = ["main"]

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
  tidegate chat                          talk to an agent, without a server\n
  tidegate chat --url http://127.0.0.1:8080  talk to one on a server\n
  tidegate migrate --check               is the Postgres schema up to date?\n
  tidegate run graph.py:graph --set n=3  run a graph, and see it work\n
  tidegate conformance http://127.0.0.1:8080  does a server keep the protocol?\n
"""


def main() -> None:
    """Run the command line; the process ends with its exit code."""
    run_process(_app, "tidegate")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"Tidegate {version()}")
        raise typer.Exit


@_app.callback(epilog=EXAMPLES)
def _tidegate(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """A streaming gateway for agent sessions: one durable log, SSE and WebSocket."""


_app.command(epilog=serve.EXAMPLES)(serve.serve)
_app.command(epilog=chat.EXAMPLES)(chat.chat)
_app.command(epilog=run.EXAMPLES)(run.run)
_app.command(epilog=migrate.EXAMPLES)(migrate.migrate)
_app.command(epilog=conformance.EXAMPLES)(conformance.conformance)
