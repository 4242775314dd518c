"""Tests of the runtime."""

from __future__ import annotations
