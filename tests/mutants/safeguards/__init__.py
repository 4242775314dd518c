"""The safeguards, and the tests that notice when one is gone."""

from __future__ import annotations

from tests.mutants.mutant import Mutant
from tests.mutants.safeguards.log import CURSORS, WAKING, WRITING
from tests.mutants.safeguards.postgres import POSTGRES
from tests.mutants.safeguards.running import ELSEWHERE, NODES, RUNS
from tests.mutants.safeguards.serving import CLIENTS, KEEPING, STREAMS

__all__ = ["MUTANTS"]

MUTANTS: tuple[Mutant, ...] = (
    *CURSORS,
    *WRITING,
    *WAKING,
    *STREAMS,
    *RUNS,
    *NODES,
    *ELSEWHERE,
    *POSTGRES,
    *KEEPING,
    *CLIENTS,
)
