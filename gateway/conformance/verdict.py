"""What the checks of one rule come to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.conformance.check import Result

__all__ = ["Standing", "Verdict", "verdicts"]

Standing = Literal["holds", "holds in part", "broken", "not checked", "not observable"]
"""`holds in part`: what was looked at does, and something was not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one rule stands, and why."""

    rule: str
    results: Sequence[Result]

    @property
    def standing(self) -> Standing:
        """How it stands."""
        found = {result.outcome for result in self.results}
        if "broken" in found:
            return "broken"
        if "holds" in found:
            return "holds" if len(found) == 1 else "holds in part"
        return "not checked" if "not checked" in found else "not observable"

    @property
    def seconds(self) -> float:
        """How long the longest of its checks took: they run side by side."""
        return max(result.seconds for result in self.results)


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """Return how each rule stands, in the order in which they were checked first."""
    by_rule: dict[str, list[Result]] = {}
    for result in results:
        by_rule.setdefault(result.check.rule, []).append(result)
    return [Verdict(rule, found) for rule, found in by_rule.items()]
