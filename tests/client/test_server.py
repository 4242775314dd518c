"""The Python library against real servers that are killed, cut off and restarted."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from gateway.client import (
    Client,
    Entry,
    Refused,
    Reset,
    Session,
    SessionGone,
    SessionUnknown,
    SyncClient,
    Unreachable,
)
from gateway.client.transports import TransportName
from tests.cli.support.proxy import proxied
from tests.support.followers import ENDS, check_history
from tests.support.gates import GATE, open_gate
from tests.support.server import Server, running_server
from tests.support.site import running_site

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = " ".join(f"word{number}" for number in range(40))
ECHO = {"options": {"interval_ms": 8}}
PATIENCE = 60
TRANSPORTS: tuple[TransportName, ...] = ("websocket", "sse")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One server for all tests that need a real one; who kills it starts it again."""
    agents = "tests.support.agents:registry"
    async with running_server(tmp_path_factory.mktemp("data"), [agents]) as running:
        yield running


@pytest.fixture(autouse=True)
def loaded_dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients that lost their connection wait little, instead of for a time that is rolled."""
    monkeypatch.setattr("gateway.client.following.random", SimpleNamespace(random=lambda: 0.1))


def held(stop: int) -> str:
    """Return what `held` is told to say: some words, and a gate after so many of them."""
    words = WORDS.split()
    return " ".join([*words[:stop], GATE, *words[stop:]])


class Listener:
    """Iterates over a session, as a program does that keeps what it is told."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events: list[dict[str, Any]] = []
        self.resets: list[Reset] = []
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        async with aclosing(self.session.events()) as items:
            async for item in items:
                if isinstance(item, Entry):
                    self.events.append(dict(item.data))
                else:
                    assert item.snapshot
                    self.resets.append(item)
                self._changed.set()

    async def until(self, enough: Callable[[list[dict[str, Any]]], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not enough(self.events):
                self._changed.clear()
                await self._changed.wait()

    async def until_ends(self, count: int) -> None:
        await self.until(lambda events: sum(each["type"] in ENDS for each in events) >= count)

    async def until_words(self, run_id: str | None, count: int) -> None:
        def said(events: list[dict[str, Any]]) -> int:
            own = [each for each in events if each.get("run_id") == run_id]
            return sum(len(e["text"].split()) for e in own if e["type"] == "message.delta")

        await self.until(lambda events: said(events) >= count)


@asynccontextmanager
async def listening(*sessions: Session) -> AsyncIterator[list[Listener]]:
    listeners = [Listener(session) for session in sessions]
    tasks = [asyncio.create_task(listener.listen()) for listener in listeners]
    try:
        yield listeners
    finally:
        for task in tasks:
            task.cancel()
        for outcome in (await asyncio.wait(tasks))[0]:
            assert outcome.cancelled() or outcome.exception() is None


async def again(server: Server) -> None:
    await server.kill()
    await server.restart()


@pytest.mark.rule("resume.exact", "run.one_end")
@pytest.mark.timeout(120)
async def test_kills_in_mid_run_cost_no_event_and_repeat_none_on_either_transport(
    server: Server,
) -> None:
    async with Client(server.url) as client:
        made = await client.create("killed", agent="held")
        sessions = [client.session("killed", after="0", transport=name) for name in TRANSPORTS]
        async with listening(*sessions) as listeners:
            for number, stop in enumerate((5, 20), start=1):
                ack = await made.send(held(stop))
                await listeners[number - 1].until_words(ack.run_id, stop)
                await again(server)
                await open_gate(server.url)
                for listener in listeners:
                    await listener.until_ends(number)
        for listener in listeners:
            check_history(listener.events)
            assert listener.events == listeners[0].events
            assert listener.resets == []
        types = [event["type"] for event in listeners[0].events]
        assert types.count("run.attempt_started") == 2
        assert listeners[0].events[-1]["output"] == held(20)


@pytest.mark.rule("resume.exact", "wire.same")
async def test_a_session_goes_on_over_another_transport_from_a_saved_cursor(server: Server) -> None:
    async with Client(server.url) as client:
        made = await client.create("saved", agent="echo")
        await made.send(WORDS, **ECHO)
        events: list[dict[str, Any]] = []
        cursor = "0"
        for turn in range(60):
            name = TRANSPORTS[turn % 2]
            # Another object each time: nothing but the cursor is kept, as by a program that is new.
            session = client.session("saved", after=cursor, transport=name)
            async with aclosing(session.events()) as items:
                for _ in range(3):
                    item = await anext(items)
                    assert isinstance(item, Entry)
                    events.append(dict(item.data))
                    cursor = item.cursor
                    if item.type in ENDS:
                        break
            if events[-1]["type"] in ENDS:
                break
        check_history(events)


@pytest.mark.rule("command.once")
@pytest.mark.timeout(120)
async def test_commands_that_are_given_while_the_server_is_away_have_one_effect_each(
    server: Server,
) -> None:
    async with Client(server.url) as client:
        session = await client.create("away", agent="echo")
        await server.kill()
        sending = [asyncio.create_task(session.send(f"number {n}")) for n in range(3)]
        await asyncio.wait(sending, timeout=0.3)
        assert not any(task.done() for task in sending)
        await server.restart()
        async with asyncio.timeout(PATIENCE):
            runs = {(await task).run_id for task in sending}
        assert len(runs) == 3
        async with listening(client.session("away", after="0")) as (listener,):
            await listener.until_ends(3)
        accepted = [e for e in listener.events if e["type"] == "input.accepted"]
        assert sorted(e["message"]["content"] for e in accepted) == [
            f"number {n}" for n in range(3)
        ]


@pytest.mark.rule("command.once")
@pytest.mark.timeout(120)
async def test_an_answer_is_asked_for_once_though_the_ack_is_lost_and_the_line_is_cut(
    server: Server,
) -> None:
    async with (
        proxied(server.port, cut_after=b'"ack"') as proxy,
        Client(f"127.0.0.1:{proxy.port}") as client,
    ):
        session = await client.create("asked", agent="held")
        asking = asyncio.create_task(session.ask(held(5)))
        async with listening(client.session("asked", after="0")) as (listener,):
            await listener.until(lambda events: any("text" in event for event in events))
            proxy.cut()
            await open_gate(server.url)
            assert await asking == held(5)
            await listener.until_ends(1)
        types = [event["type"] for event in listener.events]
        assert types.count("input.accepted") == 1
        assert proxy.connections > 2


@pytest.mark.rule("join.late", "approval.shared")
async def test_whoever_joins_late_gets_the_state_with_the_open_question_and_then_what_comes(
    server: Server,
) -> None:
    async with Client(server.url) as client:
        made = await client.create("joined", agent="tools")
        run = made.run("delete notes.txt")
        async for _ in run:
            pass
        assert run.end is not None
        assert run.end.type == "run.interrupted"
        async with aclosing(client.session("joined").events()) as items, asyncio.timeout(PATIENCE):
            joined = await anext(items)
            assert isinstance(joined, Reset)
            assert joined.reason == "joined"
            (approval,) = joined.snapshot["approvals"]
            decision = {"approval_id": approval["approval_id"], "decision": "approve"}
            await made.continue_(decisions=[decision])
            types = [str(getattr(await anext(items), "type", ""))]
            while types[-1] != "run.completed":
                types.append(str(getattr(await anext(items), "type", "")))
        assert types[0] == "approval.resolved"


async def test_many_sessions_of_one_client_go_side_by_side() -> None:
    async with running_site() as site, Client(site.url) as client, asyncio.timeout(PATIENCE):
        talks = [await site.talk(f"s{n}") for n in range(20)]
        sessions = [
            client.session(talk.session_id, after="0", transport=TRANSPORTS[n % 2])
            for n, talk in enumerate(talks)
        ]
        async with listening(*sessions) as listeners:
            for n in range(3):
                for talk in talks:
                    await talk.tell({"n": n, "for": talk.session_id})
            for talk in talks:
                await talk.end("done")
            for talk, listener in zip(talks, listeners, strict=True):
                await listener.until_ends(1)
                check_history(listener.events)
                told = [e["payload"] for e in listener.events if e["type"] == "custom"]
                assert told == [{"n": n, "for": talk.session_id} for n in range(3)]


async def test_a_fork_names_the_session_that_it_made() -> None:
    async with running_site() as site, Client(site.url) as client:
        talk = await site.talk("s")
        await talk.end("done")
        session = client.session("s")
        made = await session.command("fork")
        assert made.forked is not None
        snapshot = await client.session(made.forked).snapshot()
        assert snapshot["session_id"] == made.forked != "s"
        chosen = await session.command("fork", to="mine")
        assert chosen.forked == "mine"
        assert (await session.send("go")).forked is None


@pytest.mark.rule("ws.heartbeat")
async def test_a_loop_body_that_takes_long_does_not_cost_the_connection() -> None:
    async with running_site(ws_heartbeat_s=0.8) as site, Client(site.url) as client:
        talk = await site.talk()
        await talk.tell(1)
        run = client.session(talk.session_id).follow_run(talk.run_id, after="0")
        async with aclosing(run.events()) as told, asyncio.timeout(PATIENCE):
            first = await anext(told)
            await asyncio.sleep(1.5)  # the server cuts a peer that it has not heard for 1.2 s
            await talk.end("done")
            rest = [each async for each in told]
        assert all(isinstance(each, Entry) for each in (first, *rest))


@pytest.mark.rule("sse.end")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_end_of_a_session_ends_the_loop_and_a_deleted_one_is_told_to_be_gone(
    transport: TransportName,
) -> None:
    async with running_site() as site, Client(site.url) as client, asyncio.timeout(PATIENCE):
        await site.create("s")
        session = client.session("s", after="0", transport=transport)
        async with aclosing(session.events()) as items:
            assert getattr(await anext(items), "type", "") == "session.created"
            await client.delete("s")
            rest = [getattr(item, "type", "") async for item in items]
        assert rest == ["session.closed"]
        late = client.session("s", after="0", transport=transport)
        with pytest.raises(SessionGone):
            await anext(late.events())
        never = client.session("never", transport=transport)
        with pytest.raises(SessionUnknown):
            await anext(never.events())
        with pytest.raises(SessionGone):
            await session.send("hi")


async def test_what_a_server_offers_and_keeps_can_be_asked() -> None:
    async with running_site() as site, Client(site.url) as client:
        names = [agent["name"] for agent in await client.agents()]
        for n in range(55):
            await client.create(f"s{n}", metadata={"n": n})
        assert [each["session_id"] async for each in client.sessions()] == [
            f"s{n}" for n in reversed(range(55))
        ]
        twice = [await client.create(metadata={"n": 1}) for _ in range(2)]
        assert twice[0].session_id != twice[1].session_id
        assert (await twice[0].snapshot())["agent"] == names[0]
        with pytest.raises(Refused, match="created differently"):
            await client.create("s1", metadata={"n": 2})
        with pytest.raises(Refused, match="policy") as refused:
            await twice[0].send("hi", policy="whim")
        assert refused.value.code == "command_malformed"


async def test_a_question_to_a_server_that_is_not_there_is_unreachable_at_once() -> None:
    async with Client("127.0.0.1:9") as client:
        with pytest.raises(Unreachable, match="no server answers at"):
            await client.agents()
    with pytest.raises(ValueError, match="no address"):
        Client("ftp://somewhere")


SCRIPT = """
import sys
from gateway.client import Entry, Reset, Refused, SyncClient

with SyncClient(sys.argv[1]) as client:
    session = client.create("script", agent="echo")
    print(session.ask("one two three"))
    session.send("four")
    for item in client.session("script", after="0"):
        if isinstance(item, Entry):
            print(item.seq, item.type)
            if item.type == "run.completed" and item.data["output"] == "four":
                break
    run = session.run("five six " * 200, options={"interval_ms": 20})
    for item in run:
        if isinstance(item, Entry) and item.type == "message.delta":
            run.cancel()
    print(run.end.type, session.snapshot()["status"])
    for item in client.session("script"):
        print(item.reason, len(item.snapshot["messages"]))
        break
    try:
        session.command("continue", run_id="nobody")
    except Refused as refused:
        print(refused.code)
    print([each["session_id"] for each in client.sessions()].count("script") == 1)
client.close()
try:
    session.ask("after the end")
except RuntimeError as error:
    print(error)
"""


async def test_closing_a_client_ends_the_loops_of_other_threads() -> None:
    begun, seen = threading.Event(), []

    def listen(client: SyncClient) -> str:
        with pytest.raises(RuntimeError) as told:  # noqa: PT012 - the loop is what raises
            for item in client.session("s", after="0"):
                seen.append(item.cursor)
                begun.set()
        return str(told.value)

    async with running_site() as site, asyncio.timeout(PATIENCE):
        await site.create("s")
        client = await asyncio.to_thread(SyncClient, site.url)
        loop = asyncio.create_task(asyncio.to_thread(listen, client))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        await asyncio.to_thread(client.close)
        await asyncio.to_thread(client.close)
        assert await loop == "the client is closed"
    assert len(seen) == 1


async def test_whatever_threads_begin_while_a_client_closes_ends_too() -> None:
    def ask(client: SyncClient, begun: threading.Event) -> str:
        with pytest.raises(RuntimeError) as told:  # noqa: PT012 - any question may be the last
            while True:
                client.agents()
                begun.set()
        return str(told.value)

    async with running_site() as site, asyncio.timeout(PATIENCE):
        for _ in range(20):
            client = await asyncio.to_thread(SyncClient, site.url)
            begun = [threading.Event() for _ in range(3)]
            asking = [asyncio.create_task(asyncio.to_thread(ask, client, each)) for each in begun]
            for each in begun:
                assert await asyncio.to_thread(each.wait, PATIENCE)
            await asyncio.to_thread(client.close)
            assert {await each for each in asking} == {"the client is closed"}


async def test_a_loop_that_is_forgotten_may_be_collected_on_any_thread() -> None:
    def collect() -> None:
        gc.collect()

    def forget(client: SyncClient) -> None:
        cycle: list[Any] = [iter(client.session("s", after="0"))]
        next(cycle[0])
        cycle.append(cycle)

    async with running_site() as site, asyncio.timeout(PATIENCE):
        await site.create("s")
        client = await asyncio.to_thread(SyncClient, site.url)
        gc.disable()
        try:
            await asyncio.to_thread(forget, client)
            client._portal.post(collect)
            assert await asyncio.to_thread(client.agents)
        finally:
            gc.enable()
        await asyncio.to_thread(client.close)


async def test_a_plain_script_without_asyncio_can_do_the_same(server: Server) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, server.url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert first == "one two three"
    numbers = [int(line.split()[0]) for line in lines if line[0].isdigit()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert lines[len(numbers) :] == [
        "run.cancelled idle",
        "joined 6",
        "run_unknown",
        "True",
        "the client is closed",
    ]
