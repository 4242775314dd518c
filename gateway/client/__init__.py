"""A client of a Tidegate server, as PROTOCOL.md tells it. It knows nothing of the server's parts.

    from gateway.client import Client

    async with Client("http://127.0.0.1:8080") as client:
        async for item in client.session("demo"):
            ...

`docs/clients.md` tells how to use it. Inside, `resume`, `pending`, `endings`, `backoff`,
`event_stream` and `wire` are pure and decide; `transports`, `server` and `following` do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gateway.client.errors import (
    ClientFault,
    NotPermitted,
    Refused,
    ResetOverlooked,
    RunNotCompleted,
    SessionGone,
    SessionUnknown,
    Unreachable,
)

if TYPE_CHECKING:
    from gateway.client.client import Client
    from gateway.client.items import Ack, Disconnected, Entry, Item, Reconnected, Reset
    from gateway.client.run import Run
    from gateway.client.session import Session
    from gateway.client.sync import SyncClient, SyncRun, SyncSession

__all__ = [
    "Ack",
    "Client",
    "ClientFault",
    "Disconnected",
    "Entry",
    "Item",
    "NotPermitted",
    "Reconnected",
    "Refused",
    "Reset",
    "ResetOverlooked",
    "Run",
    "RunNotCompleted",
    "Session",
    "SessionGone",
    "SessionUnknown",
    "SyncClient",
    "SyncRun",
    "SyncSession",
    "Unreachable",
]

_HOMES = {
    "gateway.client.client": ("Client",),
    "gateway.client.items": ("Ack", "Disconnected", "Entry", "Item", "Reconnected", "Reset"),
    "gateway.client.run": ("Run",),
    "gateway.client.session": ("Session",),
    "gateway.client.sync": ("SyncClient", "SyncRun", "SyncSession"),
}
"""Loaded when first used: a program that only names the errors does without HTTP."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
