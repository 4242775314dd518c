"""A place in a graph's run from which it can go on. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.messages import Frozen

__all__ = ["Checkpoint"]


class Checkpoint(Frozen):
    """The state after a superstep, and what comes next. All of it is plain JSON.

    Attributes:
        checkpoint_id: Sorts by age within its run, and is never met twice.
        run_id: The run that made it.
        parent_id: The checkpoint that it followed, maybe of another run or session.
        superstep: How many supersteps the run had finished; 0 is the input.
        state: The values of the keys that were written, by name.
        next: The nodes of the next superstep; none when the run was done.
    """

    checkpoint_id: str
    run_id: str
    parent_id: str | None = None
    superstep: int
    state: Mapping[str, Any]
    next: tuple[str, ...]
