"""Runs that end with the last of those who listen."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.config import Settings
from gateway.sessions.manager import RunPlace
from gateway.transports.holding import begun, holding
from gateway.transports.services import Services
from tests.support.site import Site, Talk


async def held(site: Site) -> tuple[Services, Talk, RunPlace]:
    talk = await site.talk()
    place = await site.manager.run(talk.session_id, talk.run_id)
    return Services(site.manager, Settings()), talk, place


async def status(site: Site, talk: Talk) -> str:
    return (await site.manager.run(talk.session_id, talk.run_id)).status


@pytest.mark.rows("X3")
async def test_the_last_to_go_before_the_end_ends_the_run(site: Site) -> None:
    services, talk, place = await held(site)
    async with holding(services, place, lambda: False):
        async with holding(services, place, lambda: False):
            pass
        assert await status(site, talk) == "running"
    assert await status(site, talk) == "cancelled"
    assert not services.streams.holders
    async with holding(services, place, lambda: False):
        pass  # it is over already


async def test_who_has_seen_the_end_ends_nothing(site: Site) -> None:
    services, talk, place = await held(site)
    async with holding(services, place, lambda: True):
        pass
    assert await status(site, talk) == "running"
    assert not services.streams.holders


async def test_a_server_that_stops_ends_nothing(site: Site) -> None:
    services, talk, place = await held(site)
    async with holding(services, place, lambda: False):
        services.streams.drain()
    assert await status(site, talk) == "running"


async def test_a_session_that_is_gone_is_no_error(site: Site) -> None:
    services, talk, place = await held(site)
    async with holding(services, place, lambda: False):
        await site.manager.delete(talk.session_id)


@pytest.mark.parametrize("is_held", [True, False])
async def test_a_run_that_begins_while_its_client_goes_is_ended_if_it_was_to_be_held(
    site: Site,
    is_held: bool,
) -> None:
    services, talk, place = await held(site)
    begins, asked = asyncio.Event(), asyncio.Event()

    async def beginning() -> RunPlace:
        asked.set()
        await begins.wait()
        return place

    asking = asyncio.create_task(begun(services, beginning(), held=is_held))
    await asked.wait()
    asking.cancel()
    begins.set()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    assert asking.cancelled()
    assert await status(site, talk) == ("cancelled" if is_held else "running")
