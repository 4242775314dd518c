"""`python -m runtime.cli "question"`: one question to an agent in this process."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from runtime.agent import Agent
from runtime.cli.load import LoadRefused, load_registry
from runtime.cli.local import LocalTalk
from runtime.cli.perform import FAILED, INTERRUPTED, REFUSED, WAITING, perform
from runtime.cli.process import run_process, running
from runtime.cli.prompt import Prompt, describe
from runtime.cli.renderer import Renderer
from runtime.cli.terminal import Terminal, is_terminal
from runtime.cli.watch import Left
from runtime.errors import ModelError
from runtime.models.base import Model
from runtime.registry import Registry

__all__ = ["default_model", "main"]

DEFAULT_HOSTED_MODEL = "gpt-5-mini"
"""Asked when there is a key, and no model is named."""

PROGRAM = "runtime.cli"

_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command; the process ends with its exit code."""
    run_process(_app, f"python -m {PROGRAM}")


@_app.command()
def ask(
    question: Annotated[
        str | None, typer.Argument(help="What to ask; without it, what is piped in.")
    ] = None,
    *,
    agent: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="Whom to ask: an agent, or a registry's first."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model of the plain agent, at the endpoint of OPENAI_API_KEY; or a GGUF file. "
            "Without a key, a small one on this machine.",
        ),
    ] = None,
    color: Annotated[
        bool | None, typer.Option("--color/--no-color", help="Default: on a terminal.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show the answer and failures only.")
    ] = False,
) -> None:
    """Ask an agent one question. The answer goes to stdout, and all else to stderr."""
    logging.getLogger().addHandler(logging.NullHandler())  # a failure is told in one line
    terminal = Terminal(color=color, quiet=quiet, program=PROGRAM)
    if question is None and not is_terminal(sys.stdin):
        question = sys.stdin.read()
    if question is None or not question.strip():
        terminal.fail("there is no question")
        raise typer.Exit(REFUSED)
    try:
        registry = (
            load_registry(agent, form="MODULE:NAME")
            if agent is not None
            else Registry(Agent("assistant", default_model(model)))
        )
    except LoadRefused as refused:
        terminal.fail(str(refused))
        raise typer.Exit(REFUSED) from None
    raise typer.Exit(_answer(registry, question, terminal))


def _answer(registry: Registry, question: str, terminal: Terminal) -> int:
    prompt = Prompt(terminal)
    talk = LocalTalk(registry)
    with running() as runner:
        try:
            code = perform(
                runner,
                talk,
                talk.say(question),
                Renderer(terminal),
                terminal,
                decide=prompt.decide if prompt.possible() else None,
            )
        except Left as left:
            return left.code
        except (KeyboardInterrupt, EOFError):
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told in one line
            terminal.fail(f"{type(error).__name__}: {error}")
            return FAILED
        finally:
            runner.run(talk.aclose())
    if code == WAITING:
        for approval in talk.approvals:
            terminal.fail(f"{describe(approval)}, and there is nobody to ask; {talk.way_on}")
    return code


def default_model(name: str | None = None) -> Model:
    """Return the model that is to be had: the hosted one of the environment, else the local one.

    Args:
        name: Which, at the endpoint; or a GGUF file for the local one.

    Raises:
        LoadRefused: If none can be had; the text says what to do.
    """
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        from runtime.models.openai import OpenAIModel  # noqa: PLC0415 - takes half a second

        try:
            return OpenAIModel(name or DEFAULT_HOSTED_MODEL)
        except (ImportError, ModelError) as error:
            raise LoadRefused(str(error)) from error
    from runtime.models.local import LocalModel  # noqa: PLC0415 - needs an extra
    from runtime.models.local_process import find_weights  # noqa: PLC0415 - as above

    if name is not None:
        path = Path(name)
        if path.suffix != ".gguf" or not path.is_file():
            raise LoadRefused(
                f"model {name!r} is no GGUF file; for a hosted model set OPENAI_API_KEY"
            )
        return LocalModel(path.stem, path)
    try:
        find_weights()
    except ModelError as error:
        raise LoadRefused(
            f"there is no model: set OPENAI_API_KEY, or install the local one ({error})"
        ) from error
    return LocalModel()
