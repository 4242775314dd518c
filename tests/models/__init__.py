"""Model providers against their real wires."""

from __future__ import annotations
