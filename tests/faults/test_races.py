"""F16, F20, F25: hints that are lost, appends that race a subscription, logs that are trimmed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from random import Random

import pytest

from gateway.log import bell
from gateway.log.bell import Bell
from gateway.log.engine import Engine, Head, SessionRecord
from gateway.log.entry import Entry
from gateway.log.position import Position
from tests.faults.clients import Client, Transport, World, connecting
from tests.faults.endings import final_logs, following
from tests.faults.plugin import Judge
from tests.support.site import Site, Talk, running_site

STREAMS: tuple[Transport, ...] = ("sse", "ndjson", "websocket")
MOMENTS = 12
"""So many moments lie between a reader's calls from its request until it waits for the second time."""


class UnreliableBell(Bell):
    """Drops hints, gives them twice, or late; its ticker, the net under it, works.

    Args:
        random: Chooses what happens to a hint.
        kept: The probability that a hint gets through at once.
    """

    def __init__(self, random: Random, kept: float) -> None:
        super().__init__()
        self._random = random
        self._kept = kept
        self._ticking = False
        self.dropped = 0

    def ring(self, session_id: str) -> None:
        if self._ticking or self._random.random() < self._kept:
            super().ring(session_id)
            return
        self.dropped += 1
        if self._random.random() < self._kept:
            for _ in range(2):
                delay = self._random.uniform(0, 0.05)
                asyncio.get_running_loop().call_later(delay, super().ring, session_id)

    def ring_all(self) -> None:
        self._ticking = True
        super().ring_all()
        self._ticking = False


async def tell_over_a_bad_bell(judge: Judge, random: Random, kept: float, count: int) -> None:
    """Tell events, one after the other, to readers whose hints are unreliable."""
    async with running_site() as site, connecting() as http:
        hints = UnreliableBell(random, kept)
        site.engine._bell = hints  # type: ignore[attr-defined] # of the memory engine
        talk = await site.talk("s")
        world = World(judge.history, http, site.url, random)
        clients = [Client(world, f"on {kind}", "s", kind) for kind in STREAMS]
        async with following(clients):
            for number in range(count):
                await talk.tell(number)
                tail = (await site.engine.head("s")).tail.seq
                for client in clients:
                    await client.until(
                        lambda client=client, tail=tail: client.seq >= tail,  # type: ignore[misc] # mypy does not see the defaults
                        seconds=bell.WAIT_LIMIT + 1,
                    )
            answer = await site.command("s", "cancel")
            assert answer["type"] == "ack"
            logs = await final_logs(http, site.url, ["s"])
            assert logs[0].events[-1]["type"] == "run.cancelled"
            for client in clients:
                await client.until(lambda client=client: client.seq >= logs[0].last)  # type: ignore[misc] # as above
                client.finished("s")
    assert hints.dropped > count // 4
    judge.check(logs, "I1", "I2", "I3", "I8")
    judge.note("I10")  # the cancel was acknowledged, and the run was over then


@pytest.mark.fault("F16")
@pytest.mark.rule("resume.no_hole")
@pytest.mark.parametrize("kept", [0.0, 0.5], ids=["none comes", "half of them come"])
async def test_when_hints_are_lost_readers_still_get_everything_with_the_next_look(
    judge: Judge, random: Random, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell, "WAIT_LIMIT", 0.1)
    await tell_over_a_bad_bell(judge, random, kept, 10)


@pytest.mark.long
@pytest.mark.fault("F16")
async def test_when_all_hints_are_lost_events_come_within_the_five_seconds_that_are_promised(
    judge: Judge, random: Random
) -> None:
    await tell_over_a_bad_bell(judge, random, 0.0, 4)


class Racing:
    """An engine with moments before and after each of a reader's calls, and inside its waiting.

    Args:
        engine: The real one; all other calls go to it.
        act: What is done at a moment.
        plan: How often it is done, for each moment in order.
    """

    def __init__(
        self, engine: Engine, act: Callable[[], Awaitable[None]], plan: Iterable[int]
    ) -> None:
        self._engine = engine
        self._act = act
        self._plan: Iterator[int] = iter(plan)
        self.acted = 0
        self.waiting = asyncio.Event()

    async def _moment(self) -> None:
        for _ in range(next(self._plan, 0)):
            self.acted += 1
            await self._act()

    async def session(self, session_id: str) -> SessionRecord:
        await self._moment()
        found = await self._engine.session(session_id)
        await self._moment()
        return found

    async def head(self, session_id: str) -> Head:
        found = await self._engine.head(session_id)
        await self._moment()
        return found

    async def read(self, session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
        page = await self._engine.read(session_id, after, limit=limit)
        await self._moment()
        return page

    async def wait(self, session_id: str, after: Position) -> None:
        self.waiting.set()
        await self._moment()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._engine.wait(session_id, after))
            await asyncio.sleep(0)
            await self._moment()
        await self._moment()

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)


SOON = 10.0
"""Seconds: less than a stream is silent before its reader looks again by itself."""


@pytest.fixture
def no_ticker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody who waits be woken in any case; else that would come before `SOON` is over."""
    monkeypatch.setattr(bell, "WAIT_LIMIT", 3600.0)


async def subscribe_while(site: Site, racing: Racing, client: Client, talk: Talk) -> None:
    """Subscribe while something happens; whatever comes last arrives soon, without a second look."""
    engine = site.manager.engine
    site.manager.engine = racing  # type: ignore[assignment] # passes all on
    async with following([client]):
        async with asyncio.timeout(SOON):
            await racing.waiting.wait()
        await talk.tell("last")
        tail = (await engine.head("s")).tail.seq
        await client.until(lambda: client.seq >= tail, seconds=SOON)
    site.manager.engine = engine


@pytest.mark.fault("F20")
@pytest.mark.rule("resume.no_hole")
@pytest.mark.parametrize("after", ["from the start", "from a cursor", "from a snapshot"])
@pytest.mark.usefixtures("no_ticker")
@pytest.mark.parametrize("transport", STREAMS)
async def test_an_append_at_any_moment_of_a_subscription_is_not_missed(
    judge: Judge, random: Random, transport: Transport, after: str
) -> None:
    async with running_site() as site, connecting() as http:
        talk = await site.talk("s")
        world = World(judge.history, http, site.url, random)
        plans = [[0] * moment + [1] for moment in range(MOMENTS)]
        plans += [random.choices((0, 0, 1, 2), k=MOMENTS) for _ in range(MOMENTS)]
        appended = 0
        for number, plan in enumerate(plans):
            start = {"from the start": "0", "from a cursor": (await talk.head())[1]}
            client = Client(world, f"reader {number}", "s", transport, after=start.get(after, ""))
            racing = Racing(site.manager.engine, lambda: talk.tell("raced"), plan)
            await subscribe_while(site, racing, client, talk)
            appended += racing.acted
        await talk.end()
        logs = await final_logs(http, site.url, ["s"])
    assert appended >= MOMENTS
    judge.check(logs, "I2", "I3", "I7", "I8")


@pytest.mark.fault("F25")
@pytest.mark.rule("reset.honest")
@pytest.mark.usefixtures("no_ticker")
@pytest.mark.parametrize("transport", STREAMS)
async def test_a_log_that_is_trimmed_while_it_is_read_leaves_no_silent_hole(
    judge: Judge, random: Random, transport: Transport
) -> None:
    async with running_site() as site, connecting() as http:
        talk = await site.talk("s")
        world = World(judge.history, http, site.url, random)
        await talk.tell(*range(300))

        async def trim() -> None:
            head = await site.engine.head("s")
            through = random.randint(head.start.seq, head.tail.seq - 1)
            judge.history.fault("trim", session_id="s", through=through)
            await site.engine.trim("s", through)
            await talk.tell(*range(100))

        clients = []
        for moment in range(MOMENTS):
            clients.append(Client(world, f"reader {moment}", "s", transport))
            racing = Racing(site.manager.engine, trim, [0] * moment + [1])
            await subscribe_while(site, racing, clients[-1], talk)
        await talk.end()
        logs = await final_logs(http, site.url, ["s"])
    reasons = {each.value["reason"] for each in judge.history.named("reset")}
    assert reasons == {"trimmed"}
    judge.check(logs, "I2", "I3", "I7", "I8")


@pytest.mark.fault("F25")
@pytest.mark.rule("reset.honest", "resume.exact")
@pytest.mark.parametrize("transport", STREAMS)
async def test_exactly_at_the_trim_point_a_cursor_is_served_and_one_before_it_is_not(
    judge: Judge, random: Random, transport: Transport
) -> None:
    async with running_site() as site, connecting() as http:
        talk = await site.talk("s")
        world = World(judge.history, http, site.url, random)
        await talk.tell(*range(20))
        events = (await final_logs(http, site.url, ["s"]))[0].events
        through = random.randint(3, 18)
        judge.history.fault("trim", session_id="s", through=through)
        await site.engine.trim("s", through)
        readers = {
            place: Client(
                world, f"{place}", "s", transport, after=events[through + place - 1]["cursor"]
            )
            for place in (-2, -1, 0, 1, 2)
        }
        async with following(list(readers.values())):
            await talk.tell("last")
            await talk.end()
            logs = await final_logs(http, site.url, ["s"])
            for client in readers.values():
                await client.until(lambda client=client: client.seq >= logs[0].last)  # type: ignore[misc] # mypy does not see the default
                client.finished("s")
    reset = {each.process for each in judge.history.named("reset")}
    assert reset == {"-2", "-1"}
    judge.check(logs, "I1", "I2", "I3", "I7", "I8")
