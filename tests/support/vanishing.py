"""Peers that vanish: no end, no reset, no acknowledgement; as when a laptop's lid is closed."""

from __future__ import annotations

import ctypes
import socket
import struct

SO_ATTACH_FILTER = 26
"""Linux: a filter for what a socket receives, below TCP."""

_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One instruction of the packet filter's machine: return 0, keep nothing of the packet."""


def vanish(connection: socket.socket) -> None:
    """Let a connection's kernel see no packet any more: it acknowledges nothing from here on."""
    program = ctypes.create_string_buffer(_DROP_ALL)
    filter_of_one = struct.pack("HL", 1, ctypes.addressof(program))
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_of_one)
