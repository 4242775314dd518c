"""HTTP requests that no client should send, and connections that only pretend to send one."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import orjson
import psutil
import pytest
import pytest_asyncio

from tests.support.raw import Raw, raw
from tests.support.server import Server, running_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

KIB = 1024
BODY_SECONDS = 0.4
IDLE_SECONDS = 1.0
MOST_CONNECTIONS = 30
JSON = b"Content-Type: application/json\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One server for all that is hostile, as it is in life; it must not have noticed in the end."""
    environment = {
        "TIDEGATE_BODY_TIMEOUT_S": str(BODY_SECONDS),
        "TIDEGATE_IDLE_TIMEOUT_S": str(IDLE_SECONDS),
        "TIDEGATE_MAX_CONNECTIONS": str(MOST_CONNECTIONS),
        "TIDEGATE_MAX_STREAMS": "5",
        "TIDEGATE_ENGINE": "memory",
    }
    async with running_server(tmp_path_factory.mktemp("data"), environment=environment) as server:
        yield server
        assert not [line for line in server.output if '"level":"error"' in line]


def host(server: Server) -> bytes:
    return b"Host: 127.0.0.1:%d\r\n" % server.port


async def until_empty(server: Server) -> None:
    """Wait until the server has no connection any more."""
    process = psutil.Process(server.pid)
    async with asyncio.timeout(30):
        while len(process.net_connections()) > 1:  # noqa: ASYNC110 - only the kernel tells
            await asyncio.sleep(0.02)


async def asked(
    server: Server, head: bytes, body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and return the status, the head and the body of the answer."""
    async with raw(("127.0.0.1", server.port)) as client:
        client.writer.write(head.replace(b"HOST\r\n", host(server)) + body)
        return await answer(client)


async def answer(client: Raw) -> tuple[int, dict[str, str], bytes]:
    status, fields = await client.head()
    async with asyncio.timeout(30):
        return status, fields, await client.reader.readexactly(int(fields["content-length"]))


GET = b"GET /healthz HTTP/1.1\r\nHOST\r\n"
POST = b"POST /v1/sessions HTTP/1.1\r\nHOST\r\n" + JSON


@pytest.mark.fault("F40", holds=("I9",))
@pytest.mark.rule("http.problem")
@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHOST\r\n\r\n", id="a long path"),
        pytest.param(GET + b"X: " + b"a" * 20_000 + b"\r\n\r\n", id="a long header"),
        pytest.param(GET + b"X-1: 1\r\n" * 500 + b"\r\n", id="many headers"),
        pytest.param(GET + b"X-1: 1\r\n" * 100_000, id="headers without an end"),
        pytest.param(GET.replace(b"HOST\r\n", b"") + b"\r\n", id="no host"),
        pytest.param(GET + b"HOST\r\n\r\n", id="two hosts"),
        pytest.param(GET.replace(b"/healthz", b"http://[::1") + b"\r\n", id="half an address"),
        pytest.param(POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", id="two lengths"),
        pytest.param(
            POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="a length and chunks",
        ),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", id="a chunk of no size"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
    ],
)
async def test_what_is_no_request_is_a_problem_and_no_error_of_the_server(
    server: Server, head: bytes
) -> None:
    status, fields, body = await asked(server, head)
    assert status == 400
    assert fields["content-type"].startswith("application/problem+json")
    assert orjson.loads(body)["code"] == "bad_request"


def nested(levels: int) -> bytes:
    return b'{"agent":"echo","metadata":{"a":%b%b}}' % (b"[" * levels, b"]" * levels)


@pytest.mark.fault("F40", holds=("I9",))
@pytest.mark.rule("http.problem", "http.json_only")
@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        pytest.param(b"", nested(99), 422, "command_malformed", id="nested too deep"),
        pytest.param(b"", nested(500), 422, "command_malformed", id="nested far too deep"),
        pytest.param(b"", nested(50_000), 422, "command_malformed", id="nested without an end"),
        pytest.param(b"", b"\xff\xfe{}", 422, "command_malformed", id="not UTF-8"),
        pytest.param(b"", b'{"a":"\\ud800"}', 422, "command_malformed", id="half a surrogate"),
        pytest.param(
            b"Content-Encoding: gzip\r\n", b"abc", 422, "command_malformed", id="not gzip"
        ),
        pytest.param(
            b"Content-Encoding: gzip\r\n",
            gzip.compress(b" " * (100 * KIB * KIB)),
            413,
            "command_too_large",
            id="100 MiB in 100 KiB",
        ),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_with_its_code(
    server: Server, headers: bytes, body: bytes, status: int, code: str
) -> None:
    head = POST + headers + b"Content-Length: %d\r\n\r\n" % len(body)
    got, _, problem = await asked(server, head, body)
    assert (got, orjson.loads(problem)["code"]) == (status, code)


async def test_json_may_be_nested_as_deep_as_is_said(server: Server) -> None:
    body = nested(98)  # and the two objects around it
    status, _, _ = await asked(server, POST + b"Content-Length: %d\r\n\r\n" % len(body), body)
    assert status == 201


async def test_many_parameters_are_no_trouble(server: Server) -> None:
    query = b"a=1&" * 2000
    status, _, _ = await asked(server, b"GET /v1/sessions?" + query + GET[12:] + b"\r\n")
    assert status == 200


@pytest.mark.fault("F40", holds=("I9",))
@pytest.mark.rule("http.slow")
@pytest.mark.parametrize("path", [b"/v1/sessions", b"/api/chat", b"/v1/chat/completions"])
async def test_a_body_that_does_not_come_gets_408(server: Server, path: bytes) -> None:
    head = POST.replace(b"/v1/sessions", path) + b"Content-Length: 100\r\n\r\n{"
    async with raw(("127.0.0.1", server.port)) as client:
        client.writer.write(head.replace(b"HOST\r\n", host(server)))
        async with asyncio.timeout(30):
            assert (await client.head())[0] == 408


@pytest.mark.fault("F40", holds=("I9",))
@pytest.mark.rule("http.slow")
async def test_a_body_that_comes_byte_by_byte_gets_408(server: Server) -> None:
    async with raw(("127.0.0.1", server.port)) as client, asyncio.TaskGroup() as tasks:
        head = POST + b"Content-Length: 1000\r\n\r\n{"
        client.writer.write(head.replace(b"HOST\r\n", host(server)))
        dripping = tasks.create_task(drip(client, b" "))
        status, _, problem = await answer(client)
        dripping.cancel()
    assert (status, orjson.loads(problem)["code"]) == (408, "request_timeout")


async def drip(client: Raw, piece: bytes) -> None:
    """Send a little again and again, until the connection is closed."""
    while not client.writer.is_closing():
        client.writer.write(piece)
        await asyncio.sleep(0.05)


@pytest.mark.fault("F40", holds=("I9",))
@pytest.mark.rule("http.slow")
async def test_heads_that_never_end_are_closed_and_nobody_else_waits(server: Server) -> None:
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        clients = [
            await stack.enter_async_context(raw(("127.0.0.1", server.port))) for _ in range(20)
        ]
        for number, client in enumerate(clients):
            if number % 2:  # the others send nothing at all
                client.writer.write(GET.replace(b"HOST\r\n", host(server)))
                tasks.create_task(drip(client, b"X: 1\r\n"))
        assert (await asked(server, GET + b"\r\n"))[0] == 200
        async with asyncio.timeout(30):
            for client in clients:
                await client.reader.read()


@pytest.mark.fault("F40", holds=("I9",))
@pytest.mark.rule("http.slow")
async def test_a_connection_that_is_kept_for_nothing_is_closed(server: Server) -> None:
    async with raw(("127.0.0.1", server.port)) as client:
        client.writer.write(GET.replace(b"HOST\r\n", host(server)) + b"\r\n")
        assert (await answer(client))[0] == 200
        async with asyncio.timeout(30):
            assert await client.reader.read() == b""


@pytest.mark.rule("server.full")
async def test_one_connection_too_many_is_told_to_come_back(server: Server) -> None:
    await until_empty(server)
    async with AsyncExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            await stack.enter_async_context(raw(("127.0.0.1", server.port)))
        status, fields, body = await asked(server, GET + b"\r\n")
        assert (status, orjson.loads(body)["code"]) == (503, "server_full")
        assert fields["retry-after"] in {"1", "2", "3", "4"}
    await until_empty(server)
    assert (await asked(server, GET + b"\r\n"))[0] == 200


@pytest.mark.rule("server.full", "ws.codes")
async def test_one_stream_too_many_is_told_to_come_back_and_commands_still_work(
    server: Server,
) -> None:
    created = orjson.dumps({"session_id": "full", "agent": "echo"})
    await asked(server, POST + b"Content-Length: %d\r\n\r\n" % len(created), created)
    stream = b"GET /v1/sessions/full/events HTTP/1.1\r\nHOST\r\nAccept: text/event-stream\r\n\r\n"
    upgrade = (
        b"GET /v1/ws HTTP/1.1\r\nHOST\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with AsyncExitStack() as stack:
        for number in range(5):
            client = await stack.enter_async_context(raw(("127.0.0.1", server.port)))
            client.writer.write((stream, upgrade)[number % 2].replace(b"HOST\r\n", host(server)))
            await client.until((b"stream.caught_up", b"hello")[number % 2])
        status, fields, body = await asked(server, stream)
        assert (status, orjson.loads(body)["code"]) == (503, "server_full")
        assert fields["retry-after"] in {"1", "2", "3", "4"}
        async with raw(("127.0.0.1", server.port)) as client:
            client.writer.write(upgrade.replace(b"HOST\r\n", host(server)))
            assert (await client.head())[0] == 101
            assert (await client.until(b"\x03\xf5"))[:1] == b"\x88", "1013"
        assert (await asked(server, GET + b"\r\n"))[0] == 200
    await until_empty(server)
    async with raw(("127.0.0.1", server.port)) as client:
        client.writer.write(stream.replace(b"HOST\r\n", host(server)))
        assert (await client.head())[0] == 200


@pytest.mark.fault("F40", holds=("I9",))
@pytest.mark.rule("http.problem")
async def test_a_body_that_goes_wrong_after_its_answer_is_no_error_of_the_server(
    server: Server,
) -> None:
    head = POST.replace(b"/v1/sessions", b"/nowhere")
    head += b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n"
    async with raw(("127.0.0.1", server.port)) as client:
        client.writer.write(head.replace(b"HOST\r\n", host(server)))
        assert (await answer(client))[0] == 404
        client.writer.write(b"abc")
        assert await client.rest() == b""  # what the server logged is looked at in its fixture
