"""Readers that stop reading, on every wire: what they cost, when they are cut, how they come back."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest
import pytest_asyncio

from bench.stalled import NATIVE, WIRES, measure, stall
from tests.faults.plugin import Judge
from tests.support.frames import frame, upgrade
from tests.support.raw import raw
from tests.support.server import Server, running_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
WRITE_SECONDS = 1.0
LONG = (pytest.mark.long, pytest.mark.timeout(300))
CUT = "a client was cut because it took no bytes"


@pytest.mark.fault("F28", holds=("I9",))
@pytest.mark.rule("slow.isolated")
@pytest.mark.parametrize(
    ("readers", "words", "wires", "most"),
    [
        pytest.param(40, 2_500, WIRES, 16, id="every wire"),
        pytest.param(200, 20_000, NATIVE, 64, marks=LONG, id="200 native readers"),
        pytest.param(200, 20_000, WIRES, 64, marks=LONG, id="200 readers of every wire"),
    ],
)
async def test_readers_that_stopped_reading_cost_the_server_little(
    judge: Judge, readers: int, words: int, wires: Sequence[str], most: int
) -> None:
    cost = await asyncio.to_thread(measure, readers, words, tuple(wires))
    assert cost.events > words
    judge.say(f"{readers} stalled readers cost {cost.growth / MIB:.0f} MiB")
    assert cost.growth <= most * MIB


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A server with a session whose log is more than any socket takes, and a run that goes on."""
    environment = {
        "TIDEGATE_WRITE_TIMEOUT_S": str(WRITE_SECONDS),
        "TIDEGATE_ENGINE": "memory",
        "TIDEGATE_DELTA_INTERVAL_MS": "0",
    }
    async with running_server(tmp_path_factory.mktemp("data"), environment=environment) as server:
        async with aiohttp.ClientSession(server.url) as http:
            await _post(http, "/v1/sessions", {"session_id": "busy", "agent": "echo"})
            path = "/v1/clients/crowd/subscriptions/busy"
            await (await http.put(path, json={"after": "0"})).read()
            # As much as a command may hold, at a pace that outlasts the tests on any machine.
            say = {"type": "send", "id": "c", "text": "a " * 120_000}
            await _post(http, "/v1/sessions/busy/commands", say | {"options": {"interval_ms": 1}})
            tail = 0
            while tail < 4_000:
                async with http.get("/v1/sessions/busy") as response:
                    tail = int((await response.json())["cursor"].split(".")[1])
                await asyncio.sleep(0.05)
        yield server


async def _post(http: aiohttp.ClientSession, path: str, body: object) -> None:
    async with http.post(path, json=body) as response:
        assert response.status < 300, await response.text()


@pytest.mark.fault("F28", holds=("I9",))
@pytest.mark.rule("slow.cut")
@pytest.mark.parametrize("wire", WIRES)
async def test_a_reader_that_stopped_reading_is_cut(server: Server, wire: str) -> None:
    cuts = server.said(CUT)
    address = f"127.0.0.1:{server.port}"
    with await asyncio.to_thread(stall, address, wire, "busy"):
        await server.until_said(CUT, cuts + 1)


@pytest.mark.fault("F28", holds=("I9",))
@pytest.mark.rule("slow.cut", "ws.codes")
async def test_a_socket_that_reads_again_while_it_is_cut_is_told_why(server: Server) -> None:
    cuts = server.said(CUT)
    address = ("127.0.0.1", server.port)
    async with raw(address, receive_buffer=4096) as client:
        await upgrade(client, address)
        client.writer.write(frame(b'{"type":"subscribe","session_id":"busy","after":"0"}'))
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await server.until_said(CUT, cuts + 1)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        said = b""
        async with asyncio.timeout(30):
            while b"the client took no bytes" not in said:
                data = await client.reader.read(2**16)
                assert data, "it was not told"
                said = said[-200:] + data
    assert said[said.index(b"the client took no bytes") - 2 :][:2] == (4008).to_bytes(2)


@pytest.mark.fault("F28", holds=("I9",))
@pytest.mark.rule("slow.cut", "resume.exact")
async def test_a_reader_that_was_cut_comes_back_with_its_cursor_and_has_missed_nothing(
    server: Server,
) -> None:
    cuts = server.said(CUT)
    address = f"127.0.0.1:{server.port}"
    with await asyncio.to_thread(stall, address, "sse", "busy") as stalled:
        had = await asyncio.to_thread(_some, stalled)
        await server.until_said(CUT, cuts + 1)
    seqs = [int(seq) for seq in re.findall(rb'"seq":(\d+),[^\n]*\n\n', had)]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    cursor = re.findall(rb"id: (\S+)\ndata: [^\n]*\n\n", had)[-1].decode()
    async with aiohttp.ClientSession(server.url) as http:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
        async with http.get("/v1/sessions/busy/events", headers=headers) as response:
            event = await response.content.readuntil(b'"type":"message.delta"')
            event += await response.content.readuntil(b"\n\n")
    assert int(re.findall(rb'"seq":(\d+)', event)[0]) == seqs[-1] + 1


def _some(stalled: socket.socket) -> bytes:
    """Read a few events, and leave the rest."""
    had = b""
    while had.count(b'"type":"message.delta"') < 5:
        had += stalled.recv(65_536)
    return had
