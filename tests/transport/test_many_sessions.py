"""Five hundred sessions on one connection: each in order, none missing, while others come and go."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
import pytest

from gateway.transports.outlet import Outlet
from gateway.transports.sharing import Share
from tests.support.site import Site, Talk, running_site
from tests.support.waiting import proven_blocked

SESSIONS = 500
ROUNDS = 2
GUESTS = 20


async def on_a_socket(site: Site, talks: list[Talk]) -> AsyncGenerator[dict[str, Any]]:
    async with site.http.ws_connect("/v1/ws", max_msg_size=0) as socket:
        for talk in talks:
            await socket.send_json(
                {"type": "subscribe", "session_id": talk.session_id, "after": "0"}
            )
        async for message in socket:
            yield orjson.loads(message.data)


async def on_a_client_stream(site: Site, talks: list[Talk]) -> AsyncGenerator[dict[str, Any]]:
    for talk in talks:
        path = f"/v1/clients/many/subscriptions/{talk.session_id}"
        async with site.http.put(path, json={"after": "0"}) as response:
            assert response.status == 204
    async with site.http.get("/v1/clients/many/events") as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                yield orjson.loads(line[6:])


class Ear:
    """Hears all that comes on one connection."""

    def __init__(self) -> None:
        self.seqs: dict[str, list[int]] = defaultdict(list)
        self.told: dict[str, list[int]] = defaultdict(list)
        self.caught_up: set[str] = set()
        self.everybody_there = asyncio.Event()
        self.all_told = asyncio.Event()

    async def hear(self, messages: AsyncGenerator[dict[str, Any]], wanted: set[str]) -> None:
        """Listen until it is cancelled; `wanted` are the sessions that are heard to their end."""
        async with aclosing(messages):
            async for message in messages:
                self._take(message)
                if len(self.caught_up) == SESSIONS:
                    self.everybody_there.set()
                if not wanted:
                    self.all_told.set()
                elif message["type"] == "custom" and message["payload"] == ROUNDS - 1:
                    wanted.discard(message["session_id"])

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "stream.caught_up":
            self.caught_up.add(message["session_id"])
        elif "seq" in message:
            self.seqs[message["session_id"]].append(message["seq"])
            if message["type"] == "custom":
                self.told[message["session_id"]].append(message["payload"])


@pytest.mark.fault("F23", holds=("I3",))
@pytest.mark.rule("sse.many", "resume.no_hole")
async def test_each_of_five_hundred_sessions_comes_in_order_and_whole_while_others_come_and_go() -> (
    None
):
    async with running_site() as site, asyncio.timeout(50):
        talks = [await site.talk() for _ in range(SESSIONS)]
        regulars = {talk.session_id for talk in talks[GUESTS:]}
        ears = Ear(), Ear()
        hearing = [
            asyncio.create_task(ears[0].hear(on_a_socket(site, talks), set(regulars))),
            asyncio.create_task(ears[1].hear(on_a_client_stream(site, talks), set(regulars))),
        ]
        for ear in ears:
            await ear.everybody_there.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(come_and_go(site, talks[:GUESTS]))
            for number in range(ROUNDS):
                for talk in talks:
                    await talk.tell(number)
        for talk in talks:  # something after the last round, so that it is heard that all is there
            await talk.tell(ROUNDS)
        for ear in ears:
            await ear.all_told.wait()
        for task in hearing:
            task.cancel()
        for ear in ears:
            for session_id in regulars:
                seqs = ear.seqs[session_id]
                assert seqs == list(range(1, len(seqs) + 1))
                assert ear.told[session_id][:ROUNDS] == list(range(ROUNDS))


async def come_and_go(site: Site, guests: list[Talk]) -> None:
    """Take sessions off the client's stream and put them on again, while all others are told of."""
    for guest in guests:
        path = f"/v1/clients/many/subscriptions/{guest.session_id}"
        async with site.http.delete(path) as response:
            assert response.status == 204
        async with site.http.put(path, json={"after": "$"}) as response:
            assert response.status == 204


class Clogged(Outlet):
    """A connection that takes nothing until the test says so."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def ready(self) -> None:
        await self.open.wait()


@pytest.mark.rule("slow.isolated")
async def test_of_all_sessions_of_a_client_that_reads_nothing_one_is_read_at_a_time(
    site: Site,
) -> None:
    talks = [await site.talk() for _ in range(3)]
    outlet, turn = Clogged(), asyncio.Lock()
    shares = [Share(site.engine, outlet, turn) for _ in talks]
    reads = []
    for talk, share in zip(talks, shares, strict=True):
        start = (await site.engine.head(talk.session_id)).start
        reads.append(asyncio.create_task(share.read(talk.session_id, start, limit=10)))
    await proven_blocked(*reads)
    outlet.open.set()
    assert len(await reads[0]) > 0
    await proven_blocked(*reads[1:])
    shares[0].give()
    assert len(await reads[1]) > 0
    await proven_blocked(reads[2])
    reads[2].cancel()
    shares[1].give()
    assert not turn.locked()
