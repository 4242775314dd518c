from __future__ import annotations

import pytest

from tests.mutants.mutant import ROOT, Mutant
from tests.mutants.safeguards import MUTANTS

each = pytest.mark.parametrize("mutant", MUTANTS, ids=[m.safeguard for m in MUTANTS])


@each
def test_the_safeguard_is_where_the_list_says(mutant: Mutant) -> None:
    source = (ROOT / mutant.path).read_text()
    changed = mutant.applied_to(source)
    assert changed != source
    if mutant.path.endswith(".py"):
        compile(changed, mutant.path, "exec")


@each
def test_the_tests_that_have_to_notice_are_there(mutant: Mutant) -> None:
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).exists(), test
        assert not name or f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(), test


def test_no_safeguard_is_named_twice_and_there_are_many() -> None:
    names = [mutant.safeguard for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    assert len(names) >= 20
