"""A command on its way: it is sent under one id until it is answered, so it has one effect. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.client.backoff import Backoff, Retry
from gateway.client.endings import Answered, Broken, Stop, passes
from gateway.client.errors import refused

__all__ = ["PendingCommand"]


class PendingCommand:
    """One command.

    Attributes:
        body: What is sent, each time the same.
    """

    def __init__(self, fields: Mapping[str, Any], fresh_id: str) -> None:
        """Keep a command to be sent; `fresh_id` is its id unless the fields have one."""
        self.body: dict[str, Any] = {"id": fresh_id, **fields}
        self._backoff = Backoff()

    @property
    def id(self) -> str:
        """The command's id."""
        return str(self.body["id"])

    def failed(self, ending: Answered | Broken) -> Retry | Stop:
        """Return what to do when it was not acknowledged.

        Without an answer nobody knows whether it took effect; to send it again is safe.
        """
        if isinstance(ending, Broken):
            return self._backoff.failed()
        if passes(ending.status):
            return self._backoff.failed(floor=ending.retry_after or 0.0)
        code = ending.code or f"http_{ending.status}"
        return Stop(refused(code, ending.message or f"the server answered {ending.status}"))
