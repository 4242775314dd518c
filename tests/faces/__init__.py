"""How programs and people use runs: streams, sessions, registries, command lines."""

from __future__ import annotations
