"""The guide to the runtime is true: each of its snippets is run, and prints what the guide says."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before the loop runs, as programs do: importing reads the disk.
import runtime.adapters.langgraph
import runtime.mcp  # noqa: F401

GUIDE = Path(__file__).parents[2] / "docs" / "runtime.md"
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Chapter:
    """A part of the guide: its snippets share their names, as they would in one file.

    Attributes:
        title: Its heading.
        snippets: Code, what it is said to print (None where the guide does not say), its line.
    """

    title: str
    snippets: tuple[tuple[str, str | None, int], ...]


def chapters() -> Iterator[Chapter]:
    text = GUIDE.read_text()
    starts = [match.start() for match in re.finditer(r"^## ", text, re.MULTILINE)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        part = text[start:end]
        snippets: list[tuple[str, str | None, int]] = []
        for block in BLOCK.finditer(part):
            line = text.count("\n", 0, start + block.start()) + 1
            if block["kind"] == "python":
                snippets.append((block["text"], None, line))
            elif block["kind"] == "text" and snippets:
                snippets[-1] = (snippets[-1][0], block["text"], snippets[-1][2])
        if snippets:
            yield Chapter(part.splitlines()[0].removeprefix("## "), tuple(snippets))


@pytest.mark.parametrize("chapter", tuple(chapters()), ids=lambda chapter: chapter.title)
async def test_the_guide_does_what_it_says(
    chapter: Chapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Types of functions are looked up in the module that they say they come from.
    module = types.ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    for code, said, line in chapter.snippets:
        padded = "\n" * line + code  # so that a failure names the line of the guide
        compiled = compile(
            padded, str(GUIDE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        printed = io.StringIO()
        async with asyncio.timeout(20):
            with contextlib.redirect_stdout(printed):
                result = eval(compiled, vars(module))  # noqa: S307 - our own guide
                if inspect.isawaitable(result):
                    await result
        if said is not None:
            assert printed.getvalue() == said, f"line {line}"
