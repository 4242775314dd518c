"""Processes that are copies of one that has imported the gateway already.

A start of `python -m gateway` takes a second of a processor, and most of it is importing: that is done
once for all tests of a process. A copy is a process in every other way: it has its own memory,
streams, environment, terminal and signals, runs the same module from its first line, and is killed
and waited for like any other. Tests of how a process starts start one from nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["PIPE", "Copy", "copied", "copy"]

PIPE = subprocess.PIPE
_PROGRAM = Path(__file__).with_name("original.py")
_STEERING = ("TIDEGATE_", "OPENAI_", "NO_COLOR", "FORCE_COLOR", "PYTHONPATH", "PYTHONUNBUFFERED")
_LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
_lock = threading.Lock()
_orders: list[socket.socket] = []
"""The way to the original of this process; none before the first copy is made."""


def _original() -> socket.socket:
    """Return the way to the original, which is started for the first copy."""
    if not _orders:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, str(_PROGRAM), str(theirs.fileno())],
                env={k: v for k, v in os.environ.items() if not k.startswith(_STEERING)},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C at pytest is not for it: it ends after pytest
            )
        _orders.append(ours)
        atexit.register(_end, process)
    return _orders[0]


def _end(process: subprocess.Popen[bytes]) -> None:
    _orders.pop().close()
    process.wait()


def _order(
    module: str,
    arguments: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    terminal: bool,
    streams: Sequence[int],
) -> socket.socket:
    """Have a copy made; return where its process id and how it ended are told, a line for each."""
    ours, theirs = socket.socketpair()
    with theirs, _lock:
        socket.send_fds(_original(), [b"!"], [theirs.fileno(), *streams])
    order = {
        "module": module,
        "arguments": list(arguments),
        "cwd": str(cwd),
        "environment": dict(environment),
        "terminal": terminal,
        "limits": [(kind, resource.getrlimit(kind)) for kind in _LIMITS],
    }
    ours.sendall(json.dumps(order).encode() + b"\n")
    return ours


class Copy:
    """What `asyncio.subprocess.Process` is, for a copy.

    Attributes:
        pid: Its process id.
        returncode: How it ended; None before it has.
        stdout: Its standard output, if that is a pipe.
        stderr: Its standard error, if that is a pipe.
    """

    def __init__(
        self,
        pid: int,
        told: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stdout: asyncio.StreamReader | None,
        stderr: asyncio.StreamReader | None,
    ) -> None:
        """Make it; `copy` does."""
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = stdout
        self.stderr = stderr
        self._ending = asyncio.create_task(self._until_ended(told, writer))

    async def _until_ended(self, told: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        try:
            self.returncode = int(await told.readline())
        finally:
            writer.close()
        return self.returncode

    async def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        return await asyncio.shield(self._ending)

    def send_signal(self, number: int) -> None:
        """Send it a signal.

        Raises:
            ProcessLookupError: It has ended.
        """
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait for its end; return what was not read yet."""
        async with asyncio.TaskGroup() as group:
            rest = [group.create_task(_read(stream)) for stream in (self.stdout, self.stderr)]
        await self.wait()
        return rest[0].result(), rest[1].result()


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def copy(
    module: str,
    *arguments: str,
    cwd: Path,
    environment: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
    stdout: int = PIPE,
    stderr: int = PIPE,
    terminal: bool = False,
) -> Copy:
    """Run `python -m module arguments` as a copy.

    Args:
        module: The module.
        arguments: What it is told.
        cwd: Where it runs.
        environment: Its whole environment.
        stdin: `DEVNULL` or a handle.
        stdout: `PIPE` or a handle.
        stderr: `PIPE`, `STDOUT` or a handle.
        terminal: Whether its standard error is a terminal that is to be its own.
    """
    ends: list[int] = []
    readers: list[asyncio.StreamReader | None] = []
    try:
        ends.append(
            os.open(os.devnull, os.O_RDONLY) if stdin == subprocess.DEVNULL else os.dup(stdin)
        )
        for wanted in (stdout, stderr):
            reader, end = await _output(wanted, ends)
            ends.append(end)
            readers.append(reader)
        talk = _order(
            module,
            arguments,
            cwd=cwd,
            environment=environment,
            terminal=terminal,
            streams=ends,
        )
    finally:
        for end in ends:
            os.close(end)
    talk.setblocking(False)
    told, writer = await asyncio.open_connection(sock=talk)
    return Copy(int(await told.readline()), told, writer, readers[0], readers[1])


class _Pipe(asyncio.StreamReaderProtocol):
    """What reads from a pipe and closes it at its end, also where uvloop is the loop."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def _output(wanted: int, before: Sequence[int]) -> tuple[asyncio.StreamReader | None, int]:
    """Return what reads an output, if it is a pipe, and the end of it that the copy gets."""
    if wanted == subprocess.STDOUT:
        return None, os.dup(before[-1])
    if wanted != PIPE:
        return None, os.dup(wanted)
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: _Pipe(reader), os.fdopen(ours, "rb", buffering=0)
    )
    return reader, theirs


def copied(
    module: str,
    *arguments: str,
    cwd: Path,
    environment: Mapping[str, str],
    given: bytes,
    patience: float,
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m module arguments` as a copy on pipes, to its end; not where a loop runs.

    Args:
        module: The module.
        arguments: What it is told.
        cwd: Where it runs.
        environment: Its whole environment.
        given: Its standard input.
        patience: Seconds after which a test that waits has failed.
    """

    async def run() -> subprocess.CompletedProcess[bytes]:
        theirs, ours = os.pipe()
        giving = asyncio.create_task(asyncio.to_thread(_give, ours, given))
        try:
            process = await copy(module, *arguments, cwd=cwd, environment=environment, stdin=theirs)
        finally:
            os.close(theirs)
        try:
            async with asyncio.timeout(patience):
                stdout, stderr = await process.communicate()
        except TimeoutError:
            process.kill()
            raise
        finally:
            await giving
        code = await process.wait()
        return subprocess.CompletedProcess([module, *arguments], code, stdout, stderr)

    # With a loop of its own, and the one that pytest has set is left as it is.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(run())


def _give(pipe: int, given: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(pipe, "wb") as stdin:  # it may not want all of it
        stdin.write(given)
