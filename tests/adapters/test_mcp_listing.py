"""What a server lists, and agents that connect to their servers late."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import psutil
import pytest

from runtime import Agent, Registry, ScriptedModel, Tool
from runtime.events import RunCancelled, RunFailed, ToolCompleted
from runtime.mcp import StdioServer, mcp_tools, with_mcp
from runtime.mcp.schema import LONGEST, tool_name
from runtime.models.scripted import Cue, say
from tests.adapters.legacy_server import LegacyServer, Listed, serve
from tests.adapters.support import asked, called, run, stdio_server, stopped, until
from tests.runtime.support import Log


def listed(name: str, **schema: Any) -> Listed:
    return {"name": name, "inputSchema": {"type": "object", **schema}}


async def test_all_pages_are_read_and_headers_are_sent() -> None:
    legacy = LegacyServer([[listed("one"), listed("two")], [listed("three")], [listed("four")]])
    async with serve(legacy, Authorization="Bearer x") as server, mcp_tools(server) as tools:
        assert [tool.name for tool in tools] == ["one", "two", "three", "four"]
        assert legacy.headers["Authorization"] == "Bearer x"


async def test_two_names_that_become_one_are_refused() -> None:
    legacy = LegacyServer([[listed("a.b"), listed("a_b")]])
    async with serve(legacy) as server:
        with pytest.raises(ValueError, match=r"'a\.b' and 'a_b', which both become 'a_b'"):
            await mcp_tools(server).__aenter__()
        async with mcp_tools(server, only=lambda name: name != "a_b") as tools:
            assert [tool.name for tool in tools] == ["a_b"]


async def test_wanting_a_tool_that_is_not_there_is_refused() -> None:
    async with serve(LegacyServer([[listed("here")]])) as server:
        with pytest.raises(ValueError, match="has no tool gone"):
            await mcp_tools(server, only=["here", "gone"]).__aenter__()


async def test_a_tool_whose_schema_is_broken_is_left_out() -> None:
    legacy = LegacyServer([[listed("bad", properties={"a": {"type": "nonsense"}}), listed("good")]])
    async with serve(legacy) as server, mcp_tools(server) as tools:
        assert [tool.name for tool in tools] == ["good"]


async def test_a_schema_that_points_elsewhere_is_left_to_the_server() -> None:
    elsewhere = {"$ref": "http://127.0.0.1:1/schema.json"}
    legacy = LegacyServer([[listed("far", properties={"a": elsewhere})]])
    async with serve(legacy) as server, mcp_tools(server) as tools:
        log = await run(agent(tools, called("far", {"a": 1})))
    assert log.one(ToolCompleted).result == "far"


async def test_a_session_that_the_server_forgot_is_made_again() -> None:
    legacy = LegacyServer([[listed("one")]])
    async with serve(legacy) as server, mcp_tools(server) as tools:
        legacy.sessions.clear()
        log = await run(agent(tools, called("one", {})))
        assert log.one(ToolCompleted).result == "one"
        assert (legacy.opened, legacy.calls) == (2, ["one"])


def test_long_names_are_cut_and_stay_different() -> None:
    first, second = tool_name("x" * 100 + "1"), tool_name("x" * 100 + "2")
    assert first != second
    assert {len(first), len(second)} == {LONGEST}
    assert tool_name("fine") == "fine"
    assert tool_name("é ü", "p.") == "p____"


def agent(tools: Sequence[Tool], *answers: tuple[Cue, ...]) -> Agent:
    return Agent("assistant", model=ScriptedModel([*answers, say("done")]), tools=tools)


async def test_an_agent_can_be_registered_before_its_server_runs() -> None:
    model = ScriptedModel([called("where", {}), say("one"), called("where", {}), say("two")])
    served = with_mcp(
        lambda tools: Agent("assistant", model=model, tools=tools), mcp_tools(stdio_server())
    )
    registry = Registry(served)
    assert registry.get("assistant").tool_infos() == ()
    first, second = await run(served), await run(served)
    pid = first.one(ToolCompleted).result["pid"]
    assert second.one(ToolCompleted).result["pid"] == pid
    assert first.types[0] == "run.started"
    assert "where" in {info.name for info in served.tool_infos()}
    assert psutil.pid_exists(pid)
    await registry.aclose()
    assert not psutil.pid_exists(pid)
    assert model.closed == 1


async def test_runs_that_begin_together_connect_once() -> None:
    made: list[int] = []

    def make(tools: Sequence[Tool]) -> Agent:
        made.append(len(tools))
        return Agent("assistant", model=ScriptedModel(lambda _: say("hi")), tools=tools)

    served = with_mcp(make, mcp_tools(stdio_server(), only={"add"}))
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(run(served))
    assert made == [0, 1]
    await served.aclose()


async def test_a_run_whose_server_cannot_be_reached_fails_and_says_so() -> None:
    served = with_mcp(agent, mcp_tools(StdioServer("no-such-program")))
    log = await run(served)
    assert log.types == ["run.started", "run.failed"]
    assert log.one(RunFailed).error.message == (
        "the MCP server 'no-such-program' cannot be reached: FileNotFoundError"
    )
    await served.aclose()


SILENT = StdioServer(sys.executable, ["-c", "import time; time.sleep(600)"])


async def test_a_run_can_be_cancelled_while_it_connects() -> None:
    served = with_mcp(agent, mcp_tools(SILENT))
    log = Log()
    before = set(psutil.Process().children())
    async with stopped(served, log):
        await until(lambda: bool(set(psutil.Process().children()) - before))
    assert log.types == ["run.started", "run.cancelled"]
    await served.aclose()
    assert not set(psutil.Process().children()) - before


async def test_a_run_that_connects_for_too_long_times_out() -> None:
    served = with_mcp(agent, mcp_tools(SILENT))
    log = await run(served, asked(timeout=0.2))
    assert log.one(RunCancelled).reason == "timeout"
    await served.aclose()
