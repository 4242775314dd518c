"""`tidegate conformance`: does a server hold the rules of PROTOCOL.md?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.ending import ended
from gateway.conformance.check import Check, Result, Role
from gateway.conformance.verdict import Standing, Verdict, verdicts
from gateway.errors import StartupRefused
from runtime.cli.process import running
from runtime.cli.terminal import Terminal, is_terminal, printable

__all__ = ["EXAMPLES", "conformance"]

EXAMPLES = """
[bold]Examples[/bold]

  tidegate conformance http://127.0.0.1:8080\n
  tidegate conformance http://127.0.0.1:8080 --quick\n
  tidegate conformance http://127.0.0.1:8080 --rule sse.prime --rule ws\n
  tidegate conformance https://gateway.example --echo parrot --json | jq .rules\n
  tidegate conformance http://127.0.0.1:8080 --restart './restart.sh $SIGNAL'\n

Exit codes: 0 no rule is broken, 1 one is, 2 there is no such server, 3 something was not checked
(with --strict), 130 Ctrl-C.
"""

_BROKEN, _NOT_ALL = 1, 3

_STYLES: dict[Standing, str] = {
    "holds": "green",
    "holds in part": "green",
    "broken": "bold red",
    "not checked": "yellow",
    "not observable": "dim",
}


def conformance(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The server, such as http://127.0.0.1:8080.")
    ],
    *,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="Check this rule, or all of `sse`. May be repeated."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what takes longer than a few seconds.")
    ] = False,
    restart: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="A shell command that sends the server the signal $SIGNAL (TERM, later KILL) and "
            "starts it again; for the rules that need it.",
        ),
    ] = None,
    echo: Annotated[
        str, typer.Option(metavar="NAME", help="The agent that repeats what it is told.")
    ] = "echo",
    tools: Annotated[
        str, typer.Option(metavar="NAME", help="The agent that calls tools, and asks first.")
    ] = "tools",
    research: Annotated[
        str, typer.Option(metavar="NAME", help="The graph that asks a human.")
    ] = "research",
    caller: Annotated[
        str, typer.Option(metavar="NAME", help="The agent that calls a tool of the client's.")
    ] = "tools",
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object, and nothing else.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 3 if something could have been checked.")
    ] = False,
    color: Annotated[
        bool | None, typer.Option("--color/--no-color", help="Default: on a terminal.")
    ] = None,
) -> None:
    """Check a running server against PROTOCOL.md, rule by rule.

    It talks to the server as any client does, in sessions of its own, which it deletes.
    """
    terminal = Terminal(color=color)
    with ended(terminal), running() as runner:
        checks = _chosen(rule or ())
        names: dict[Role, str] = {
            "echo": echo,
            "tools": tools,
            "research": research,
            "caller": caller,
        }
        results = runner.run(_judge(url, checks, names, terminal, quick=quick, restart=restart))
        found = verdicts(results)
        if as_json:
            terminal.content(orjson.dumps(_as_json(url, found)).decode() + "\n")
        elif is_terminal(sys.stdout):
            _print_table(found, color=color)
        else:
            terminal.content("".join(f"{line}\n" for line in _lines(found)))
        outcomes = {result.outcome for result in results}
        if "broken" in outcomes:
            raise typer.Exit(_BROKEN)
        if strict and "not checked" in outcomes:
            raise typer.Exit(_NOT_ALL)


def _chosen(rules: Sequence[str]) -> Sequence[Check]:
    from gateway.conformance.checks import CHECKS  # noqa: PLC0415 - so that `--help` answers at once

    known = {check.rule for check in CHECKS}
    for rule in rules:
        if not any(_is(tag, rule) for tag in known):
            raise StartupRefused(f"there is no rule {rule!r}; known: {', '.join(sorted(known))}")
    return [each for each in CHECKS if not rules or any(_is(each.rule, rule) for rule in rules)]


def _is(tag: str, rule: str) -> bool:
    return tag == rule or tag.startswith(f"{rule}.")


async def _judge(
    url: str,
    checks: Sequence[Check],
    names: dict[Role, str],
    terminal: Terminal,
    *,
    quick: bool,
    restart: str | None,
) -> list[Result]:
    from gateway.conformance.runner import judge  # noqa: PLC0415 - so that `--help` answers at once
    from gateway.conformance.target import NoServer, opened  # noqa: PLC0415 - as above

    done = 0

    def tell(result: Result) -> None:
        nonlocal done
        done += 1
        terminal.progress("checks", f"{done} of {len(checks)}", done / len(checks))

    terminal.busy("checks", f"checking {url}")
    try:
        async with opened(url, names) as target:
            results = await judge(target, checks, quick=quick, restart=restart, tell=tell)
        if target.left:
            terminal.note(f"{target.left} sessions and subscriptions could not be deleted")
        return results
    except NoServer as error:
        raise StartupRefused(str(error)) from error
    finally:
        terminal.idle("checks")


# --- what is said of it ------------------------------------------------------------------------


def _told(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Return what there is to say of a rule: a word, and a text."""
    reasons: set[str] = set()
    for result in verdict.results:
        if result.outcome == "broken":
            yield "promise", result.check.promise
            yield "expected", result.expected
            yield "saw", result.seen
            if result.request:
                yield "by", result.request
        elif result.outcome != "holds" and result.reason not in reasons:
            reasons.add(result.reason)
            yield result.outcome, result.reason


def _counted(found: Sequence[Verdict]) -> str:
    standings = [verdict.standing for verdict in found]
    counts = [(name, standings.count(name)) for name in _STYLES]
    told = ", ".join(f"{count} {name}" for name, count in counts if count)
    return f"{len(found)} rule{'s' * (len(found) != 1)}: {told}"


def _lines(found: Sequence[Verdict]) -> Iterator[str]:
    for verdict in found:
        yield f"{verdict.standing:14}  {verdict.rule:24}  {verdict.seconds:5.1f} s"
        for word, text in _told(verdict):
            yield f"    {word}: {text}"
    yield _counted(found)


def _print_table(found: Sequence[Verdict], *, color: bool | None) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    table.add_column("rule", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("seconds", justify="right")
    table.add_column("what there is to say", overflow="fold")
    for verdict in found:
        said = Text("\n").join(
            Text.assemble((f"{word}: ", "dim"), printable(text)) for word, text in _told(verdict)
        )
        standing = Text(verdict.standing, _STYLES[verdict.standing])
        table.add_row(verdict.rule, standing, f"{verdict.seconds:.1f}", said)
    console = Console(no_color=color is False, highlight=False)
    console.print(table)
    console.print(Text(_counted(found), "bold"))


def _as_json(url: str, found: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "url": url,
        "holds": all(verdict.standing != "broken" for verdict in found),
        "rules": {verdict.rule: verdict.standing for verdict in found},
        "checks": [result.as_json() for verdict in found for result in verdict.results],
    }
