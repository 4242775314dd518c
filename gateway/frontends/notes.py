"""What a frontend has to remember between requests, where every node finds it.

Notes are kept in the ledger as checkpoints are, under names that no client can have, and are forgotten
as those are.
"""

from __future__ import annotations

import hashlib

from gateway.log.engine import Checkpoint, Engine

__all__ = ["Notes"]

_NOTE = "note"


class Notes:
    """The notes of one protocol, by key. What is put is there for every node once that returned."""

    def __init__(self, engine: Engine, protocol: str) -> None:
        """Make it.

        Args:
            engine: Where the ledger is.
            protocol: Whose notes; a word.
        """
        self._engine = engine
        self._protocol = protocol

    async def put(self, key: tuple[str, ...], text: str) -> None:
        """Note something, in place of what was noted before.

        Raises:
            EngineUnavailable: If the store failed.
        """
        await self._engine.save_checkpoint(self._name(key), Checkpoint(_NOTE, {_NOTE: text}))

    async def get(self, key: tuple[str, ...]) -> str | None:
        """Return what is noted.

        Raises:
            EngineUnavailable: If the store failed.
        """
        kept = await self._engine.load_checkpoint(self._name(key), _NOTE)
        return None if kept is None else kept.cursors.get(_NOTE)

    def _name(self, key: tuple[str, ...]) -> str:
        """Return a client id; clients' own have no colon."""
        whole = "\0".join(key).encode(errors="replace")
        return f"{self._protocol}:{hashlib.sha256(whole).hexdigest()[:40]}"
