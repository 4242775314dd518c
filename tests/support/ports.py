"""Ports of the loopback: one that is free, and waiting until somebody listens on one."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket

__all__ = ["free_port", "until_open"]


PORTS = range(20_000, 32_000)
"""Below those that Linux gives to whoever asks for any (32768 and up): a port that somebody is to
listen on in a moment, or to come back to, must not become the near end of a connection meanwhile."""


def free_port() -> int:
    """Return a port that nobody listens on, and that stays free until somebody is told to."""
    while True:
        port = secrets.choice(PORTS)
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
