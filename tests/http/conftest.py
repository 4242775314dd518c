"""HTTP tests ask a real server on a real port."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.site import Site, running_site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A server of its own for each test."""
    async with running_site() as site:
        yield site
