"""WebSocket frames by hand, for what well-behaved clients never send."""

from __future__ import annotations

import struct

from tests.support.raw import Raw, host_of

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


def frame(data: bytes, kind: int = TEXT, *, last: bool = True, reserved: int = 0) -> bytes:
    """Return a client's frame; its mask is of zeros, which changes nothing."""
    first = (0x80 if last else 0) | reserved | kind
    if len(data) < 126:
        return struct.pack("!BB", first, 0x80 | len(data)) + bytes(4) + data
    if len(data) < 2**16:
        return struct.pack("!BBH", first, 0x80 | 126, len(data)) + bytes(4) + data
    return struct.pack("!BBQ", first, 0x80 | 127, len(data)) + bytes(4) + data


async def upgrade(client: Raw, address: tuple[str, int], path: str = "/v1/ws") -> None:
    """Open a WebSocket on a connection, and read what the server says first."""
    client.ask(path, **host_of(address), **UPGRADE)
    await client.until(b"\r\n\r\n")
    if path == "/v1/ws":
        await client.until(b"}")
