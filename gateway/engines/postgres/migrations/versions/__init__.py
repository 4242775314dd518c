"""One module for each step; see `gateway.engines.postgres.migrations`."""

from __future__ import annotations

__all__: list[str] = []
