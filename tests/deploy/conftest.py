"""Two nodes on one Postgres, as in deploy/compose.yaml, for the tests that need real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.browser.conftest import browser
from tests.deploy.node import FOLDER, PROGRAM
from tests.nodes.nodes import Nodes, running_nodes
from tests.support.postgres import shared

__all__ = ["browser"]

QUIET = {"TIDEGATE_KEEPALIVE_S": "0.3", "TIDEGATE_WS_HEARTBEAT_S": "1", "TIDEGATE_LEASE_S": "1"}
"""Far more often than by default: a test can wait for what proxies do to silence. A peer is cut that does
not answer a ping for half of the heartbeat, which a busy machine may need."""


@pytest.fixture(scope="package")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the files that `standing` waits for."""
    return tmp_path_factory.mktemp("gates")


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def both(tmp_path_factory: pytest.TempPathFactory, gates: Path) -> AsyncIterator[Nodes]:
    """`node-a` and `node-b`, in processes of their own."""
    settings = QUIET | {FOLDER: str(gates)}
    url = shared().create_database("deploy")
    folder = tmp_path_factory.mktemp("nodes")
    async with running_nodes(
        url, folder, count=2, settings=settings, programs=[PROGRAM] * 2
    ) as nodes:
        yield nodes


@pytest_asyncio.fixture(loop_scope="session")
async def pair(both: Nodes) -> Nodes:
    """The two, both there, whatever was before."""
    await both.refresh()
    return both
