"""An agent with a tool, as the README shows it: `tidegate serve examples.my_agents:agents`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runtime import Agent, Registry, tool
from runtime.models.openai import OpenAIModel


@tool
async def add(a: int, b: Annotated[int, Field(description="The other number.")]) -> int:
    """Add two numbers."""
    return a + b


agents = Registry(
    Agent("adder", OpenAIModel("gpt-5-mini"), instructions="Use the tools.", tools=(add,))
)
