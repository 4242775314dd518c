"""Agents of other frameworks, served like our own. Each needs its extra.

| module          | extra           | serves                              |
|-----------------|-----------------|-------------------------------------|
| `langgraph`     | `langgraph`     | a compiled LangGraph graph          |
| `pydantic_ai`   | `pydantic-ai`   | a pydantic-ai agent                 |
| `openai_agents` | `openai-agents` | an agent of the OpenAI Agents SDK   |

Import the module that you need: `from runtime.adapters.langgraph import LangGraphAgent`. What all
of them share is in `speaking`: how answers and tools of any framework become events.
"""

from __future__ import annotations

__all__: list[str] = []
