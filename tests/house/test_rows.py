"""Every acceptance row that is promised has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"mark\.rows\(([^)]*)\)")

# Rows by family.
PROMISED = {
    "C": range(1, 39),
    "A": range(1, 50),
    "S": range(1, 49),
    "L": range(1, 27),
    "K": range(1, 25),
    "X": range(1, 8),
    "W-C": range(1, 13),
    "W-A": range(1, 7),
    "W-S": range(1, 13),
    "W-L": range(1, 9),
    "W-K": range(1, 4),
}


def test_every_row_that_is_promised_is_named_by_a_test() -> None:
    named: set[str] = set()
    for file in TESTS.rglob("test_*.py"):
        for call in NAMED.findall(file.read_text()):
            named.update(re.findall(r"\"([^\"]+)\"", call))
    wanted = {f"{family}{number}" for family, numbers in PROMISED.items() for number in numbers}
    assert sorted(wanted - named) == []
