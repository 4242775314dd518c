"""Joining late: one snapshot for all who come, the reason for all who were too far behind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.config import Settings
from gateway.errors import SessionGone
from gateway.log.engine import Write
from gateway.log.position import Position
from gateway.transports.reading import BATCH_ENTRIES, Control, Reading
from gateway.transports.services import Services
from runtime.events import MessageDelta, MessageStarted
from tests.support.readers import READERS, Refused
from tests.support.site import Site, Talk, running_site

SHORT: dict[str, Any] = {"keep_events": 50, "keep_hours": 0, "sweep_s": 10**6}


async def sweep(site: Site) -> None:
    await site.manager._sweeper.sweep()


async def finish(talk: Talk) -> None:
    """End the run of a talk, and wait until the log says so."""
    reader = await talk.site.read("ndjson", talk.session_id)
    await talk.end()
    await reader.until("run.completed")


async def tell_much(talk: Talk, number: int) -> None:
    """Say one message in so many pieces."""
    of = {"run_id": talk.run_id, "message_id": "msg_1"}
    await talk._part.emit(MessageStarted(**of))
    for _ in range(number):
        await talk._part.emit(MessageDelta(**of, text="word "))


@pytest.mark.rule("join.late")
async def test_all_who_join_at_one_position_get_one_encoding_on_every_transport(
    site: Site,
) -> None:
    talk = await site.talk()
    await tell_much(talk, 500)
    session = await site.manager._session(talk.session_id)
    before = session._show.times
    readers = [
        await site.read(transport, talk.session_id) for transport in READERS for _ in range(10)
    ]
    resets = [await reader.next() for reader in readers]
    async with site.http.get(f"/v1/sessions/{talk.session_id}") as response:
        asked = await response.read()
    assert session._show.times == before + 1
    assert len({reset.raw for reset in resets}) == 1
    assert resets[0].raw.endswith(b',"snapshot":%b}' % asked)
    assert (resets[0].type, resets[0]["reason"]) == ("stream.reset", "joined")
    snapshot = orjson.loads(asked)
    assert snapshot == (await site.manager.snapshot(talk.session_id)).as_json()
    assert resets[0]["cursor"] == snapshot["cursor"]
    assert {(await reader.next()).type for reader in readers} == {"stream.caught_up"}
    await talk.tell("next")
    await (await site.read("sse", talk.session_id)).next()
    assert session._show.times == before + 2


@pytest.mark.rule("join.late")
async def test_what_a_joiner_gets_is_as_large_as_the_conversation_not_as_the_log(
    site: Site, transport: str
) -> None:
    few, many = await site.talk(), await site.talk()
    await tell_much(few, 10)
    await tell_much(many, 1000)
    joined = [await site.read(transport, talk.session_id) for talk in (few, many)]
    sizes = [len((await reader.next()).raw) for reader in joined]
    assert sizes[1] - sizes[0] < 990 * len("word ") + 100


async def test_readers_for_different_reasons_share_the_snapshot_but_not_the_frame(
    site: Site, transport: str
) -> None:
    talk = await site.talk()
    await talk.tell(*range(10))
    first, tail = await talk.head()
    epoch, seq, tag = tail.split(".")
    ahead = await site.read(transport, talk.session_id, f"{epoch}.{int(seq) + 1}.{tag}")
    joined = await site.read(transport, talk.session_id)
    reasons = [(await reader.next())["reason"] for reader in (ahead, joined)]
    assert reasons == ["cursor_ahead", "joined"]
    assert first


# --- the hot window ----------------------------------------------------------------------------


@pytest.mark.rule("retention.window", "reset.honest")
@pytest.mark.fault("F25", holds=("I7",))
async def test_cursors_at_the_trim_point_and_on_both_sides_of_it(transport: str) -> None:
    async with running_site(**SHORT) as site:
        talk = await site.talk()
        await talk.tell(*range(100))
        all_events = await site.read(transport, talk.session_id, "0")
        seen = {m["seq"]: m["cursor"] for m in await all_events.events(100)}
        await finish(talk)
        await sweep(site)
        start, tail = await talk.head()
        point = Position.parse(start).seq
        before = await site.read(transport, talk.session_id, seen[point - 1])
        reset = await before.next()
        assert (reset.type, reset["reason"], reset["cursor"]) == ("stream.reset", "trimmed", tail)
        assert reset["snapshot"]["cursor"] == tail
        for cursor in (seen[point], seen[point + 1]):
            reader = await site.read(transport, talk.session_id, cursor)
            event = await reader.next()
            assert event["seq"] == Position.parse(cursor).seq + 1
        whole = await site.read(transport, talk.session_id, "0")
        assert (await whole.next())["seq"] == point + 1


@pytest.mark.rule("retention.window", "reset.honest")
@pytest.mark.fault("F25", holds=("I7",))
async def test_a_replay_that_the_sweep_overtakes_ends_in_a_snapshot() -> None:
    async with running_site(**SHORT) as site:
        talk = await site.talk()
        await talk.tell(*range(4 * BATCH_ENTRIES))
        await finish(talk)
        reading = await Reading.open(Services(site.manager, Settings()), talk.session_id, "0")
        async with asyncio.timeout(30), aclosing(reading.steps(idle=30)) as steps:
            first = await anext(steps)
            assert not isinstance(first, Control)
            assert len(first) == BATCH_ENTRIES
            await sweep(site)
            reset = await anext(steps)
            assert isinstance(reset, Control)
            assert reset.message["reason"] == "trimmed"
            assert reset.message["cursor"] == (await talk.head())[1]


async def test_a_client_whose_checkpoint_was_trimmed_is_told_on_its_stream() -> None:
    async with running_site(**SHORT) as site:
        talk = await site.talk()
        first, _ = await talk.head()
        url = f"/v1/clients/tab/subscriptions/{talk.session_id}"
        async with site.http.put(url, json={"after": first}) as response:
            assert response.status == 204
        await talk.tell(*range(200))
        await finish(talk)
        await sweep(site)
        async with site.http.get("/v1/clients/tab/events") as response:
            line = b""
            while not line.startswith(b"data:"):
                line = await response.content.readline()
            told = orjson.loads(line[5:])
        assert (told["type"], told["reason"]) == ("stream.reset", "trimmed")
        assert told["snapshot"]["session_id"] == talk.session_id


# --- forks and tombstones on the wire ----------------------------------------------------------


@pytest.mark.rule("fork.history", "command.ack")
async def test_a_fork_is_acknowledged_with_its_id_and_refused_with_its_reason(site: Site) -> None:
    talk = await site.talk()
    ack = await site.command(talk.session_id, "fork", to="branch")
    assert ack["forked"] == "branch"
    async with site.http.get("/v1/sessions/branch") as response:
        assert [m["text"] for m in (await response.json())["messages"]] == ["go"]
    fork = {"type": "fork", "id": "f2", "at": "other.1.00000000"}
    url = f"/v1/sessions/{talk.session_id}/commands"
    async with site.http.post(url, json=fork) as response:
        problem = await response.json()
        assert (response.status, problem["reason"]) == (410, "epoch_changed")
    async with site.http.ws_connect("/v1/ws") as socket:
        await socket.receive_json()
        await socket.send_json({**fork, "session_id": talk.session_id})
        nack = await socket.receive_json()
        assert (nack["type"], nack["error"]["code"]) == ("nack", "cursor_invalid")
        assert "epoch_changed" in nack["error"]["message"]


async def test_what_was_deleted_is_gone_on_every_way_to_it_after_a_restart_too(
    tmp_path: Path,
) -> None:
    stored: dict[str, Any] = {"engine": "sqlite", "data": tmp_path}
    async with running_site(**stored) as site:
        talk = await site.talk("gone")
        readers = [await site.read(transport, "gone", "$") for transport in READERS]
        for reader in readers:
            await reader.until("stream.caught_up")
        async with site.http.delete("/v1/sessions/gone") as response:
            assert response.status == 204
        for reader in readers:
            told = await reader.until("stream.closing")
            assert told[-1]["reason"] in {"closed", "deleted"}
        with pytest.raises(SessionGone):
            await site.engine.append(Write("gone", [b'{"type":"late"}']))
        assert talk.run_id
        await check_gone(site)
    async with running_site(**stored) as site:
        await check_gone(site)


async def check_gone(site: Site) -> None:
    for transport in READERS:
        with pytest.raises(Refused) as refused:
            await site.read(transport, "gone")
        assert refused.value.code == "session_gone"
    url = "/v1/sessions/gone"
    commands: list[dict[str, Any]] = [
        {"type": "send", "id": "c1", "text": "hi"},
        {"type": "cancel", "id": "c2"},
        {"type": "continue", "id": "c3"},
        {"type": "edit_queue", "id": "c4"},
        {"type": "fork", "id": "c5"},
    ]
    for command in commands:
        async with site.http.post(f"{url}/commands", json=command) as response:
            assert response.status == 410, command
    async with site.http.ws_connect("/v1/ws") as socket:
        await socket.receive_json()
        for command in commands:
            await socket.send_json({**command, "session_id": "gone"})
            assert (await socket.receive_json())["error"]["code"] == "session_gone"
    for path in (url, f"{url}/events"):
        async with site.http.get(path) as response:
            assert response.status == 410
    async with site.http.put("/v1/clients/tab/subscriptions/gone", json={}) as response:
        assert response.status == 410
    async with site.http.post("/v1/sessions", json={"session_id": "gone"}) as response:
        assert response.status == 410


# --- a backup ----------------------------------------------------------------------------------


@pytest.mark.rule("reset.honest", "cursor.form")
@pytest.mark.fault("F26", holds=("I2", "I7"))
async def test_after_an_old_backup_was_put_back_every_newer_cursor_is_told(
    tmp_path: Path, transport: str
) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    stored: dict[str, Any] = {"engine": "sqlite", "data": data}
    database = data / "tidegate.db"

    async def one_more(site: Site) -> list[dict[str, Any]]:
        """Take a turn; return all that the log has then."""
        talk = await site.talk("s")
        await talk.tell("more")
        await finish(talk)
        reader = await site.read(transport, "s", "0")
        return [message.data for message in await reader.until("stream.caught_up")][:-1]

    async with running_site(**stored) as site:
        old = await one_more(site)
    backup.write_bytes(database.read_bytes())
    async with running_site(**stored) as site:
        lost = (await one_more(site))[len(old) :]
    database.write_bytes(backup.read_bytes())
    async with running_site(**stored) as site:
        ahead = await site.read(transport, "s", lost[-1]["cursor"])
        reset = await ahead.next()
        assert (reset.type, reset["reason"]) == ("stream.reset", "cursor_ahead")
        now = await one_more(site)
        assert now[: len(old)] == old
        assert {event["cursor"] for event in now}.isdisjoint(event["cursor"] for event in lost)
        told = []
        for event in lost:
            reader = await site.read(transport, "s", event["cursor"])
            reset = await reader.next()
            assert reset.type == "stream.reset"
            told.append(reset["reason"])
        assert set(told) <= {"fork", "cursor_ahead"}
        assert "fork" in told
        kept = await site.read(transport, "s", old[-1]["cursor"])
        assert (await kept.next())["seq"] == old[-1]["seq"] + 1
