"""Gates that are files: whoever stands at one goes on once there is a file of that name.

A run stands at the same gates in every process that works on it, also in one that takes it over.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

from runtime.models.base import Finish, Text
from runtime.models.scripted import Cue, Pause

__all__ = ["let", "said_with_gates", "until_let"]

PACE = 0.001
"""Seconds between two words, so that each is an event."""

LOOK_SECONDS = 0.02
"""Between two looks for a file: another process makes it, there is nothing to wait on."""


def let(folder: Path, gate: str) -> None:
    """Let those go on who stand at a gate, or come to it."""
    (folder / gate).touch()


async def until_let(folder: Path, gate: str) -> None:
    """Stand at a gate."""
    while not (folder / gate).exists():  # noqa: ASYNC110 - as above
        await asyncio.sleep(LOOK_SECONDS)


def said_with_gates(text: str, folder: Path) -> Iterator[Cue]:
    """Return the script of an answer that stands at gates: a word such as `|name` comes after its gate."""
    for word in re.findall(r"\s*\S+", text):
        name = word.strip()
        while name.startswith("|") and not (folder / name[1:]).exists():
            yield Pause(LOOK_SECONDS)
        yield Text(word)
        yield Pause(PACE)
    yield Finish("stop")
