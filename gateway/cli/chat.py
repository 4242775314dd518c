"""`tidegate chat`: talk to an agent, in this process or on a server."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from gateway.cli.ending import ended
from gateway.cli.loading import built_in, load_registry, load_settings
from gateway.cli.logs import configure_logging, log_nothing
from gateway.cli.repl import Repl
from gateway.client.errors import ClientFault
from gateway.config import LogLevel
from gateway.errors import StartupRefused
from runtime.cli.local import LocalTalk
from runtime.cli.perform import WAITING, perform
from runtime.cli.process import running
from runtime.cli.prompt import Prompt, describe
from runtime.cli.renderer import Renderer
from runtime.cli.talk import Talk
from runtime.cli.terminal import Terminal, is_terminal
from runtime.errors import AgentUnknown

__all__ = ["EXAMPLES", "chat"]

EXAMPLES = """
[bold]Examples[/bold]

  tidegate chat                          the built-in assistant, in this process\n
  tidegate chat tools -m 'weather in Oslo and Rome'\n
  cat report.txt | tidegate chat > answer.txt\n
  tidegate chat --target agents:registry  what agents.py of this folder defines\n
  tidegate chat --url http://127.0.0.1:8080 --session work\n

The answer goes to stdout, and all else to stderr. Ctrl-C stops the answer; a second one leaves.
"""


def chat(
    agent: Annotated[
        str | None, typer.Argument(metavar="AGENT", help="Who answers; default: the first.")
    ] = None,
    *,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:REGISTRY", help="Instead of the built-in agents; as for `serve`."
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="A server to talk to, instead.")
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A session of that server; made if it is not there."),
    ] = None,
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", metavar="TEXT", help="Say this, and leave."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="TIDEGATE_MODEL", metavar="NAME", help="Model of the assistant; as for `serve`."
        ),
    ] = None,
    color: Annotated[
        bool | None, typer.Option("--color/--no-color", help="Default: on a terminal.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show answers and failures only.")
    ] = False,
    log_level: Annotated[
        LogLevel | None, typer.Option(help="Log to stderr; default: nothing.")
    ] = None,
) -> None:
    """Talk to an agent, in this process or on a server.

    With a message, or with one piped in, it says that and leaves; else it is a conversation.
    """
    log_nothing() if log_level is None else configure_logging(log_level)
    terminal = Terminal(color=color, quiet=quiet)
    with ended(terminal), running() as runner:
        if url is None and session is not None:
            raise StartupRefused("--session goes with --url: only a server keeps sessions")
        if url is not None and target is not None:
            raise StartupRefused("give either --url or --target")
        text = _given(message)
        talk = _remote(runner, url, session, agent) if url else _local(target, model, agent)
        try:
            prompt = Prompt(terminal)
            if text is None:
                raise typer.Exit(Repl(runner, talk, terminal, prompt).hold())
            raise typer.Exit(_say_once(runner, talk, terminal, prompt, text))
        finally:
            runner.run(talk.aclose())


def _given(message: str | None) -> str | None:
    """Return the one message that is to be said; None for a conversation.

    Raises:
        StartupRefused: If it is empty.
    """
    if message is None and not is_terminal(sys.stdin):
        message = sys.stdin.buffer.read().decode(errors="replace")
    if message is not None and not message.strip():
        raise StartupRefused("there is no message: give one with --message, or pipe one in")
    return message


def _local(target: str | None, model: str | None, agent: str | None) -> Talk:
    registry = load_registry(target) if target else built_in(load_settings(model=model))
    try:
        return LocalTalk(registry, agent)
    except AgentUnknown as error:
        raise StartupRefused(str(error)) from error


def _remote(runner: asyncio.Runner, url: str, session: str | None, agent: str | None) -> Talk:
    from gateway.cli.remote_talk import RemoteTalk  # noqa: PLC0415 - not needed without a server

    try:
        return runner.run(RemoteTalk.open(url, session, agent))
    except (AgentUnknown, ClientFault, ValueError) as error:
        raise StartupRefused(str(error)) from error


def _say_once(
    runner: asyncio.Runner, talk: Talk, terminal: Terminal, prompt: Prompt, text: str
) -> int:
    """Say one thing, show the answer, and return the exit code."""
    decide = prompt.decide if prompt.possible() else None
    code = WAITING
    if talk.approvals and decide is not None:  # of the session that was joined
        heard = talk.decide(decide(talk.approvals))
        perform(runner, talk, heard, Renderer(terminal), terminal, decide=decide)
    if not talk.approvals:
        code = perform(runner, talk, talk.say(text), Renderer(terminal), terminal, decide=decide)
    if code == WAITING:
        for approval in talk.approvals:
            terminal.fail(f"{describe(approval)}, and there is nobody to ask; {talk.way_on}")
    return code
