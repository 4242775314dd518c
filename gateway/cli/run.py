"""`tidegate run`: run a graph, or an agent, once, and see it work."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway.cli.ending import ended
from gateway.cli.loading import load_registry
from gateway.cli.logs import configure_logging, log_nothing
from gateway.config import LogLevel
from gateway.errors import StartupRefused
from gateway.log.serde import dump
from runtime.cli.local import LocalTalk
from runtime.cli.perform import WAITING, Decide, perform
from runtime.cli.process import running
from runtime.cli.prompt import Prompt, describe
from runtime.cli.renderer import Renderer, failure_line
from runtime.cli.talk import Heard, Notice, Restated, Talk
from runtime.cli.terminal import Terminal
from runtime.cli.watch import Shows
from runtime.errors import RuntimeFault
from runtime.events import RunCompleted, RunFailed
from runtime.messages import Message
from runtime.registry import Registry
from runtime.run_stream import RunEnd
from runtime.runnable import Decision

__all__ = ["EXAMPLES", "run"]

Following = AsyncGenerator[Heard, None]

EXAMPLES = """
[bold]Examples[/bold]

  tidegate run graph.py:graph --input '{"n": 3}'\n
  tidegate run graph.py:graph --input @start.json --set n=4\n
  tidegate run package.graphs:build --timeout 60 > result.json\n
  tidegate run agents:writer --input 'A haiku about tides.'\n
  tidegate run graph.py:graph --json | jq .type\n
  tidegate run graph.py:graph --store runs.db --session r1\n
  tidegate run graph.py:graph --store runs.db --session r1 --approve\n

The output goes to stdout: text as it is, anything else as JSON. Exit codes: 0 done, 1 failed,
2 refused, 3 waits for approval, 130 Ctrl-C.
"""


def run(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:NAME",
            help="What to run, in a file or a module: a graph, an agent, a registry (its first), "
            "or a function that returns one.",
        ),
    ],
    *,
    given: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="JSON|@FILE|-",
            help="The first values of a graph's keys, as a JSON object; any other text is what the "
            "user says.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One more value: JSON, or else text. May be repeated.",
        ),
    ] = None,
    approve: Annotated[
        bool | None,
        typer.Option("--approve/--reject", help="Answer whatever asks for approval like this."),
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Answer whatever asks with this value."),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep a graph's run in this file, so that it can go on later."
        ),
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Which run in that file; without --input and --set, one that waits goes on.",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.001, help="End the run after this long."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write every event as one line of JSON, and no output.")
    ] = False,
    color: Annotated[
        bool | None, typer.Option("--color/--no-color", help="Default: on a terminal.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show the output and failures only.")
    ] = False,
    log_level: Annotated[
        LogLevel | None, typer.Option(help="Log to stderr; default: nothing.")
    ] = None,
) -> None:
    """Run a graph or an agent once, and show how it gets on.

    Its progress goes to stderr; Ctrl-C cancels it.
    """
    log_nothing() if log_level is None else configure_logging(log_level)
    terminal = Terminal(color=color, quiet=quiet)
    with ended(terminal), running() as runner:
        registry = load_registry(target, form="FILE.py:NAME", example="graph.py:graph")
        work = Work(registry, given, settings or (), timeout)
        decide = _decider(Prompt(terminal), approve=approve, answer=answer)
        if (session is not None) and store is None:
            raise StartupRefused("--session goes with --store")
        talk, heard = (
            work.in_process() if store is None else work.stored(runner, store, session, decide)
        )
        shows: Shows = JsonLines(terminal) if as_json else Renderer(terminal, output=_output_text)
        code = WAITING
        try:
            if heard is not None:
                code = perform(runner, talk, heard, shows, terminal, decide=decide)
        finally:
            runner.run(talk.aclose())
        if code == WAITING:
            for approval in talk.approvals:
                terminal.fail(
                    f"{describe(approval)}, and there is nobody to ask; {_way_on(talk, store)}"
                )
        raise typer.Exit(code)


def _way_on(talk: Talk, store: Path | None) -> str:
    if store is not None:
        return talk.way_on
    return "run it again with --approve, --reject or --answer, or keep it with --store"


class Work:
    """What is to be run, and what with."""

    def __init__(
        self,
        registry: Registry,
        given: str | None,
        settings: Sequence[str],
        timeout: float | None,
    ) -> None:
        self._registry = registry
        self._given = given
        self._settings = settings
        self._timeout = timeout
        self._runnable = registry.get()

    def in_process(self) -> tuple[Talk, Following]:
        """Return a run that ends with this process.

        Raises:
            StartupRefused: If what it begins with cannot be read.
        """
        state, history = _begin(self._runnable.kind, self._given, self._settings)
        talk = LocalTalk(self._registry, state=state, timeout=self._timeout)
        return talk, talk.run(history)

    def stored(
        self, runner: asyncio.Runner, path: Path, session: str | None, decide: Decide | None
    ) -> tuple[Talk, Following | None]:
        """Return a run that is kept in a file: a new one, or the one that a session waits with.

        Raises:
            StartupRefused: If this cannot be kept, or what it begins with cannot be read.
        """
        from runtime.cli.stored import StoredTalk  # noqa: PLC0415 - only where something is kept
        from runtime.graph.compiled import CompiledGraph  # noqa: PLC0415 - as above

        if not isinstance(self._runnable, CompiledGraph):
            raise StartupRefused(f"--store keeps graphs; {self._runnable.name!r} is none")
        session_id = session or f"run_{secrets.token_hex(4)}"
        talk = StoredTalk(self._runnable, path, session_id, timeout=self._timeout)
        try:
            status = runner.run(talk.open())
        except RuntimeFault as error:
            raise StartupRefused(str(error)) from error
        if self._given is None and not self._settings and status in {"paused", "running"}:
            if not talk.approvals:
                return talk, talk.decide({})
            return talk, talk.decide(decide(talk.approvals)) if decide is not None else None
        state, history = _begin("graph", self._given, self._settings)
        return talk, talk.say(history[0].content) if history else talk.begin(state or {})


# --- what it begins with -----------------------------------------------------------------------


def _begin(
    kind: str, given: str | None, settings: Sequence[str]
) -> tuple[Mapping[str, Any] | None, tuple[Message, ...]]:
    """Return the first values of a graph's keys, and what the user says.

    Raises:
        StartupRefused: If they cannot be read.
    """
    text = _read(given)
    extra = dict(_setting(each) for each in settings)
    if kind != "graph":
        if extra:
            raise StartupRefused("--set goes with graphs; tell an agent with --input")
        if text is None or not text.strip():
            raise StartupRefused("an agent needs --input: what the user says")
        return None, (Message(role="user", content=text),)
    if text is None:
        return extra, ()
    values = _json(text)
    if isinstance(values, dict):
        return {**values, **extra}, ()
    if extra:
        raise StartupRefused("--set needs an --input that is a JSON object, or none")
    said = values if isinstance(values, str) else text
    return None, (Message(role="user", content=said),)


def _read(given: str | None) -> str | None:
    if given == "-":
        return sys.stdin.read()
    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise StartupRefused(f"cannot read {given[1:]!r}: {type(error).__name__}") from error


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise StartupRefused(f"--set {text!r} is not KEY=VALUE")
    return key, _json(value)


def _json(text: str) -> Any:
    """Return the value of JSON text; of any other text, the text."""
    try:
        return json.loads(text)
    except ValueError:
        if text.lstrip()[:1] in {"{", "["}:  # it was meant to be JSON
            raise StartupRefused(f"this is no JSON: {text}") from None
        return text


# --- what it asks ------------------------------------------------------------------------------


def _decider(prompt: Prompt, *, approve: bool | None, answer: str | None) -> Decide | None:
    """Return who decides what the run asks for; None if there is nobody."""
    decision: Decision | None = None
    if answer is not None:
        try:
            json.loads(answer)
        except ValueError:
            raise StartupRefused(f"--answer {answer!r} is no JSON") from None
        decision = Decision("edited", arguments=answer)
    elif approve is not None:
        decision = Decision("approved" if approve else "rejected")
    if decision is None:
        return prompt.decide if prompt.possible() else None
    return lambda approvals: {each.approval_id: decision for each in approvals}


# --- what it says ------------------------------------------------------------------------------


def _output_text(end: RunCompleted) -> str:
    """Return what a run came to: text as it is, anything else as a line of JSON."""
    result: Any = end.final_output
    if result is None:
        result = end.output or (end.state if end.state is not None else "")
    if isinstance(result, str):
        return result
    return orjson.dumps(result, default=repr, option=orjson.OPT_NON_STR_KEYS).decode() + "\n"


class JsonLines:
    """Writes every event as a line of JSON, as the native wire has it, without the log's fields.

    Attributes:
        end: The run's last event, once it was written.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.end: RunEnd | None = None
        self._terminal = terminal

    def show(self, heard: Heard) -> None:
        """Write an event."""
        if isinstance(heard, Notice | Restated):
            return
        self._terminal.content(dump(heard).decode() + "\n")
        if isinstance(heard, RunEnd):
            self.end = heard
        if isinstance(heard, RunFailed):
            self._terminal.fail(failure_line(heard))

    def give_up(self) -> None:
        """Leave it at the lines that there are."""
