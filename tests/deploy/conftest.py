"""Two nodes on one Postgres, as in deploy/compose.yaml, for the tests that need real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.browser.conftest import browser
from tests.nodes.nodes import Nodes, running_nodes
from tests.support.postgres import shared

__all__ = ["browser"]

QUIET = {"TIDEGATE_KEEPALIVE_S": "0.2", "TIDEGATE_WS_HEARTBEAT_S": "0.4", "TIDEGATE_LEASE_S": "1"}
"""Seventy times as often as by default: a test can wait for what proxies do to silence."""


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    """`node-a` and `node-b`, in processes of their own."""
    url = shared().create_database("deploy")
    folder = tmp_path_factory.mktemp("nodes")
    async with running_nodes(url, folder, count=2, settings=QUIET) as nodes:
        yield nodes


@pytest_asyncio.fixture(loop_scope="session")
async def pair(both: Nodes) -> Nodes:
    """The two, both there, whatever was before."""
    await both.refresh()
    return both
