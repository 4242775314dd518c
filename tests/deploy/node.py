"""A node that serves one more agent: `python -m tests.deploy.node serve` is `tidegate serve` with it.

`standing` says what it is told, and stands at the gates in it, which are files and so those of all nodes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gateway.__main__ import main
from runtime.agent import Agent
from runtime.models.scripted import ScriptedModel
from runtime.registry import Registry
from tests.support.builtins import builtins
from tests.support.file_gates import said_with_gates

__all__ = ["FOLDER", "PROGRAM", "registry"]

FOLDER = "DEPLOY_GATES"
"""The variable that names the folder of the files."""

PROGRAM = ("-m", "tests.deploy.node")


def registry() -> Registry:
    """Return the built-in agents without a model, and `standing`."""
    folder = Path(os.environ[FOLDER])
    says = ScriptedModel(lambda request: said_with_gates(request.messages[-1].content, folder))
    return Registry(*builtins(), Agent("standing", says))


if __name__ == "__main__":
    sys.argv.insert(2, "tests.deploy.node:registry")
    main()
