"""The words of the engine seam, held against every engine."""

from __future__ import annotations
