"""The suite and PROTOCOL.md have the same rules."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.conformance.checks import CHECKS

PROTOCOL = Path(__file__).parents[2] / "PROTOCOL.md"


def tags() -> set[str]:
    return set(re.findall(r"\*\*\[([a-z_.]+)\]\*\*", PROTOCOL.read_text()))


def test_every_rule_of_the_protocol_has_a_check() -> None:
    assert len(tags()) > 40, "the pattern finds them"
    assert sorted(tags() - {check.rule for check in CHECKS}) == []


def test_every_check_names_a_rule_of_the_protocol() -> None:
    assert sorted({check.rule for check in CHECKS} - tags()) == []


def test_every_check_has_a_name_of_its_own_and_says_what_it_promises() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(check.promise.endswith(".") for check in CHECKS)
