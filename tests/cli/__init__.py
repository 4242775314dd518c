"""Tests of the command line, as a user starts it."""

from __future__ import annotations
