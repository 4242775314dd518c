"""Keeping checkpoints of a run."""

from __future__ import annotations

import secrets

from runtime.checkpoint import Checkpoint
from runtime.events import CheckpointSaved
from runtime.graph.replay import Place
from runtime.graph.run import Run

__all__ = ["Keeping"]


class Keeping:
    """Makes and saves the checkpoints of one run.

    Attributes:
        last: The id of the newest one.
    """

    def __init__(self, run: Run) -> None:
        before = run.request.checkpoint
        self.last = None if before is None else before.checkpoint_id
        self._run = run

    async def save(self, place: Place) -> None:
        """Save a place, and report it once it is safe; nothing if nobody keeps checkpoints.

        What is reported before `save` is called is in the checkpoint, and what comes later is not.

        Raises:
            CheckpointUnwritable: If a value cannot be written; it names the key.
            Exception: Whatever `save` raises.
        """
        run = self._run
        if run.request.save is None:
            return
        keys = run.definition.keys
        checkpoint = Checkpoint(
            checkpoint_id=f"{place.superstep:06d}-{secrets.token_hex(8)}",
            run_id=run.run_id,
            parent_id=self.last,
            superstep=place.superstep,
            state={name: keys[name].store(value) for name, value in place.values.items()},
            next=place.due,
        )
        await run.request.save(checkpoint)
        self.last = checkpoint.checkpoint_id
        await run.report(
            CheckpointSaved(
                run_id=run.run_id,
                path=run.path,
                checkpoint_id=checkpoint.checkpoint_id,
                node=place.last,
                superstep=place.superstep,
            )
        )
