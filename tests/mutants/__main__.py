"""`make mutants`: take one safeguard away at a time, and show that tests go red for each.

Every mutant is made in a copy of the project; the checkout is never touched. First the tests that are
named have to pass in an unchanged copy: a test that is red anyway proves nothing.

    python -m tests.mutants                  all of them
    python -m tests.mutants fence jitter     those whose safeguard has one of these words
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tests.mutants.mutant import ROOT, Mutant
from tests.mutants.safeguards import MUTANTS

AT_ONCE = max(1, (os.cpu_count() or 2) // 2)
LIMIT = 240.0
"""Seconds for the tests of one mutant: one that hangs the tests is noticed, too."""

UNCHANGED_LIMIT = 1800.0
"""Seconds for the tests of all mutants together, on the unchanged code."""

TESTS_FAILED = 1
"""pytest's exit code; others mean that it was used wrongly, and prove nothing."""

COPIED = (
    "gateway",
    "runtime",
    "static",
    "tests",
    "examples",
    "docs",
    "pyproject.toml",
    "PROTOCOL.md",
)

_console = Console(soft_wrap=True, highlight=False, markup=False)


@contextmanager
def project_copy() -> Iterator[Path]:
    """Make a copy of the project for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="tidegate-mutant-") as folder:
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "node_modules")
                shutil.copytree(source, Path(folder, name), ignore=ignored)
            else:
                shutil.copy(source, folder)
        yield Path(folder)


async def failing(copy: Path, tests: Sequence[str], limit: float) -> tuple[int, str]:
    """Run tests in a copy; return pytest's exit code (-1: too long) and what it said at the end.

    Args:
        copy: Where.
        tests: As pytest is told them.
        limit: Seconds that they may take.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist",
        "--no-header", "--durations=0", "--durations-min=1000", *tests,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(limit):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return -1, "too long"
    lines = said.decode(errors="replace").strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return process.returncode or 0, (failed or lines or [""])[-1]


async def survives(mutant: Mutant) -> tuple[bool, str]:
    """Say whether no test notices, and which one did."""
    with project_copy() as copy:
        place = copy / mutant.path
        place.write_text(mutant.applied_to(place.read_text()))
        code, said = await failing(copy, mutant.tests, LIMIT)
    return code not in {TESTS_FAILED, -1}, said


async def judge(mutants: Sequence[Mutant]) -> int:
    """Try all mutants, a few at a time, say how each fared, and return how many survive."""
    survivors: list[Mutant] = []
    free = asyncio.Semaphore(AT_ONCE)

    async def one(mutant: Mutant) -> None:
        async with free:
            began = time.monotonic()
            alive, said = await survives(mutant)
            if alive:
                survivors.append(mutant)
            test = said.removeprefix("FAILED ").removeprefix("ERROR ").split(" - ")[0]
            word, by = ("SURVIVES", "nothing noticed") if alive else ("killed", test)
            seconds = time.monotonic() - began
            _console.print(f"{word:8}  {mutant.safeguard}  ({seconds:.0f} s)\n{'':8}  by {by}")

    async with asyncio.TaskGroup() as group:
        for mutant in mutants:
            group.create_task(one(mutant))
    return len(survivors)


def chosen(words: Iterable[str]) -> list[Mutant]:
    """Return the mutants whose safeguard has one of the words; all if there are no words."""
    wanted = [word.lower() for word in words]
    return [m for m in MUTANTS if not wanted or any(w in m.safeguard.lower() for w in wanted)]


async def main() -> int:
    """Judge the chosen mutants; return the exit code."""
    mutants = chosen(sys.argv[1:])
    if not mutants:
        _console.print(f"no safeguard has one of these words: {' '.join(sys.argv[1:])}")
        return 2
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    _console.print(f"{len(mutants)} mutants; their tests on the unchanged code first")
    with project_copy() as copy:
        code, said = await failing(copy, tests, UNCHANGED_LIMIT)
    if code:
        _console.print(f"the tests fail without any mutant: {said}")
        return 2
    alive = await judge(mutants)
    _console.print(f"{len(mutants) - alive} of {len(mutants)} killed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
