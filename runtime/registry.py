"""What is served: runnables by name."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator

from runtime.agent import Agent
from runtime.errors import AgentUnknown
from runtime.models.base import Starts
from runtime.runnable import Runnable

__all__ = ["Registry"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_logger = logging.getLogger(__name__)


class Registry:
    """Runnables by name, in the order in which they were registered. The first is the default."""

    def __init__(self, *runnables: Runnable) -> None:
        """Register these; see `register`."""
        self._runnables: dict[str, Runnable] = {}
        for runnable in runnables:
            self.register(runnable)

    def register(self, runnable: Runnable) -> None:
        """Add one.

        Raises:
            ValueError: If its name is taken, or is not 1 to 64 letters, digits, `_` and `-`.
        """
        if not _NAME.fullmatch(runnable.name):
            raise ValueError(
                f"name {runnable.name!r}: 1 to 64 letters, digits, '_' and '-' are allowed"
            )
        if runnable.name in self._runnables:
            raise ValueError(f"the name {runnable.name!r} is registered already")
        self._runnables[runnable.name] = runnable

    def get(self, name: str | None = None) -> Runnable:
        """Return the runnable of that name; without a name, the default.

        Raises:
            AgentUnknown: If there is none.
        """
        if name is None and self._runnables:
            return next(iter(self._runnables.values()))
        try:
            return self._runnables[name or ""]
        except KeyError:
            raise AgentUnknown(name or "", self._runnables) from None

    def __iter__(self) -> Iterator[Runnable]:
        return iter(self._runnables.values())

    def __len__(self) -> int:
        return len(self._runnables)

    async def start(self) -> None:
        """Let every model that can get ready do so, all at once.

        What cannot is logged and does not keep the others back. It can be cancelled.
        """
        models = {id(agent.model): agent.model for agent in self if isinstance(agent, Agent)}
        async with asyncio.TaskGroup() as group:
            for model in models.values():
                if isinstance(model, Starts):
                    group.create_task(_start(model))

    async def aclose(self) -> None:
        """Close all, each once, and once each model that several agents share.

        What cannot be closed is logged and does not keep the others open. Safe to call twice.
        """
        closers: dict[int, Callable[[], Awaitable[None]]] = {}
        for runnable in self:
            owner = runnable.model if isinstance(runnable, Agent) else runnable
            closers[id(owner)] = owner.aclose
        for aclose in closers.values():
            try:
                await aclose()
            except Exception:
                _logger.exception("something could not be closed")


async def _start(model: Starts) -> None:
    try:
        await model.start()
    except Exception as error:  # noqa: BLE001 - the first run will fail and say why
        _logger.warning("a model could not get ready: %s", error)
