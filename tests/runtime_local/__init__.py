"""Tests of the local model."""

from __future__ import annotations
