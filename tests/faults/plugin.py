"""Seeds that can be repeated, and the report of which invariant was held against which fault.

`--seed N` sets the seed of a run; each test gets a `Random` of its own from it and from the test's
name, so that a test does the same whether it runs alone or with others.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from random import Random, SystemRandom

import pytest

from tests.faults.history import History
from tests.faults.invariants import CANCEL_SECONDS, INVARIANTS, FinalLog, check

__all__ = ["Judge", "judge", "random"]

RESULTS = Path("test-results")

_SEED = pytest.StashKey[int]()
_REPORT = pytest.StashKey["_Report"]()
_FAILED = pytest.StashKey[bool]()
SHOWN = 10
"""Violations that a failing test shows; the history has the rest."""


@dataclass
class _Row:
    """What is known of one fault."""

    passed: int = 0
    failed: int = 0
    facts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class _Report:
    """What tests did, by fault."""

    def __init__(self) -> None:
        self.rows: dict[str, _Row] = {}
        self.notes: list[str] = []

    def table(self, seed: int) -> str:
        """Return the table as Markdown."""
        head = ["fault", "tests", *INVARIANTS]
        lines = [head, ["---"] * len(head)]
        for fault in sorted(self.rows, key=lambda name: int(name[1:])):
            row = self.rows[fault]
            tests = f"{row.passed} ✔" + (f", {row.failed} ✘" if row.failed else "")
            lines.append([fault, tests, *(_count(row.facts.get(name, 0)) for name in INVARIANTS)])
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"# Faults and invariants\n\nSeed {seed}. A number: facts checked.\n\n{table}\n{notes}\n"


def _count(facts: int) -> str:
    return "" if not facts else str(facts) if facts < 10_000 else f"{facts / 1000:.0f}k"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--seed`."""
    parser.addoption("--seed", type=int, default=None, help="repeat a run of the fault tests")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed."""
    seed = config.getoption("--seed")
    config.stash[_SEED] = SystemRandom().randrange(2**32) if seed is None else seed
    config.stash[_REPORT] = _Report()


def pytest_report_header(config: pytest.Config) -> str:
    """Say the seed."""
    return f"seed of the fault tests: {config.stash[_SEED]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None] | pytest.TestReport:
    """Say the seed with each failure, and count for the report."""
    report: pytest.TestReport = yield  # type: ignore[misc,assignment] # what the hook returns
    marks = list(item.iter_markers("fault"))
    if not marks:
        return report
    if report.failed:
        item.stash[_FAILED] = True
        report.sections.append(("seed", f"repeat it with --seed {item.config.stash[_SEED]}"))
    if report.when == "call" or report.failed:
        for fault in {name for mark in marks for name in mark.args}:
            row = item.config.stash[_REPORT].rows.setdefault(fault, _Row())
            row.passed += report.passed
            row.failed += report.failed
        for mark in marks if report.passed and report.when == "call" else ():
            for fault, invariant in product(mark.args, mark.kwargs.get("holds", ())):
                item.config.stash[_REPORT].rows[fault].facts[invariant] += 1
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Write the report, and show it if it was asked for with a seed or a long run."""
    report = config.stash[_REPORT]
    if not report.rows:
        return
    RESULTS.mkdir(exist_ok=True)
    table = report.table(config.stash[_SEED])
    (RESULTS / "faults.md").write_text(table, encoding="utf-8")
    if "not long" not in config.option.markexpr:
        terminalreporter.section("faults")
        terminalreporter.write(table)


class Judge:
    """What a test holds its findings against; the report counts it."""

    def __init__(self, request: pytest.FixtureRequest, directory: Path) -> None:
        self.history = History()
        self.failing = False
        self._request = request
        self._directory = directory

    def check(
        self,
        logs: Sequence[FinalLog],
        *invariants: str,
        given_up: Collection[str] = (),
        cancel_seconds: float = CANCEL_SECONDS,
    ) -> None:
        """Fail if the history violates any invariant, or says nothing of those that are named.

        Args:
            logs: The logs when all was over.
            invariants: Those that the test is about.
            given_up: Those that are not promised under this fault, which PROTOCOL.md or the
                settings say.
            cancel_seconds: What a cancel may take.
        """
        verdict = check(self.history, logs, cancel_seconds=cancel_seconds)
        found = [str(v) for v in verdict.violations if v.invariant not in given_up]
        assert not found, f"{len(found)} violations:\n" + "\n".join(found[:SHOWN])
        for invariant in invariants:
            assert verdict.facts[invariant], f"nothing was held against {invariant}"
            self.note(invariant, verdict.facts[invariant])

    def note(self, invariant: str, facts: int = 1) -> None:
        """Count facts that the test has checked by itself."""
        assert invariant in INVARIANTS
        report = self._request.config.stash[_REPORT]
        node: pytest.Item = self._request.node
        for fault in {name for mark in node.iter_markers("fault") for name in mark.args}:
            report.rows.setdefault(fault, _Row()).facts[invariant] += facts

    def say(self, what: str) -> None:
        """Put a line into the report: what a long test did."""
        self._request.config.stash[_REPORT].notes.append(f"{self._request.node.name}: {what}")
        print(what)  # noqa: T201 - for who runs the one test with -s

    def keep(self) -> None:
        """Write the history; where a test failed, to where results are kept as well."""
        if not self.history.operations:
            return
        path = self._directory / "history.jsonl"
        self.history.write(path)
        if self._request.node.stash.get(_FAILED, False):
            RESULTS.mkdir(exist_ok=True)
            name = self._request.node.name.replace("/", "-")
            shutil.copy(path, RESULTS / f"{name}.history.jsonl")


@pytest.fixture
def judge(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Judge]:
    """The history of this test, and the checker; its history is kept if the test fails."""
    judge = Judge(request, tmp_path)
    yield judge
    judge.keep()


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Random numbers of this test, the same for the same `--seed`."""
    return Random(f"{request.config.stash[_SEED]} {request.node.nodeid}")  # noqa: S311 - to be repeated
