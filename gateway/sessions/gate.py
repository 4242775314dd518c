"""Where a run is stopped that is to be handed over: right before it would begin something.

What is at work side by side comes to its own end meanwhile: nothing of it is lost, and nothing has to
be done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from runtime.boundaries import Boundaries
from runtime.events import (
    AgentStarted,
    Event,
    ModelRetrying,
    ModelStarted,
    NodeStarted,
    SuperstepStarted,
    ToolStarted,
)

__all__ = ["Gate", "at_rest"]

BEGINNINGS = (
    AgentStarted,
    ModelRetrying,
    ModelStarted,
    NodeStarted,
    SuperstepStarted,
    ToolStarted,
)
"""Said before something is done that costs time or has an effect; whoever may not say it waits."""


class Gate:
    """Lets the events of a session's runs through; unless it is open, none that begins something.

    Attributes:
        waiting: What would have begun. It waits until the gate is open, or its run is stopped.
    """

    def __init__(self) -> None:
        self.waiting: list[Event] = []
        self._open = asyncio.Event()
        self._open.set()
        self._is_shut = False
        self._news = asyncio.Event()

    def shut(self) -> None:
        """Let nothing begin any more."""
        self._is_shut = True
        self._open.clear()

    def hold(self) -> None:
        """Let nothing begin for now."""
        self._open.clear()

    def go_on(self) -> None:
        """Let go on what was held, unless the gate was shut."""
        if not self._is_shut:
            self._open.set()

    async def passed(self, event: Event) -> None:
        """Return when this may be said; if it begins something, not before the gate is open."""
        if self._open.is_set() or not isinstance(event, BEGINNINGS):
            return
        self.waiting.append(event)
        self._news.set()
        try:
            await self._open.wait()
        finally:
            self.waiting.remove(event)

    def told(self) -> None:
        """Note that something happened that may bring a run to rest."""
        self._news.set()

    async def news(self) -> None:
        """Return once something has happened since the last call."""
        await self._news.wait()
        self._news.clear()


def at_rest(opened: Boundaries, waiting: Sequence[Event]) -> bool:
    """Tell whether a run stands between two steps, wherever it was at work. Pure.

    Args:
        opened: What it has begun, and not ended.
        waiting: What it would begin.
    """
    if not waiting or opened.messages or opened.reasoning or opened.tool_calls:
        return False
    paths = [event.path for event in waiting]
    return all(
        any(_is_below(path, place, tool=tool) for path in paths)
        for place, tool in (
            *(((*tool.path, f"{tool.call_id}:"), True) for tool in opened.tools.values()),
            *(((*node.path, node.node), False) for node in opened.nodes.values()),
        )
    )


def _is_below(path: tuple[str, ...], place: tuple[str, ...], *, tool: bool) -> bool:
    """Tell whether this path leads through a node, or through a tool call (`call_id:name`)."""
    if not tool:
        return path[: len(place)] == place
    *above, call = place
    depth = len(above)
    return len(path) > depth and path[:depth] == tuple(above) and path[depth].startswith(call)
