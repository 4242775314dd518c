"""Logs and the ledger."""

from __future__ import annotations

from gateway.engines.postgres.migrations import step

revision = "0001"
down_revision = None

upgrade = step("0001_log_and_ledger.sql", "0001_append.sql", compatible_with="0001")
