"""Copies of a process that has imported all are as processes that start from nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.cli.support.process import AGENTS, ROOT, afresh, environment, piped
from tests.support.copies import copy

FACTS = "tests.cli.support.facts"
SLOW = ("gateway", "chat", "slow", "--target", f"{AGENTS}:registry", "-m", "go")


@pytest.mark.parametrize("more", [{}, {"PYTHONUNBUFFERED": "1", "A": "b"}])
def test_a_copy_finds_all_as_a_process_that_starts_from_nothing(
    more: dict[str, str], tmp_path: Path
) -> None:
    real = afresh("-m", FACTS, "one", "--two", cwd=tmp_path, **more)
    copied = piped(FACTS, "one", "--two", cwd=tmp_path, **more)
    found, expected = json.loads(copied.stdout), json.loads(real.stdout)
    for each in (found, expected):
        del each["signals"][
            str(int(signal.SIGINT))
        ]  # ignored from nothing, if the tests run with `&`
    assert found == expected
    assert copied.stderr == real.stderr == "ünïcode\n".encode()
    assert copied.returncode == real.returncode == 7


def test_a_copy_hears_what_it_is_given() -> None:
    assert json.loads(piped(FACTS, given="a\nb").stdout)["given"] == "a\nb"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_how_a_copy_was_ended_is_told_when_it_is_gone(how: signal.Signals) -> None:
    process = await copy(*SLOW, cwd=ROOT, environment=environment())
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readexactly(6) == b"so far"
        process.send_signal(how)
        await process.communicate()
    assert process.returncode == (-how if how == signal.SIGKILL else 143)
    assert not psutil.pid_exists(process.pid)
    with pytest.raises(ProcessLookupError):
        process.kill()


async def test_a_copy_shares_nothing_with_the_next_one() -> None:
    first = await copy(*SLOW, cwd=ROOT, environment=environment())
    second = await copy(*SLOW, cwd=ROOT, environment=environment())
    assert len({first.pid, second.pid, os.getpid()}) == 3
    assert second.stdout is not None
    async with asyncio.timeout(60):
        first.kill()
        await first.communicate()
        assert await second.stdout.readexactly(6) == b"so far"
        second.kill()
        await second.communicate()
