"""The steps that make the schema, in order: `NNNN_what.sql`. A step is never changed once released."""

from __future__ import annotations

__all__: list[str] = []
