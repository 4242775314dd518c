"""Back-pressure of one connection, given back when a stream is over."""

from __future__ import annotations

import asyncio
import socket

from gateway.transports.outlet import Outlet


async def test_a_connection_that_serves_another_request_has_its_back_pressure_again() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=ours
        )
        _, before = transport.get_write_buffer_limits()
        outlet = Outlet(transport, limit=1024, write_timeout=1)
        assert transport.get_write_buffer_limits()[1] > before
        outlet.release()
        assert transport.get_write_buffer_limits()[1] == before
        transport.close()
