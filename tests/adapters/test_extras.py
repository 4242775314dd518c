"""What is said when an extra is not installed, and how the adapters fit among our own agents."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from runtime import Agent, Event, ScriptedModel
from runtime.adapters.pydantic_ai import PydanticAIAgent
from runtime.adapters.speaking import Speaker
from runtime.agent.runnable_tool import runnable_tool
from runtime.conduct import conduct
from runtime.events import (
    ApprovalRequested,
    MessageDelta,
    RunCompleted,
    RunInterrupted,
    ToolCompleted,
)
from runtime.models.scripted import say
from runtime.report import Reporter
from runtime.run_stream import RunStream
from runtime.runnable import Decision
from tests.adapters.support import PATIENCE, asked, called, run
from tests.runtime.support import Log, check_ended, going_on

WITHOUT = """
import sys
for name in {libraries}:
    sys.modules[name] = None
try:
    import {module}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("runtime.mcp", "mcp", "mcp"),
        ("runtime.adapters.langgraph", "langgraph", "langgraph"),
        ("runtime.adapters.pydantic_ai", "pydantic_ai", "pydantic-ai"),
        ("runtime.adapters.openai_agents", "agents", "openai-agents"),
    ],
)
async def test_a_missing_extra_is_named(module: str, library: str, extra: str) -> None:
    code = WITHOUT.format(libraries=[library], module=module)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        told, _ = await process.communicate()
    assert f"pip install 'tidegate[{extra}]'" in told.decode()


async def play(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    if len(messages) == 1:
        yield {0: DeltaToolCall(name="launch", json_args="{}", tool_call_id="inner")}
    else:
        yield "launched"


def nested() -> Agent:
    """Return an agent of ours with one of theirs as its tool."""
    theirs = PydanticAgent(FunctionModel(stream_function=play), name="launcher")

    @theirs.tool_plain(requires_approval=True)
    async def launch() -> str:
        return "done"

    tool = runnable_tool(PydanticAIAgent(theirs))
    script = [called("launcher", {"input": "go"}), say("all done")]
    return Agent("boss", model=ScriptedModel(script), tools=[tool])


async def test_an_agent_of_theirs_can_be_a_tool_of_ours_and_ask_a_human() -> None:
    boss = nested()
    first = await run(boss)
    question = first.one(ApprovalRequested)
    assert question.path == ("boss", "c1:launcher")
    assert first.one(RunInterrupted).pending == (question.approval_id,)
    log = await run(boss, going_on(asked(), first.events, {"inner": Decision("approved")}))
    assert [event.result for event in log.of(ToolCompleted)] == ["done", "launched"]
    assert log.one(RunCompleted).output == "all done"


async def test_a_program_that_leaves_the_stream_ends_the_run() -> None:
    ended = asyncio.Event()

    async def talk(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        try:
            yield "half"
            await asyncio.Event().wait()
        finally:
            ended.set()

    theirs = PydanticAgent(FunctionModel(stream_function=talk), name="talker")
    stream = RunStream(PydanticAIAgent(theirs), asked(), lambda event: event)
    async with asyncio.timeout(PATIENCE):
        async for event in stream:
            if isinstance(event, MessageDelta):
                break
        await stream.wait()
        await ended.wait()


async def test_what_a_run_leaves_open_is_closed_before_its_end() -> None:
    log = Log()
    report = Reporter(log.emit, run_id="run_1", path=("a",))
    speaker = Speaker(report, asked(), "a")

    async def work() -> list[Event]:
        await speaker.begins()
        await speaker.tool_starts("c1", "forgotten", "{}")
        return [speaker.completes("done")]

    await conduct(report, work, limit=None)
    assert log.types == ["run.started", "tool.started", "tool.failed", "run.completed"]
    check_ended(log)
