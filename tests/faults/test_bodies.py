"""F41, F45: events with anything in them, and logs of any story: the same bytes, the same state."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest

from gateway.codecs.native import event_json
from gateway.engines.memory import MemoryEngine
from gateway.log.engine import NewSession, Write
from gateway.log.entry import Entry
from gateway.log.serde import dump
from gateway.sessions.manager import SessionManager
from runtime.events import Event
from runtime.registry import Registry
from tests.faults.about_resets import snapshot_at
from tests.faults.clients import TRANSPORTS, Client, ManyClient, World, connecting
from tests.faults.endings import final_logs, following
from tests.faults.invariants import FinalLog
from tests.faults.plugin import Judge
from tests.support.legal_runs import legal_log
from tests.support.logs import kept
from tests.support.site import running_site

MEBIBYTE = 2**20
NASTY = (
    "\r", "\n", "\r\n\r\n", "\n\ndata: {}\n\n", "id: 1", ":", "\x00", "\x1f", "\x7f", "\u2028",
    "\u2029", "\ufeff", "\U0001f30a", "é", '"', "\\", "</script>", "event: message\n", "",
)  # fmt: skip


def payload(random: Random, depth: int = 0) -> Any:
    """Return anything that JSON can say."""
    if depth < 2 and random.random() < 0.4:
        items = [payload(random, depth + 1) for _ in range(random.randint(0, 3))]
        keys = random.sample(NASTY, len(items))
        return items if random.random() < 0.5 else dict(zip(keys, items, strict=True))
    text = "".join(random.choices(NASTY, k=random.randint(0, 6)))
    return random.choice((text, None, True, -(2**53), 1e300, text))


@pytest.mark.fault("F41")
@pytest.mark.rule("wire.same", "ws.equal", "sse.frame")
async def test_whatever_an_event_holds_it_has_the_same_bytes_everywhere(
    judge: Judge, random: Random
) -> None:
    async with running_site() as site, connecting(largest_event=4 * MEBIBYTE) as http:
        talk = await site.talk("s")
        world = World(judge.history, http, site.url, random)
        many = ManyClient(world, "many", ["s"])
        await many.subscribe()
        clients = [Client(world, f"on {kind}", "s", kind) for kind in TRANSPORTS]
        told = [*NASTY, *(payload(random) for _ in range(60))]
        told += ["x" * MEBIBYTE, "\r\n\u2028" * (MEBIBYTE // 8)]
        async with following([*clients, many]):
            await talk.tell(*told)
            await talk.end()
            logs = await final_logs(http, site.url, ["s"])
            await many.until(lambda: many.seqs["s"] >= logs[0].last)
            for client in clients:
                await client.until(lambda client=client: client.seq >= logs[0].last)  # type: ignore[misc] # mypy does not see the default
            for each in (*clients, many):
                each.finished("s")
    said = [event.get("payload") for event in logs[0].events if event["type"] == "custom"]
    assert said == told
    judge.check(logs, "I1", "I2", "I3", "I8")


async def written(engine: MemoryEngine, session_id: str, events: list[Event]) -> FinalLog:
    """Put events into a log of their own, and return it as clients would read it."""
    create = NewSession(agent="assistant", metadata={}, digest="d")
    bodies = tuple(dump(event) for event in events)
    await engine.append(Write(session_id, bodies, create=create))
    entries: list[Entry] = await kept(engine, session_id)
    return FinalLog(session_id, [event_json(entry) for entry in entries])


async def check_folds(judge: Judge, random: Random, stories: int) -> None:
    """Hold the snapshot at places of random logs against the fold of what clients would read."""
    engine = MemoryEngine()
    manager = SessionManager(engine, Registry(), delta_interval=0)
    facts = 0
    for story in range(stories):
        events = legal_log(Random(random.random()))  # noqa: S311 - to be repeated
        places = {len(events), *random.choices(range(1, len(events) + 1), k=4)}
        for place in places:
            session_id = f"s{story}_{place}"
            log = await written(engine, session_id, events[:place])
            snapshot = orjson.loads(orjson.dumps((await manager.snapshot(session_id)).as_json()))
            assert snapshot == snapshot_at(log, snapshot)
            assert snapshot["cursor"] == log.events[-1]["cursor"]
            check_texts(log, snapshot)
            facts += 1
    judge.note("I7", facts)
    await manager.aclose()


def check_texts(log: FinalLog, snapshot: dict[str, Any]) -> None:
    """Each message that was completed is there with its words, unless it was rolled back."""
    texts = {message["message_id"]: message["text"] for message in snapshot["messages"]}
    dropped = {
        message_id
        for event in log.events
        if event["type"] == "history.rolled_back"
        for message_id in event["message_ids"]
    }
    for event in log.events:
        if event["type"] == "message.completed" and event["message_id"] not in dropped:
            assert texts[event["message_id"]] == event["text"]


@pytest.mark.fault("F45")
@pytest.mark.rule("snapshot.fold")
async def test_the_snapshot_of_any_story_is_the_fold_of_its_log(
    judge: Judge, random: Random
) -> None:
    await check_folds(judge, random, 40)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.fault("F45")
async def test_the_snapshots_of_many_stories_are_the_folds_of_their_logs(
    judge: Judge, random: Random
) -> None:
    await check_folds(judge, random, 3000)
