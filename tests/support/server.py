"""A real server in a process of its own, told what users tell it, and killable.

The process is a copy of one that has imported the gateway, as `tests.support.copies` says, unless a
test wants one that starts from nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from tests.support.copies import Copy, copy
from tests.support.ports import free_port

START_LIMIT = 40.0
STOP_LIMIT = 30.0
ROOT = Path(__file__).resolve().parents[2]
GATEWAY = ("-m", "gateway")


class Server:
    """`tidegate serve` on a free port of the loopback; restarts keep the port and the data.

    Attributes:
        program: What Python runs; a test may put a launcher of its own here.
        afresh: Whether each process starts from nothing, as those of users do; one with a program of
            the test's own does so anyway.
        start_limit: Seconds that a start may take; more where a crowd comes back at the same time.
    """

    def __init__(
        self, data: Path, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._data = data
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._process: asyncio.subprocess.Process | Copy | None = None
        self._reader: asyncio.Task[None] | None = None
        self.port = free_port()
        self.output: list[str] = []
        self._spoke = asyncio.Event()
        self.program: Sequence[str] = GATEWAY
        self.afresh = False
        self.start_limit = START_LIMIT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, *, wait_ready: bool = True) -> None:
        self._process = await self._make_process()
        greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read_output(greeted))
        async with asyncio.timeout(self.start_limit):
            await greeted
            if wait_ready:
                await self._until_ready()

    async def _make_process(self) -> asyncio.subprocess.Process | Copy:
        usual = {k: v for k, v in os.environ.items() if not k.startswith(("TIDEGATE_", "OPENAI_"))}
        environment = {**usual, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **self._environment}
        place = ("--port", str(self.port), "--data", str(self._data))
        arguments = ("serve", *self._arguments, *place)
        if self.program == GATEWAY and not self.afresh:
            return await copy(
                "gateway",
                *arguments,
                cwd=ROOT,
                environment=environment,
                stderr=asyncio.subprocess.STDOUT,
            )
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *self.program, *arguments),
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def _read_output(self, greeted: asyncio.Future[None]) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace")
            self.output.append(line)
            self._spoke.set()
            if re.search(rf"http://[^\s/]*:{self.port}\b", line) and not greeted.done():
                greeted.set_result(None)
        if not greeted.done():
            greeted.set_exception(RuntimeError("the server ended: " + "".join(self.output)))

    async def _until_ready(self) -> None:
        async with aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.get(f"{self.url}/readyz") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.02)  # it listens in a moment; there is nothing to wait on

    def said(self, text: str) -> int:
        """Return how many lines of what it wrote have such a text."""
        return sum(text in line for line in self.output)

    async def until_said(self, text: str, times: int = 1) -> None:
        """Wait until so many lines of what it wrote have such a text."""
        async with asyncio.timeout(STOP_LIMIT):
            while self.said(text) < times:
                self._spoke.clear()
                await self._spoke.wait()

    async def kill(self) -> None:
        """Kill -9, and wait until the process is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and wait for a clean end; return the exit code."""
        return await self._end(signal.SIGTERM)

    async def ended(self, *, within: float = STOP_LIMIT) -> int:
        """Wait until the process has ended; return the exit code."""
        assert self._process is not None
        async with asyncio.timeout(within):
            code = await self._process.wait()
        if self._reader is not None:
            await asyncio.wait([self._reader])
        return code

    async def restart(self) -> None:
        """Start again on the same port and data."""
        await self.start()

    async def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await self.ended()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            await self.kill()


@asynccontextmanager
async def running_server(
    data: Path,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    *,
    real_model: bool = False,
    afresh: bool = False,
) -> AsyncIterator[Server]:
    """Run a server until the block ends; it is killed then, whatever state it is in.

    Args:
        data: Its data directory.
        arguments: For `tidegate serve`; without agents, it has the built-in ones.
        environment: Settings.
        real_model: Whether `assistant` has the local model. Loading it takes a core for a second,
            so tests that do not talk to it have the built-in agents without a model.
        afresh: See the class.
    """
    named = bool(arguments) and not arguments[0].startswith("-")
    agents = [] if named or real_model else ["tests.support.builtins:registry"]
    server = Server(data, [*agents, *arguments], environment or {})
    server.afresh = afresh
    async with server:
        yield server
