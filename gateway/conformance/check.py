"""What a check is, what it needs, and how it says what it found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from gateway.conformance.target import Target

__all__ = [
    "Broken",
    "Check",
    "Checks",
    "Look",
    "NotChecked",
    "NotObservable",
    "Outcome",
    "Phase",
    "Result",
    "Role",
    "must",
    "must_equal",
]

Role = Literal["echo", "tools", "research", "caller"]
"""An agent that answers in a known way.

`echo` says what it is told, word by word, and takes the option `interval_ms`. `tools` answers
“weather in A and B” with a tool call for each, which take a moment, and “delete F” with one that
needs an approval. `research` is a graph with nodes side by side, one that asks a human, and one that
speaks. `caller` answers “call NAME” with a call of the client's tool of that name.
"""

Outcome = Literal["holds", "broken", "not checked", "not observable"]
"""`not checked` could be, with other options; `not observable` cannot be seen from outside."""

Look = Callable[["Target"], Awaitable[None]]
"""What a check does: it raises `Broken`, `NotChecked` or `NotObservable`, or the rule holds here."""

Phase = Literal["any", "stop", "kill"]
"""When a check runs: at any time, or around an orderly stop or a kill of the server."""

LIMIT = 20.0
"""Seconds that a check has, where it does not say: a run of each agent, several times over."""


class Broken(Exception):
    """The rule does not hold."""

    def __init__(self, expected: str, seen: object, request: str = "") -> None:
        """Say it.

        Args:
            expected: What the rule promises here.
            seen: What there was instead.
            request: What shows it.
        """
        super().__init__(f"expected {expected}, saw {seen}")
        self.expected = expected
        self.seen = str(seen)
        self.request = request


class NotChecked(Exception):
    """The check needs something that is not there; the text says what."""


class NotObservable(Exception):
    """Nothing outside of the server can show whether the rule holds; the text says why."""


def must(holds: object, expected: str, seen: object, request: str = "") -> None:
    """Require a fact.

    Raises:
        Broken: If it is none.
    """
    if not holds:
        raise Broken(expected, seen, request)


def must_equal(seen: Any, wanted: Any, what: str, request: str = "") -> None:
    """Require that two values are equal.

    Raises:
        Broken: If they are not.
    """
    if seen != wanted:
        raise Broken(f"{what} to be {wanted!r}", repr(seen), request)


@dataclass(frozen=True, slots=True)
class Check:
    """One look at a rule.

    Attributes:
        rule: Its tag in PROTOCOL.md.
        name: The function's.
        promise: What has to be true, in a sentence.
        run: What it does.
        needs: The agents that it talks to.
        slow: Whether the rule itself takes longer than a few seconds to show.
        limit: Seconds that it may take.
        phase: Whether it needs the server to be stopped, or killed, and to come back.
    """

    rule: str
    name: str
    promise: str
    run: Look
    needs: Sequence[Role] = ()
    slow: bool = False
    limit: float = LIMIT
    phase: Phase = "any"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check. `reason` says why there was none."""

    check: Check
    outcome: Outcome
    seconds: float = 0.0
    expected: str = ""
    seen: str = ""
    request: str = ""
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data, without what is empty."""
        found = {
            "rule": self.check.rule,
            "check": self.check.name,
            "promise": self.check.promise,
            "outcome": self.outcome,
            "seconds": round(self.seconds, 3),
            "expected": self.expected,
            "seen": self.seen,
            "request": self.request,
            "reason": self.reason,
        }
        return {name: value for name, value in found.items() if value != ""}


class Checks(list[Check]):
    """The checks of one module, in the order of their definition."""

    def of(
        self,
        rule: str,
        *,
        needs: Sequence[Role] = (),
        slow: bool = False,
        limit: float = LIMIT,
        phase: Phase = "any",
    ) -> Callable[[Look], Look]:
        """Make the function below a check; its docstring's first paragraph is the promise.

        Args:
            rule: The tag in PROTOCOL.md; the others are those of `Check`.
            needs: As there.
            slow: As there.
            limit: As there.
            phase: As there.
        """

        def collect(run: Look) -> Look:
            promise = " ".join((run.__doc__ or "").split("\n\n")[0].split())
            self.append(Check(rule, run.__name__, promise, run, needs, slow, limit, phase))
            return run

        return collect
