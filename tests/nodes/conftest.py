"""Three nodes on one database, which the tests of this folder share where their faults allow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from random import Random

import aiohttp
import pytest
import pytest_asyncio
import uvloop

from tests.faults.clients import connecting
from tests.faults.plugin import Judge
from tests.nodes.ground import Ground
from tests.nodes.nodes import HURRIED, Nodes, running_nodes
from tests.support.postgres import Cluster


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Use uvloop, as the command line does."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """A Postgres that tests may stop and start, if it runs in the end."""
    cluster = Cluster.started()
    yield cluster
    cluster.remove()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def three(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    """Three nodes, each with a proxy of its own before the database."""
    url = cluster.create_database("three")
    folder = tmp_path_factory.mktemp("nodes")
    async with running_nodes(url, folder, settings=HURRIED, apart=True) as nodes:
        yield nodes


@pytest_asyncio.fixture(loop_scope="package")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that connects as often as it likes."""
    async with connecting() as http:
        yield http


@pytest_asyncio.fixture(loop_scope="package")
async def nodes(three: Nodes) -> AsyncIterator[Nodes]:
    """The three, all there, awake and with a good way to the database, whatever was before."""
    await three.refresh()
    yield three


@pytest_asyncio.fixture(loop_scope="package")
async def ground(
    nodes: Nodes,
    http: aiohttp.ClientSession,
    judge: Judge,
    random: Random,
) -> AsyncIterator[Ground]:
    """The three nodes, with clients and callers for them, and sessions of this test alone."""
    yield Ground(nodes, http, judge, random)
