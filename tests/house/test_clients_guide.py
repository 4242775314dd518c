"""The guide to the clients is true: each of its Python snippets is run, and prints what it says."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.house.test_frontends_guide import BLOCK, serving

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
PATIENCE = 60


def snippets() -> list[tuple[int, str, str | None]]:
    """Return each Python snippet with its line, and what it is said to print."""
    text = GUIDE.read_text()
    found: list[tuple[int, str, str | None]] = []
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        if block["kind"] == "python":
            found.append((line, block["text"], None))
        elif block["kind"] == "text":
            found[-1] = (*found[-1][:2], block["text"])
    return found


@pytest.mark.parametrize(("line", "code", "said"), snippets())
async def test_a_snippet_does_what_the_guide_says(
    line: int, code: str, said: str | None, tmp_path: Path
) -> None:
    async with serving() as address, asyncio.timeout(PATIENCE):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code.replace("127.0.0.1:8080", address)),
            cwd=tmp_path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, problems = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, f"line {line}: {problems.decode()}"
    assert out.strip(), f"line {line}"
    assert said in {None, out.decode()}, f"line {line}"


def test_the_guide_names_no_part_of_the_library_that_is_not_there() -> None:
    import gateway.client as library  # noqa: PLC0415 - what it has is the point

    named = {
        name.strip()
        for imported in re.findall(r"from gateway\.client import (.*)", GUIDE.read_text())
        for name in imported.split(",")
    }
    assert named <= set(library.__all__)
    assert all(getattr(library, name) for name in library.__all__)
