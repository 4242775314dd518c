"""Asking the person at the terminal: a line, or a decision about what waits for one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.cli.terminal import Terminal, is_terminal
from runtime.events import ApprovalRequested
from runtime.runnable import Decision

__all__ = ["Prompt", "describe"]


def describe(approval: ApprovalRequested) -> str:
    """Say in one line what wants to be decided."""
    who = approval.tool or approval.node or "the run"
    arguments = f" {approval.arguments}" if approval.arguments else ""
    if approval.wants == "result":
        return f"{who}, a tool of a client's, waits for its result:{arguments}"
    reason = f": {approval.reason}" if approval.reason else ""
    return f"{who} asks for approval{reason}{arguments}"


class Prompt:
    """Reads lines from the keyboard, with the editing and the history of the platform."""

    def __init__(self, terminal: Terminal) -> None:
        """Ask on `terminal`. Questions are never written where content goes on a pipe."""
        self._terminal = terminal
        self._edits = is_terminal(sys.stdin) and is_terminal(sys.stdout)
        if self._edits:
            try:
                import readline  # noqa: F401, PLC0415 - importing it is what gives `input` its editing
            except ImportError:
                self._edits = False

    @staticmethod
    def possible() -> bool:
        """Tell whether there is anybody to ask."""
        return is_terminal(sys.stdin)

    def line(self, question: str) -> str:
        """Return what was typed.

        Raises:
            EOFError: At Ctrl-D.
            KeyboardInterrupt: At Ctrl-C.
        """
        if self._edits:
            return input(question)
        self._terminal.prompt(question)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def decide(self, approvals: Sequence[ApprovalRequested]) -> Mapping[str, Decision]:
        """Ask about each, and return the decisions by approval id.

        Raises:
            EOFError: At Ctrl-D: nothing is decided.
            KeyboardInterrupt: At Ctrl-C: neither.
        """
        return {approval.approval_id: self._decide(approval) for approval in approvals}

    def _decide(self, approval: ApprovalRequested) -> Decision:
        self._terminal.say(f"? {describe(approval)}")
        if approval.wants == "result":
            return self._result()
        while True:
            answer = self.line("[y]es, [n]o (a reason may follow), [e]dit: ").strip()
            word, _, rest = answer.partition(" ")
            match word.lower():
                case "y" | "yes":
                    return Decision("approved")
                case "n" | "no":
                    return Decision("rejected", message=rest.strip() or None)
                case "e" | "edit":
                    arguments = rest.strip() or self.line("JSON: ").strip()
                    if _is_json(arguments):
                        return Decision("edited", arguments=arguments)
                    self._terminal.say("that is no JSON")
                case _:
                    self._terminal.say("please answer y, n or e")

    def _result(self) -> Decision:
        """Ask for what came of a call of a client's tool."""
        while True:
            answer = self.line("[r]esult (JSON or text follows), [n]o (a reason may follow): ")
            word, _, rest = answer.strip().partition(" ")
            match word.lower():
                case "r" | "result":
                    return Decision(
                        "answered", result=_value(rest.strip() or self.line("Result: "))
                    )
                case "n" | "no":
                    return Decision("rejected", message=rest.strip() or None)
                case _:
                    self._terminal.say("please answer r or n")


def _value(text: str) -> Any:
    """Return what JSON means, and any other text as it is."""
    return json.loads(text) if _is_json(text) else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
