"""Positions, stored bytes, the bell, the cache, and the loop that reads."""

from __future__ import annotations
