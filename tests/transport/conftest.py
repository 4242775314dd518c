"""Transport tests run on the event loop that users get, against a server on a real port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.support.readers import READERS
from tests.support.site import Site, running_site


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Use uvloop, as the command line does."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A server of its own for each test."""
    async with running_site() as site:
        yield site


@pytest.fixture(params=READERS)
def transport(request: pytest.FixtureRequest) -> str:
    """Each transport in turn: what is asserted holds for all."""
    return str(request.param)
