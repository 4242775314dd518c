"""What the README shows is what the examples do."""

from __future__ import annotations

import re
from pathlib import Path

from examples.my_graph import graph
from runtime.graph import last

ROOT = Path(__file__).resolve().parents[2]


def test_the_agent_in_the_readme_is_the_example() -> None:
    shown = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    assert shown[1] == (ROOT / "examples" / "my_agents.py").read_text()


async def test_the_graph_of_the_examples_does_what_it_says() -> None:
    result = await last(graph.run({"ports": ["Rye"]}))
    assert result.output == "high water in Rye at 3:12; light wind from the west."
