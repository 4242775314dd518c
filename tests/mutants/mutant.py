"""What a mutant is: one safeguard taken out of the code, and the tests that have to notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One safeguard less.

    Attributes:
        safeguard: What is taken away, in a few words.
        path: The file, from the root of the project.
        old: A text that stands there exactly once.
        new: What stands there instead.
        tests: What pytest is given; at least one of these tests has to fail.
    """

    safeguard: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied_to(self, source: str) -> str:
        """Return the file's text without the safeguard.

        Raises:
            ValueError: If the text is not there exactly once: then this list is out of date.
        """
        found = source.count(self.old)
        if found != 1:
            raise ValueError(f"{self.path} has the text of {self.safeguard!r} {found} times")
        return source.replace(self.old, self.new)
