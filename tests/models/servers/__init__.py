"""Providers on loopback that speak the real wires."""

from __future__ import annotations
