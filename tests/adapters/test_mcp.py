"""Tools of real MCP servers, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from runtime import Agent, ScriptedModel, Tool, ToolFailed
from runtime.events import (
    ApprovalRequested,
    RunCancelled,
    RunCompleted,
    RunInterrupted,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
)
from runtime.mcp import HttpServer, McpServer, StdioServer, mcp_tools
from runtime.models.scripted import Cue, say
from runtime.runnable import Decision
from tests.adapters.support import (
    PATIENCE,
    asked,
    called,
    http_server,
    run,
    stdio_server,
    stopped,
    until,
)
from tests.runtime.support import Log, going_on


def agent(tools: tuple[Tool, ...], *answers: tuple[Cue, ...]) -> Agent:
    return Agent("assistant", model=ScriptedModel([*answers, say("done")]), tools=tools)


async def call(tools: tuple[Tool, ...], name: str, **arguments: Any) -> Any:
    """Have an agent call one tool and return what it gave, or why it failed."""
    log = await run(agent(tools, called(name, arguments)))
    assert log.one(RunCompleted).output == "done"
    for failed in log.of(ToolFailedEvent):
        return f"{failed.error.code}: {failed.error.message}"
    return log.one(ToolCompleted).result


async def until_there(path: Path) -> str:
    await until(lambda: path.is_file() and bool(path.read_text()))
    return await asyncio.to_thread(path.read_text)


@pytest.fixture(params=["stdio", "http"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[McpServer]:
    """Yield the tests' server over each transport."""
    if request.param == "stdio":
        yield stdio_server()
        return
    async with http_server() as server:
        yield server


async def test_an_agent_calls_the_tools_of_a_server(server: McpServer) -> None:
    async with mcp_tools(server) as tools:
        assert await call(tools, "shout", text="hello") == "HELLO"
        assert await call(tools, "add", a=1, b=2) == {"result": 3}
        where = await call(tools, "where")
        assert where["pid"] != os.getpid()


async def test_pictures_come_as_json(server: McpServer) -> None:
    async with mcp_tools(server) as tools:
        said, shown = await call(tools, "picture")
    assert said == {"type": "text", "text": "here it is"}
    assert (shown["type"], shown["mimeType"]) == ("image", "image/png")
    assert shown["data"].startswith("iVBOR")


async def test_a_tool_that_fails_tells_the_model_why(server: McpServer) -> None:
    async with mcp_tools(server) as tools:
        failure = await call(tools, "refuse", why="too late")
    assert failure.startswith("tool_failed: ")
    assert "too late" in failure


async def test_arguments_that_do_not_fit_are_refused_before_anybody_is_asked(
    server: McpServer,
) -> None:
    async with mcp_tools(server, needs_approval=True) as tools:
        failure = await call(tools, "add", a="one")
    assert failure == (
        "tool_arguments_invalid: the arguments do not fit: a: 'one' is not of type 'integer'; "
        "'b' is a required property"
    )


async def test_progress_is_reported_before_the_result(server: McpServer) -> None:
    async with mcp_tools(server) as tools:
        log = await run(agent(tools, called("count", {"to": 3})))
    told = [event.data for event in log.of(ToolProgress)]
    assert told == [{"progress": n, "total": 3, "message": f"at {n}"} for n in (1, 2, 3)]
    assert log.types.index("tool.completed") > log.types.index("tool.progress")


async def test_parallel_calls_share_the_connection(server: McpServer) -> None:
    async with mcp_tools(server) as tools:
        results = await asyncio.gather(*(call(tools, "where") for _ in range(5)))  # noqa: TID251 - a test
    assert len({result["pid"] for result in results}) == 1


async def test_cancelling_a_run_cancels_the_call_on_the_server(
    server: McpServer, tmp_path: Path
) -> None:
    log = Log()
    async with mcp_tools(server) as tools:
        hanging = agent(tools, called("hang", {"marks": str(tmp_path)}))
        async with stopped(hanging, log):
            await until_there(tmp_path / "begun")
            await log.until(ToolProgress)
        assert log.one(RunCancelled).reason == "cancel"
        assert await until_there(tmp_path / "cancelled") == "yes"
        assert await call(tools, "shout", text="still there") == "STILL THERE"


async def test_a_call_that_takes_too_long_is_cut_off(server: McpServer, tmp_path: Path) -> None:
    async with mcp_tools(server, timeout=1.0) as tools:
        failure = await call(tools, "hang", marks=str(tmp_path))
        assert failure.startswith("tool_timeout: ")
        assert await until_there(tmp_path / "cancelled") == "yes"


async def test_a_human_is_asked_where_the_predicate_says_so(server: McpServer) -> None:
    def asks(name: str, arguments: Any) -> bool:
        return name == "add" and arguments["a"] > 10

    async with mcp_tools(server, needs_approval=asks) as tools:
        assert await call(tools, "add", a=1, b=1) == {"result": 2}
        asking = agent(tools, called("add", {"a": 11, "b": 1}))
        log = await run(asking)
        assert log.one(RunInterrupted).pending == (log.one(ApprovalRequested).approval_id,)
        again = await run(asking, going_on(asked(), log.events, {"c1": Decision("approved")}))
        assert again.one(ToolCompleted).result == {"result": 12}


async def test_tools_can_be_chosen_and_given_a_prefix(server: McpServer) -> None:
    async with mcp_tools(server, prefix="t_", only={"add", "shout"}) as tools:
        assert [tool.name for tool in tools] == ["t_add", "t_shout"]
        assert await call(tools, "t_add", a=2, b=2) == {"result": 4}


async def test_hints_of_the_server_say_what_may_be_repeated_after_a_crash() -> None:
    async with mcp_tools(stdio_server()) as tools:
        assert {tool.name for tool in tools if tool.idempotent} == {"shout", "where"}


async def test_a_name_that_providers_do_not_take_is_changed() -> None:
    async with mcp_tools(stdio_server()) as tools:
        assert await call(tools, "files_read_all") == "all"


async def test_the_model_is_told_the_servers_own_schema() -> None:
    async with mcp_tools(stdio_server(), only={"add"}) as tools:
        (info,) = agent(tools).tool_infos()
    assert info.description == "Add two numbers."
    assert info.parameters["required"] == ["a", "b"]
    assert info.parameters["properties"]["a"]["type"] == "integer"


async def test_a_program_is_started_where_and_with_what_it_was_told(tmp_path: Path) -> None:
    async with mcp_tools(stdio_server(env={"MOOD": "fine"}, cwd=tmp_path)) as tools:
        where = await call(tools, "where")
    assert (where["cwd"], where["mood"]) == (str(tmp_path), "fine")


async def test_leaving_the_block_ends_the_program() -> None:
    async with mcp_tools(stdio_server()) as tools:
        pid = (await call(tools, "where"))["pid"]
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


async def test_a_server_killed_during_a_call_is_a_failure_that_the_model_is_told(
    tmp_path: Path,
) -> None:
    async with mcp_tools(stdio_server()) as tools:
        log = Log()
        hanging = agent(tools, called("hang", {"marks": str(tmp_path)}))
        task = asyncio.create_task(hanging.execute(asked(), log.emit))
        await log.until(ToolStarted)
        pid = int(await until_there(tmp_path / "begun"))
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            await task
        error = log.one(ToolFailedEvent).error
        assert "ended during the call" in error.message
        assert "not known whether" in error.message
        assert log.one(RunCompleted).output == "done"
        there = await call(tools, "where")  # the next call starts it again
        assert there["pid"] != pid


async def test_a_server_that_died_between_calls_is_started_again_unnoticed() -> None:
    toolset = mcp_tools(stdio_server())
    async with toolset as tools:
        pid = (await call(tools, "where"))["pid"]
        assert toolset.connected
        psutil.Process(pid).kill()
        await until(lambda: not toolset.connected)
        assert (await call(tools, "where"))["pid"] != pid


async def test_a_server_that_comes_back_over_http_is_used_again() -> None:
    async with http_server() as server:
        port = int(server.url.rsplit(":", 1)[1].split("/")[0])
        toolset = mcp_tools(server)
        tools = await toolset.tools()
        first = (await call(tools, "where"))["pid"]
    failure = await call(tools, "where")
    assert failure.startswith("tool_failed: the MCP server '127.0.0.1")
    async with http_server(port):
        assert (await call(tools, "where"))["pid"] != first
        await toolset.aclose()


@pytest.mark.parametrize(
    ("server", "cause"),
    [
        (StdioServer("no-such-program", env={"TOKEN": "secret"}), "FileNotFoundError"),
        (StdioServer(sys.executable, ["-c", "print('no json')"]), ""),
        (HttpServer("http://127.0.0.1:1/mcp?token=secret"), "ConnectError"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_said_without_secrets(
    server: McpServer, cause: str
) -> None:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ToolFailed, match="cannot be reached: " + cause) as raised:
            await mcp_tools(server).__aenter__()
    assert "secret" not in str(raised.value)


async def test_a_real_server_from_the_registry_works() -> None:
    server = StdioServer(sys.executable, ["-m", "mcp_server_time", "--local-timezone", "UTC"])
    async with mcp_tools(server, prefix="time_") as tools:
        names = {tool.name for tool in tools}
        assert names == {"time_get_current_time", "time_convert_time"}
        answer = await call(
            tools,
            "time_convert_time",
            source_timezone="UTC",
            time="12:00",
            target_timezone="Asia/Tokyo",
        )
        assert answer["time_difference"] == "+9.0h"
        failure = await call(tools, "time_get_current_time", timezone="Mars/Olympus")
        assert "Mars/Olympus" in str(failure)
