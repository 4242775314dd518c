"""Tests of the house rules: file lengths, floors, what the wheel holds."""

from __future__ import annotations
