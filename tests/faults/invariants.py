"""The checker: holds a history and the final logs against the invariants I1 to I13.

Pure: nothing here asks a server, reads a clock or rolls a die. docs/faults.md says in words what each
invariant is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.faults import about_clients, about_commands, about_logs, about_resets
from tests.faults.evidence import Evidence, Facts, FinalLog, Stored
from tests.faults.history import History

__all__ = ["CANCEL_SECONDS", "INVARIANTS", "FinalLog", "Stored", "Verdict", "Violation", "check"]

Checker = Callable[[Evidence, Facts], None]

_CHECKERS: Mapping[str, Sequence[Checker]] = {
    "I1": (about_commands.is_kept, about_clients.all_arrives),
    "I2": (about_clients.is_real,),
    "I3": (about_clients.comes_once_in_order,),
    "I4": (about_logs.is_gap_free,),
    "I5": (about_logs.is_fenced,),
    "I6": (about_logs.one_end,),
    "I7": (about_resets.is_honest,),
    "I8": (about_clients.all_say_the_same,),
    "I9": (about_commands.is_bounded,),
    "I10": (about_commands.cancel_ends,),
    "I11": (about_clients.is_asked_for,),
    "I12": (about_logs.is_live,),
    "I13": (about_commands.happens_once,),
}

INVARIANTS: Sequence[str] = tuple(_CHECKERS)

CANCEL_SECONDS = 5.0
"""What a cancel may take on a machine that does other things as well; alone it is promised in 1 s."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and the evidence."""

    invariant: str
    sentence: str

    def __str__(self) -> str:
        """Return it as a line."""
        return f"{self.invariant}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found.

    Attributes:
        facts: How many facts each invariant was held against.
        violations: What does not hold.
    """

    facts: Mapping[str, int]
    violations: Sequence[Violation]


def check(
    history: History, logs: Sequence[FinalLog], *, cancel_seconds: float = CANCEL_SECONDS
) -> Verdict:
    """Hold a history against all invariants.

    Args:
        history: What clients did and saw.
        logs: The logs when all was over.
        cancel_seconds: What a cancel may take from its last asking to its answer.
    """
    evidence = Evidence(history, logs, cancel_seconds=cancel_seconds)
    counts: dict[str, int] = {}
    violations: list[Violation] = []
    for invariant, checkers in _CHECKERS.items():
        facts = Facts()
        for checker in checkers:
            checker(evidence, facts)
        counts[invariant] = facts.count
        violations += [Violation(invariant, sentence) for sentence in facts.broken]
    return Verdict(counts, violations)
