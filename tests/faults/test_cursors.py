"""F24: cursors that nobody gave, and cursors of others: the right reason, never a server error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.log.position import Position
from tests.faults.plugin import Judge
from tests.support.readers import READERS, Refused
from tests.support.site import Site, running_site

TRANSPORTS = (*READERS, "page", "last-event-id")
ROUNDS = 60
ODD = "0123456789abcdef.-+_ %$/\\'\"<>\x00\x7f\u2028é٣🌊ZZ"


@dataclass(frozen=True)
class Cursors:
    """Makes cursors, from the good ones of two logs."""

    random: Random
    own: Position
    other: Position

    def served(self) -> str:
        return str(self.own)

    def of_another_session(self) -> str:
        return str(self.other)

    def of_another_epoch(self) -> str:
        return f"zz{self.random.randrange(10**6)}.{self.own.seq}.{self.own.tag}"

    def of_another_history(self) -> str:
        tag = int(self.own.tag, 16) ^ self.random.randrange(1, 2**32)
        return f"{self.own.epoch}.{self.own.seq}.{tag:08x}"

    def of_the_future(self) -> str:
        seq = self.own.seq + self.random.choice((1, 2, 1000, 2**53, 10**15))
        return f"{self.own.epoch}.{min(seq, 10**16 - 1)}.{self.own.tag}"

    def huge(self) -> str:
        digits = "9" * self.random.choice((17, 100, 5000))
        return f"{self.own.epoch}.{digits}.{self.own.tag}"

    def negative(self) -> str:
        return f"{self.own.epoch}.-{self.own.seq}.{self.own.tag}"

    def other_digits(self) -> str:
        return f"{self.own.epoch}.٣.{self.own.tag}"

    def with_a_zero(self) -> str:
        return f"{self.own.epoch}.0{self.own.seq}.{self.own.tag}"

    def cut_short(self) -> str:
        whole = str(self.own)
        return whole[: self.random.randrange(2, len(whole))]  # one alone may be `0`

    def twice(self) -> str:
        return f"{self.own},{self.own}"

    def padded(self) -> str:
        return f"{self.own}\x00"

    def garbage(self) -> str:
        return "".join(self.random.choices(ODD, k=self.random.randint(2, 60)))

    def changed(self) -> str:
        """Return a good one with one character replaced: it may still have the form of one."""
        whole = str(self.own)
        place = self.random.randrange(len(whole))
        return whole[:place] + self.random.choice(ODD) + whole[place + 1 :]


EXPECTED: Mapping[str, set[str]] = {
    "served": {"served"},
    "of_another_session": {"epoch_changed"},
    "of_another_epoch": {"epoch_changed"},
    "of_another_history": {"fork"},
    "of_the_future": {"cursor_ahead"},
    "huge": {"cursor_malformed"},
    "negative": {"cursor_malformed"},
    "other_digits": {"cursor_malformed"},
    "with_a_zero": {"cursor_malformed"},
    "cut_short": {"cursor_malformed"},
    "twice": {"cursor_malformed"},
    "padded": {"cursor_malformed"},
    "garbage": {"cursor_malformed"},
    "changed": {"cursor_malformed", "epoch_changed", "fork", "cursor_ahead", "served"},
}


async def outcome(site: Site, transport: str, session_id: str, cursor: str) -> str:
    """Return what a cursor gets: `served`, the reason of a reset, or a code of a refusal."""
    if transport in READERS:
        try:
            reader = await site.read(transport, session_id, cursor)
        except Refused as refused:
            return refused.code
        first = await reader.next()
        await reader.cut()
        assert first["session_id"] == session_id
        if first.type != "stream.reset":
            return "served"
        assert first["snapshot"]["session_id"] == session_id
        return str(first["reason"])
    path = f"/v1/sessions/{session_id}/events"
    if transport == "last-event-id":
        headers = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
        async with site.http.get(path, headers=headers) as response:
            return await first_of(response)
    headers = {"Accept": "application/json"}
    async with site.http.get(path, headers=headers, params={"after": cursor}) as response:
        body = await response.json(content_type=None)
        if response.status == 410:
            return str(body["detail"].rpartition(": ")[2])
        assert response.status in {200, 400}, body
        return "served" if response.status == 200 else str(body["code"])


async def first_of(response: aiohttp.ClientResponse) -> str:
    """Return what an event stream begins with."""
    if response.status != 200:
        assert response.status == 400
        return str((await response.json(content_type=None))["code"])
    async with asyncio.timeout(30):
        async for line in response.content:
            if line.startswith(b"data: "):
                message: dict[str, Any] = orjson.loads(line[6:])
                return str(message.get("reason", "served"))
    raise AssertionError("it ended")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running_site() as site:
        yield site


@pytest.mark.fault("F24")
@pytest.mark.rule("reset.honest", "cursor.form")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_any_cursor_is_served_or_refused_for_the_right_reason(
    site: Site, judge: Judge, random: Random, transport: str
) -> None:
    talk, other = await site.talk("s"), await site.talk("other")
    await talk.tell(*range(5))
    await other.tell(*range(9))
    positions = [Position.parse((await each.head())[1]) for each in (talk, other)]
    cursors = Cursors(random, *positions)
    for number in range(ROUNDS):
        kind = list(EXPECTED)[number % len(EXPECTED)]
        cursor = getattr(cursors, kind)()
        if transport == "last-event-id" and not (cursor.isascii() and cursor.isprintable()):
            continue  # no client can put that into a header
        found = await outcome(site, transport, "s", cursor)
        assert found in EXPECTED[kind], f"{kind}: {cursor!r} got {found}"
    judge.note("I7", ROUNDS)
    judge.note("I11", ROUNDS)  # what came was of the session that was asked for
    await talk.end()
    await other.end()
