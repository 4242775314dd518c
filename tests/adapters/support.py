"""What the tests of MCP and of other frameworks share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime import Message, RunRequest, ToolCall
from runtime.mcp import HttpServer, StdioServer
from runtime.models.scripted import Cue, call_tools
from runtime.runnable import Decision, Runnable, RunOptions
from tests.runtime.support import Log, check_ended
from tests.support.ports import free_port

__all__ = [
    "PATIENCE",
    "PROMPTLY",
    "SERVER",
    "asked",
    "called",
    "http_server",
    "run",
    "stdio_server",
    "stopped",
    "until",
]

PATIENCE = 20.0
"""Seconds after which a test that waits has failed; a server takes one or two to start."""

PROMPTLY = 1.0
"""Ten times the 100 ms in which a cancelled run has to be over: machines are noisy."""

SERVER = Path(__file__).with_name("mcp_server.py")


def stdio_server(env: Mapping[str, str] | None = None, cwd: Path | None = None) -> StdioServer:
    return StdioServer(sys.executable, [str(SERVER), "stdio"], env=env, cwd=cwd)


@contextlib.asynccontextmanager
async def http_server(port: int | None = None) -> AsyncIterator[HttpServer]:
    """Run the tests' server in a process of its own until the block ends."""
    port = port or free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), str(port), stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while b"running on" not in await process.stderr.readline():
                pass
        draining = asyncio.create_task(process.stderr.read())
        yield HttpServer(f"http://127.0.0.1:{port}/mcp", headers={"X-Mood": "ok"})
    finally:
        process.kill()
        await process.wait()
    await draining


def called(name: str, arguments: Mapping[str, Any], call_id: str = "c1") -> tuple[Cue, ...]:
    return call_tools(ToolCall(id=call_id, name=name, arguments=json.dumps(arguments)))


def asked(
    text: str | Sequence[Message] = "hi",
    *,
    decisions: Mapping[str, Decision] | None = None,
    started: frozenset[str] = frozenset(),
    options: RunOptions | None = None,
    timeout: float | None = None,
    **more: Any,
) -> RunRequest:
    history = (Message(role="user", content=text),) if isinstance(text, str) else tuple(text)
    return RunRequest(
        run_id="run_1",
        history=history,
        decisions=decisions or {},
        started=started,
        options=options or RunOptions(),
        timeout=timeout,
        **more,
    )


async def until(true: Callable[[], bool]) -> None:
    """Wait for something outside of this process, which cannot ring a bell here."""
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(true):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


async def run(runnable: Runnable, request: RunRequest | None = None) -> Log:
    """Run to the end and check what holds for every run."""
    log = Log()
    async with asyncio.timeout(PATIENCE):
        await runnable.execute(request or asked(), log.emit)
    check_ended(log)
    return log


@contextlib.asynccontextmanager
async def stopped(
    runnable: Runnable, log: Log, request: RunRequest | None = None
) -> AsyncIterator[None]:
    """Run while the block runs, then cancel the run and check that it is over promptly."""
    task = asyncio.create_task(runnable.execute(request or asked(), log.emit))
    try:
        async with asyncio.timeout(PATIENCE):
            yield
        assert not task.done()
    finally:
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=PROMPTLY)
    assert done
    assert task.cancelled()
    check_ended(log)
    assert log.types[-1] == "run.cancelled"
