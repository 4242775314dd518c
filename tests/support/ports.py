"""Ports of the loopback: one that is free, and waiting until somebody listens on one."""

from __future__ import annotations

import asyncio
import socket

__all__ = ["free_port", "until_open"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
