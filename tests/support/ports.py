"""Ports of the loopback: one that is free, and waiting until somebody listens on one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Iterator
from itertools import cycle

__all__ = ["free_port", "until_open"]

PORTS = range(20_000, 32_000)
"""Below those that Linux gives to whoever asks for any (32768 and up): a port that somebody is to
listen on in a moment, or to come back to, must not become the near end of a connection meanwhile."""

WORKERS = 8
"""How many processes of one test run have ports of their own."""


def _shuffled() -> Iterator[int]:
    """Yield this process's share of the ports for ever, each once before one comes again."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = list(PORTS[worker % WORKERS :: WORKERS])
    random.shuffle(share)  # two test runs on one machine shall not meet at each port
    return cycle(share)


_candidates = _shuffled()


def free_port() -> int:
    """Return a port that nobody listens on, and that no other test is given meanwhile."""
    while True:
        port = next(_candidates)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def until_open(port: int, process: asyncio.subprocess.Process) -> None:
    """Wait until a process listens on a port."""
    while True:
        assert process.returncode is None, f"the process for port {port} ended; see its words above"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)  # it listens in a moment; there is nothing to wait on
        else:
            writer.close()
            await writer.wait_closed()
            return
