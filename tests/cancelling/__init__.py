"""Ending a run at every place where it can be, in every way in which it can be ended."""

from __future__ import annotations
