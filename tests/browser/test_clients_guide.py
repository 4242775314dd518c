"""The browser's library does on a page what the guide to the clients says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.browser.driver import OpenPage

pytestmark = pytest.mark.asyncio(loop_scope="session")

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
IMPORT = re.compile(r'^import (\{[^}]*\}) from ("[^"]+");$', re.MULTILINE)


async def test_the_snippet_of_the_guide_says_something_and_hears_the_answer_once(
    open_page: OpenPage,
) -> None:
    (snippet,) = re.findall(r"^```js\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    user = await open_page()
    said: list[str] = []
    heard = asyncio.Event()

    def note(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            heard.set()

    user.page.on("console", lambda message: note(message.text))
    code = IMPORT.sub(r"const \1 = await import(\2);", snippet)
    await user.evaluate(f"(async () => {{ {code} }})()")
    async with asyncio.timeout(20):
        await heard.wait()
    assert sorted(said) == ["neap tide", "true"]
