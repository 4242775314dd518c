"""Turns: what every frontend asks of a session."""

from __future__ import annotations

import asyncio

import pytest

from gateway.config import Settings
from gateway.engines.memory import MemoryEngine
from gateway.errors import CommandMalformed, SessionUnknown, ShuttingDown
from gateway.frontends.turns import Turn, take_first_turn, take_turn
from gateway.log.engine import Appended, Write
from gateway.sessions.manager import SessionManager
from gateway.transports.services import Services
from runtime.registry import Registry
from tests.support.puppet import Part, Puppet
from tests.support.waiting import proven_blocked


async def play(part: Part) -> None:
    await part.answer("done")


def services_of(engine: MemoryEngine) -> Services:
    manager = SessionManager(engine, Registry(Puppet(play)))
    return Services(manager, Settings(engine="memory"))


async def test_a_server_that_stops_begins_nothing() -> None:
    services = services_of(MemoryEngine())
    services.streams.drain()
    with pytest.raises(ShuttingDown):
        await take_turn(services, Turn(session_id="s", text="hi"))
    with pytest.raises(SessionUnknown):
        await services.manager.snapshot("s")


@pytest.mark.parametrize("is_keyed", [False, True])
async def test_a_session_that_nobody_can_name_goes_with_a_turn_that_is_refused(
    *, is_keyed: bool
) -> None:
    services = services_of(MemoryEngine())
    refused = Turn(session_id="s", text="hi", options={"nonsense": 1})
    with pytest.raises(CommandMalformed):
        await take_first_turn(services, refused, is_keyed=is_keyed)
    listed = (await services.manager.sessions(limit=9, after=None))["sessions"]
    assert [session["session_id"] for session in listed] == (["s"] if is_keyed else [])


class Lingering(MemoryEngine):
    """Tells readers of an append before it tells the writer."""

    def __init__(self) -> None:
        super().__init__()
        self.committed, self.told = asyncio.Event(), asyncio.Event()

    async def append(self, write: Write) -> Appended:
        appended = await super().append(write)
        if write.answer is not None:
            self.committed.set()
            await self.told.wait()
        return appended


async def test_where_a_run_is_is_not_behind_what_readers_have_seen() -> None:
    engine = Lingering()
    services = services_of(engine)
    taking = asyncio.create_task(take_turn(services, Turn(session_id="s", text="hi")))
    await engine.committed.wait()  # a reader can see the run now
    looking = asyncio.create_task(services.manager.run("s"))
    await proven_blocked(looking)
    engine.told.set()
    assert (await looking).run_id == (await taking).run_id
    await services.manager.aclose()
