"""What the README shows is what the examples do."""

from __future__ import annotations

import re
from pathlib import Path

from examples.my_graph import graph
from runtime.graph import last
from tests.house.test_frontends_guide import printed, serving

ROOT = Path(__file__).resolve().parents[2]


def test_the_agent_in_the_readme_is_the_example() -> None:
    assert shown("An agent with a tool") == (ROOT / "examples" / "my_agents.py").read_text()


async def test_the_client_in_the_readme_says_what_it_is_told() -> None:
    async with serving() as address:
        code = shown("from openai import OpenAI").replace("127.0.0.1:8080", address)
        assert await printed("python", code) == "the tide is high\n"


async def test_our_own_client_in_the_readme_says_what_it_is_told() -> None:
    async with serving() as address:
        code = shown("from gateway.client").replace("127.0.0.1:8080", address)
        assert await printed("python", code) == "the tide is low\n"


def shown(words: str) -> str:
    """Return the snippet of the README that has these words."""
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (snippet,) = [snippet for snippet in snippets if words in snippet]
    return str(snippet)


async def test_the_graph_of_the_examples_does_what_it_says() -> None:
    result = await last(graph.run({"ports": ["Rye"]}))
    assert result.output == "high water in Rye at 3:12; light wind from the west."
