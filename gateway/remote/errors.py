"""What can go wrong between a client and a server."""

from __future__ import annotations

__all__ = ["RemoteFault", "RemoteRefused", "RemoteUnreachable"]


class RemoteFault(Exception):
    """Base of what goes wrong with a server."""


class RemoteUnreachable(RemoteFault):
    """No server answers there."""


class RemoteRefused(RemoteFault):
    """The server said no; `code` is its word for the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
