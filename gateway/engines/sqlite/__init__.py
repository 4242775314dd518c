"""The engine that keeps logs and ledger in one SQLite file: the default, for one machine."""

from __future__ import annotations

from gateway.engines.sqlite.engine import SqliteEngine

__all__ = ["SqliteEngine"]
