"""Tests of the client libraries: `gateway.client`, and what both libraries share."""

from __future__ import annotations
