"""Agents and tools of other frameworks, with the real libraries."""

from __future__ import annotations
