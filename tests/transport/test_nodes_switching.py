"""One reader, several nodes: a cursor of one goes on exactly on another, over whatever transport."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from gateway.log.position import Position
from runtime.events import Custom
from tests.support.puppet import Part, Puppet
from tests.support.readers import Message
from tests.support.shared import Hintless, Node, Unsteady, sharing

Nodes = list[Node]

SAYINGS = 60


class Talker:
    """An agent that says numbers as fast as its log takes them, and ends."""

    def __init__(self) -> None:
        self.puppet = Puppet(self._play)

    async def _play(self, part: Part) -> None:
        for number in range(SAYINGS):
            await part.emit(Custom(run_id=part.run_id, name="told", payload=number))
            await asyncio.sleep(0.005)
        await part.end("done")


@pytest.fixture(params=[Unsteady, Hintless], ids=["hints", "no hints"])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    """Three nodes; where all hints are lost, it takes longer, and nothing else is different."""
    fleets = [(Talker().puppet,) for _ in range(3)]
    async with sharing(request.param(), *fleets) as nodes:
        await nodes[0].create("s")
        yield nodes


@pytest.mark.rule("resume.exact", "resume.no_hole", "ws.equal")
@pytest.mark.fault("F22", holds=("I3", "I8"))
async def test_a_reader_that_changes_transport_and_node_in_mid_run_gets_each_event_once(
    nodes: Nodes,
) -> None:
    ways = itertools.cycle(["sse", "websocket", "ndjson"])
    places = itertools.cycle(nodes[1:] + nodes[:1])
    seen: list[Message] = []
    cursor = "0"
    await nodes[0].command("s", "c1", type="send", text="go")
    async with asyncio.timeout(60):
        while not seen or seen[-1].type != "run.completed":
            reader = await next(places).read(next(ways), "s", cursor)
            seen += await reader.events(1)
            while seen[-1]["seq"] % 7 and seen[-1].type != "run.completed":
                seen += await reader.events(1)
            cursor = seen[-1]["cursor"]
            await reader.cut()
        whole = await nodes[2].read("sse", "s", "0")
        told = await whole.events(len(seen))
    assert [message["seq"] for message in seen] == list(range(1, len(seen) + 1))
    assert [message["payload"] for message in seen if message.type == "custom"] == [*range(SAYINGS)]
    assert [message.raw for message in told] == [message.raw for message in seen]


@pytest.mark.rule("join.late", "snapshot.fold")
async def test_who_joins_on_another_node_is_not_behind_what_a_reader_has_seen(nodes: Nodes) -> None:
    here, *others = nodes
    reader = await here.read("sse", "s", "0")
    for node in others:
        await node.ask("GET", "/v1/sessions/s")  # so that it has the session as it was
    await here.command("s", "c1", type="send", text="go")
    joined = 0
    async with asyncio.timeout(60):
        for node, transport in zip(others * 6, itertools.cycle(["sse", "websocket"]), strict=False):
            (seen,) = await reader.events(1)
            joiner = await node.read(transport, "s")
            reset = await joiner.next()
            assert (reset.type, reset["reason"]) == ("stream.reset", "joined")
            assert Position.parse(reset["cursor"]).seq >= seen["seq"]
            assert reset["snapshot"]["cursor"] == reset["cursor"]
            if reset["snapshot"]["status"] != "running":
                break
            (after,) = await joiner.events(1)
            assert after["seq"] == Position.parse(reset["cursor"]).seq + 1
            await joiner.cut()
            status, snapshot = await node.ask("GET", "/v1/sessions/s")
            assert status == 200
            assert Position.parse(snapshot["cursor"]).seq >= after["seq"]
            joined += 1
    assert joined
