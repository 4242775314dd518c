"""What a client brings for one run, with agents of other frameworks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from agents import Agent as SdkAgent
from agents.testing import ScriptedModel, assistant_message
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, MessagesState, StateGraph
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from runtime import RunRequest, stream
from runtime.adapters.langgraph import LangGraphAgent
from runtime.adapters.openai_agents import OpenAIAgentsAgent
from runtime.adapters.pydantic_ai import PydanticAIAgent
from runtime.errors import ToolsRefused
from runtime.events import RunFailed
from runtime.messages import ClientTool
from tests.adapters.support import asked, run


def instructed() -> RunRequest:
    return replace(asked("hi"), instructions="be brief")


def langgraph() -> tuple[LangGraphAgent, list[AnyMessage]]:
    seen: list[AnyMessage] = []

    async def think(state: MessagesState) -> dict[str, Any]:
        seen.extend(state["messages"])
        return {"messages": [AIMessage("fine")]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_edge(START, "think")
    return LangGraphAgent(graph.compile(name="helper")), seen


def pydantic_ai() -> tuple[PydanticAIAgent, list[AgentInfo]]:
    infos: list[AgentInfo] = []

    def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        infos.append(info)
        return ModelResponse(parts=[TextPart("fine")])

    async def speak(messages: list[ModelMessage], info: AgentInfo) -> Any:
        think(messages, info)
        yield "fine"

    model = FunctionModel(think, stream_function=speak)
    return PydanticAIAgent(Agent(model, name="helper", instructions="be kind")), infos


async def test_langgraph_is_told_first() -> None:
    runnable, seen = langgraph()
    await run(runnable, instructed())
    assert [(message.type, message.content) for message in seen] == [
        ("system", "be brief"),
        ("human", "hi"),
    ]


async def test_the_openai_agents_sdk_is_told_first() -> None:
    model = ScriptedModel([[assistant_message("fine")]])
    agent: SdkAgent[Any] = SdkAgent(name="helper", model=model, instructions="be kind")
    await run(OpenAIAgentsAgent(agent), instructed())
    assert model.calls[0].system_instructions == "be kind"
    assert [(item["role"], item["content"]) for item in model.calls[0].input] == [
        ("system", "be brief"),
        ("user", "hi"),
    ]


async def test_pydantic_ai_is_told_beside_the_agents_own() -> None:
    runnable, infos = pydantic_ai()
    await run(runnable, instructed())
    assert infos[0].instructions == "be kind\n\nbe brief"


async def test_tools_of_clients_are_refused_and_a_run_with_them_fails() -> None:
    runnable, infos = pydantic_ai()
    place = ClientTool(name="place")
    with pytest.raises(ToolsRefused, match="'helper' is of another framework"):
        stream(runnable, "hi", tools=[place])
    log = await run(runnable, replace(asked("hi"), tools=(place,)))
    assert log.one(RunFailed).error.code == "tools_refused"
    assert infos == []
