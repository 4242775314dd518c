"""A node that serves one more agent: `python -m tests.deploy.node serve` is `tidegate serve` with it.

`standing` says what it is told, and stands still before a word such as `|name` until there is a file of
that name. So all nodes stand at the same gates, also those that take a run over.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.__main__ import main
from runtime.agent import Agent
from runtime.models.base import Finish, ModelRequest, Text
from runtime.models.scripted import Cue, Pause, ScriptedModel
from runtime.registry import Registry
from tests.support.builtins import builtins

__all__ = ["FOLDER", "PROGRAM", "registry"]

FOLDER = "DEPLOY_GATES"
"""The variable that names the folder of the files."""

PACE = 0.01
"""Seconds between words."""

PROGRAM = ("-m", "tests.deploy.node")


def _say(request: ModelRequest) -> Iterator[Cue]:
    folder = Path(os.environ[FOLDER])
    for word in re.findall(r"\s*\S+", request.messages[-1].content):
        gate = word.strip().removeprefix("|")
        while gate != word.strip() and not (folder / gate).exists():
            yield Pause(PACE)
        yield Text(word)
        yield Pause(PACE)
    yield Finish("stop")


def registry() -> Registry:
    """Return the built-in agents without a model, and `standing`."""
    return Registry(*builtins(), Agent("standing", ScriptedModel(_say)))


if __name__ == "__main__":
    sys.argv.insert(2, "tests.deploy.node:registry")
    main()
