"""A reading step by step, where a connection would hide the moment; and crowds of readers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from gateway.config import Settings
from gateway.log.position import Position
from gateway.transports.crowd import LONGEST_REST, Crowd, Crowds
from gateway.transports.reading import BATCH_ENTRIES, Control, Reading
from gateway.transports.services import Services
from tests.support.site import Site
from tests.support.waiting import proven_blocked


@pytest.mark.rule("reset.honest")
async def test_a_reader_that_is_overtaken_by_trimming_is_told_and_goes_on(site: Site) -> None:
    talk = await site.talk()
    await talk.tell(*range(2 * BATCH_ENTRIES))
    services = Services(site.manager, Settings())
    reading = await Reading.open(services, talk.session_id, "0")
    async with asyncio.timeout(30), aclosing(reading.steps(idle=30)) as steps:
        first = await anext(steps)
        assert not isinstance(first, Control)
        assert len(first) == BATCH_ENTRIES
        _, tail = await talk.head()
        await site.engine.trim(talk.session_id, Position.parse(tail).seq - 1)
        reset = await anext(steps)
        assert isinstance(reset, Control)
        assert (reset.message["type"], reset.message["reason"]) == ("stream.reset", "trimmed")
        assert reset.message["cursor"] == tail
        caught_up = await anext(steps)
        assert isinstance(caught_up, Control)
        assert caught_up.message["type"] == "stream.caught_up"
        await talk.tell("new")
        batch = await anext(steps)
        assert not isinstance(batch, Control)
        assert b'"payload":"new"' in batch[0].body


async def test_silence_is_an_empty_batch(site: Site) -> None:
    session_id = await site.create()
    reading = await Reading.open(Services(site.manager, Settings()), session_id, "$")
    async with asyncio.timeout(30), aclosing(reading.steps(idle=0.02)) as steps:
        await anext(steps)
        assert not await anext(steps)
        assert not await anext(steps)


async def test_a_few_readers_never_rest() -> None:
    crowds = Crowds()
    crowd = crowds.join("s")
    rest = crowd.rest()
    with pytest.raises(StopIteration):
        rest.send(None)
    crowds.leave("s")


async def test_a_crowd_rests_and_wakes_together() -> None:
    crowd = Crowd()
    crowd.readers = 100_000
    assert crowd.spacing == LONGEST_REST
    resting = [asyncio.create_task(crowd.rest()) for _ in range(3)]
    await proven_blocked(*resting)
    resting[0].cancel()
    async with asyncio.timeout(30):
        await asyncio.wait(resting)
    assert [task.cancelled() for task in resting] == [True, False, False]


async def test_crowds_are_forgotten_with_their_last_reader(site: Site) -> None:
    session_id = await site.create()
    services = Services(site.manager, Settings())
    reading = await Reading.open(services, session_id, "$")
    async with aclosing(reading.steps(idle=5)) as steps:
        await anext(steps)
        assert services.crowds.join(session_id).readers == 2
        services.crowds.leave(session_id)
    assert services.crowds.join(session_id).readers == 1
