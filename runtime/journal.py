"""The part of a run's events that it needs in order to go on after an interrupt or a crash. Pure.

What is in the journal is done and is not done again: model calls, tools, nodes. Events of the whole
run stand in it, at any depth; everyone in the run reads those of its own path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.events import (
    AgentHandoff,
    ApprovalRequested,
    Event,
    InputSteered,
    ModelCompleted,
    NodeCompleted,
    NodeFailed,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)

__all__ = ["JOURNALED", "at", "below", "spoken_below"]

JOURNALED = (
    ModelCompleted,
    ToolStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolUnknownOutcome,
    AgentHandoff,
    ApprovalRequested,
    InputSteered,
    NodeCompleted,
    NodeFailed,
)
"""What a journal holds."""


def at(journal: Iterable[Event], path: Sequence[str]) -> tuple[Event, ...]:
    """Return the events of exactly this path."""
    wanted = tuple(path)
    return tuple(event for event in journal if event.path == wanted)


def below(journal: Iterable[Event], path: Sequence[str]) -> tuple[Event, ...]:
    """Return the events of this path and of all paths that begin with it."""
    wanted = tuple(path)
    return tuple(event for event in journal if event.path[: len(wanted)] == wanted)


def spoken_below(path: Sequence[str]) -> bool:
    """Tell whether what is said at this path is not part of the run's own conversation.

    An agent that another one called as a tool has a path with `call_id:name` in it, and speaks to
    its caller. The nodes of a graph, and the agents in them, speak for the graph.
    """
    return len(path) > 1 and any(":" in part for part in path[1:])
