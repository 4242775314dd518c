"""Graphs: keys, commands, supersteps, checkpoints, runners."""

from __future__ import annotations
