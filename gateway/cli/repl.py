"""A conversation at a terminal: line by line, until somebody leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from gateway.cli.ending import reason
from runtime.cli.perform import COMPLETED, perform
from runtime.cli.prompt import Prompt
from runtime.cli.renderer import Renderer
from runtime.cli.talk import Heard, Talk
from runtime.cli.terminal import Terminal
from runtime.cli.watch import Left

__all__ = ["Repl"]

HELP = """\
/agents        who is there
/agent NAME    let another one answer; the conversation stays
/new           begin a new conversation
/quit          leave; Ctrl-D does too
//…            say something that begins with a slash
Ctrl-C stops an answer, and leaves when there is none."""


class Repl:
    """One conversation, and the commands that go with it."""

    def __init__(
        self, runner: asyncio.Runner, talk: Talk, terminal: Terminal, prompt: Prompt
    ) -> None:
        """Prepare it; the loop of `runner` runs while there is an answer, not while somebody types."""
        self._runner = runner
        self._talk = talk
        self._terminal = terminal
        self._prompt = prompt
        terminal.ends_answers = True

    def hold(self) -> int:
        """Talk until somebody leaves; return the exit code.

        Raises:
            KeyboardInterrupt, Left: If it was by Ctrl-C.
        """
        terminal, talk = self._terminal, self._talk
        terminal.note(f"{talk.where}; /help tells more")
        try:
            if talk.approvals:
                self._show(talk.decide(self._prompt.decide(talk.approvals)))
            while True:
                line = self._prompt.line(f"{talk.agent}> ").strip()
                if line.startswith("/") and not line.startswith("//"):
                    if not self._obey(line):
                        return COMPLETED
                elif line:
                    self._show(talk.say(line.removeprefix("/")))
        except EOFError:
            terminal.say("")
            return COMPLETED

    def _show(self, heard: AsyncGenerator[Heard, None]) -> None:
        """Show an answer. That one failed is no reason to end the conversation."""
        terminal = self._terminal
        try:
            perform(
                self._runner,
                self._talk,
                heard,
                Renderer(terminal),
                terminal,
                decide=self._prompt.decide,
            )
        except (EOFError, Left):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told in one line
            terminal.fail(reason(error))
        if terminal.gone:
            raise EOFError

    def _obey(self, line: str) -> bool:
        """Do what a line with a slash says; return whether the conversation goes on."""
        word, _, rest = line.partition(" ")
        match word, rest.strip():
            case "/quit" | "/exit", _:
                return False
            case "/help", _:
                self._terminal.say(HELP)
            case "/agents", _:
                self._list()
            case "/agent", name if name:
                self._choose(name)
            case "/new", _:
                self._renew()
            case _:
                self._terminal.say(f"there is no {word}; /help tells what there is")
        return True

    def _list(self) -> None:
        offers = self._talk.offers()
        width = max(len(offer.name) for offer in offers)
        for offer in offers:
            mark = "*" if offer.name == self._talk.agent else " "
            self._terminal.say(f"{mark} {offer.name:{width}}  {offer.description}")

    def _choose(self, name: str) -> None:
        try:
            self._talk.choose(name)
        except Exception as error:  # noqa: BLE001 - it says who there is
            self._terminal.say(reason(error))

    def _renew(self) -> None:
        try:
            self._runner.run(self._talk.renew())
        except Exception as error:  # noqa: BLE001 - a server may be gone
            self._terminal.fail(reason(error))
        else:
            self._terminal.note(f"{self._talk.where}: a new conversation")
