"""Command lines in processes of their own: on pipes, or at a real terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.copies import Copy, copied, copy

__all__ = [
    "AGENTS",
    "ROOT",
    "Screen",
    "afresh",
    "at_a_terminal",
    "environment",
    "piped",
    "tidegate",
]

ROOT = Path(__file__).parents[3]
AGENTS = "tests.cli.support.agents"
PATIENCE = 60.0
"""Seconds after which a test that waits has failed: starting a process on a busy machine takes some."""

_STEERING = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)")


def environment(**more: str) -> dict[str, str]:
    """Return what a process is given: nothing of this machine's models and settings."""
    unwanted = ("TIDEGATE_", "OPENAI_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    return {**clean, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "120", **more}


def piped(
    *arguments: str,
    given: str | None = None,
    cwd: Path = ROOT,
    **more: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m …` on pipes, to its end; what it writes is bytes.

    It is a copy of a process that has imported all, as `tests.support.copies` says.
    """
    return copied(
        *arguments,
        cwd=cwd,
        environment=environment(**more),
        given=(given or "").encode(),
        patience=PATIENCE,
    )


def afresh(*arguments: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run `python …` on pipes, to its end, as a process that starts from nothing."""
    return subprocess.run(  # noqa: S603 - the commands are those of the tests
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def tidegate(
    *arguments: str, given: str | None = None, cwd: Path = ROOT, **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `tidegate …` on pipes, to its end."""
    return piped("gateway", *arguments, given=given, cwd=cwd, **more)


class Screen:
    """A process at a terminal: what it shows, and the keyboard.

    Attributes:
        raw: Everything that was shown, with what steers the terminal.
        out: Standard output, where that is a pipe.
    """

    def __init__(self, process: Copy, master: int) -> None:
        self.raw = ""
        self.out = b""
        self.process = process
        self._master = master
        self._seen = 0
        self._bytes = b""
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)
        self._reader = asyncio.create_task(self._read_out())

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the last one that held the terminal is gone
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self._bytes += data
        self.raw = self._bytes.decode(errors="replace")
        self._news.set()

    async def _read_out(self) -> None:
        if self.process.stdout is None:
            return
        while data := await self.process.stdout.read(65536):
            self.out += data
            self._news.set()

    @property
    def text(self) -> str:
        """What was shown, without what steers the terminal, and with one kind of line end."""
        return _STEERING.sub("", self.raw).replace("\r\n", "\n")

    async def until(self, text: str) -> str:
        """Wait for a text after all that was waited for; return what came up to its end."""
        async with self._patience(text):
            while (place := self.text.find(text, self._seen)) < 0:
                await self._more()
        start, self._seen = self._seen, place + len(text)
        return self.text[start : self._seen]

    async def until_out(self, data: bytes) -> None:
        """Wait until standard output, a pipe, has this in it."""
        async with self._patience(repr(data)):
            while data not in self.out:
                await self._more()

    async def _more(self) -> None:
        self._news.clear()
        await self._news.wait()

    @asynccontextmanager
    async def _patience(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        except TimeoutError:
            raise AssertionError(f"no {what!r} in: {self.text!r} and {self.out!r}") from None

    def type(self, text: str) -> None:
        """Press these keys; `\\x03` is Ctrl-C, and `\\x04` Ctrl-D."""
        os.write(self._master, text.encode())

    async def leave(self, *, every: float = 0.2) -> int:
        """Press Ctrl-C at a prompt until the process has ended; return its exit code.

        Once is not always enough: Python forgets one that comes in the moment between the prompt
        and the waiting for keys.

        Args:
            every: Seconds between one press and the next.
        """
        ending = asyncio.create_task(self.end())
        while not ending.done():
            self.type("\x03")
            await asyncio.wait([ending], timeout=every)
        return await ending

    async def end(self) -> int:
        """Wait until the process has ended and all is read; return its exit code."""
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await self._reader
        self._read()  # what it wrote last lies in the terminal still
        return code


@asynccontextmanager
async def at_a_terminal(
    *arguments: str, pipe_out: bool = False, cwd: Path = ROOT, more: Mapping[str, str] | None = None
) -> AsyncIterator[Screen]:
    """Run `python -m …` at a terminal, of which standard output may be a pipe instead."""
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    try:
        process = await copy(
            *arguments,
            cwd=cwd,
            environment=environment(**(more or {})),
            stdin=slave,
            stdout=asyncio.subprocess.PIPE if pipe_out else slave,
            stderr=slave,
            terminal=True,
        )
    finally:
        os.close(slave)
    screen = Screen(process, master)
    try:
        yield screen
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await screen._reader
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
