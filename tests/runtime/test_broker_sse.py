"""The broker over HTTP: `broker.sse_handler()` in servers started the way users start them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from aiohttp.typedefs import Handler

from runtime.broker import Broker, BrokerEvent
from runtime.event_source import _Leavers
from tests.support.raw import raw

PATIENCE = 30.0
DONE = BrokerEvent(type="node_end", data={"node": "extract", "status": "done"})
FRAME = b'data: {"type":"node_end","data":{"node":"extract","status":"done"}}\n\n'


class Place:
    """A server with `/events`, and a client for it."""

    def __init__(self, port: int, http: aiohttp.ClientSession) -> None:
        self.address = ("127.0.0.1", port)
        self.http = http
        self.streams: list[Stream] = []

    async def listen(self, where: str = "/events", last: str | None = None) -> Stream:
        headers = {} if last is None else {"Last-Event-ID": last}
        response = await self.http.get(where, headers=headers)
        assert response.status == 200, await response.text()
        stream = Stream(response)
        self.streams.append(stream)
        return stream


class Stream:
    """A stream, frame by frame."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_event_id = ""

    async def block(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.response.content.readuntil(b"\n\n")

    async def next(self) -> dict[str, Any]:
        """Return the next message, as `onmessage` would get it."""
        while True:
            fields = dict(re.findall(r"^(\w+): (.*)$", (await self.block()).decode(), re.MULTILINE))
            self.last_event_id = fields.get("id", self.last_event_id)
            if "data" in fields:
                message: dict[str, Any] = json.loads(fields["data"])
                return message

    async def data(self, count: int) -> list[Any]:
        return [(await self.next())["data"] for _ in range(count)]

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.response.read()


@asynccontextmanager
async def serving(
    *routes: Callable[[web.Application], object] | Handler, **settings: Any
) -> AsyncIterator[Place]:
    """Serve handlers at `/events`, as `web.run_app` does it."""
    app = web.Application()
    for route in routes:
        app.router.add_get("/events", route)  # type: ignore[arg-type]
    async with served(app, **settings) as place:
        yield place


@asynccontextmanager
async def served(app: web.Application, **settings: Any) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, **settings)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        http = aiohttp.ClientSession(f"http://127.0.0.1:{port}", read_bufsize=2**20)
        place = Place(port, await stack.enter_async_context(http))
        yield place
        for stream in place.streams:
            stream.response.close()


async def until(condition: Callable[[], bool], limit: float) -> None:
    """Wait for something that gives no signal; it is looked at in each turn of the loop."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - the broker tells nobody that a client has gone
            await asyncio.sleep(0.01)


@pytest.mark.rows("C31", "C32", "C33", "A34", "C29", "X4", "X6")
async def test_a_handler_in_any_app_streams_exact_frames() -> None:
    broker = Broker()
    app = web.Application()
    app.router.add_get("/events", broker.sse_handler("client-123"))
    async with served(app) as place:
        stream = await place.listen()
        headers = {name.lower(): value for name, value in stream.response.headers.items()}
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-cache"
        assert headers["connection"] == "keep-alive"
        assert headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in headers
        epoch = broker.epoch.encode()
        assert await stream.block() == b"id: %b.0\n\n" % epoch
        broker.publish(DONE)
        assert await stream.block() == b"id: %b.1\n%b" % (epoch, FRAME)
        broker.emit("text", 'a "b"\n\nc\u2028')
        assert await stream.block() == (
            b'id: %b.2\ndata: {"type":"text","data":"a \\"b\\"\\n\\nc\xe2\x80\xa8"}\n\n' % epoch
        )
        broker.close()
        assert await stream.rest() == b""


@pytest.mark.rows("C32")
async def test_named_frames_have_the_type_for_a_name() -> None:
    broker = Broker()
    async with serving(broker.sse_handler("me")) as place:
        stream = await place.listen("/events?named=1")
        await stream.block()
        broker.publish(DONE)
        assert await stream.block() == b"id: %b.1\nevent: node_end\n%b" % (
            broker.epoch.encode(),
            FRAME,
        )


@pytest.mark.rows("C31", "X2")
async def test_a_client_names_itself_in_the_path_or_the_query_or_gets_an_error() -> None:
    broker = Broker()
    handler = broker.sse_handler()
    app = web.Application()
    app.router.add_get("/events", handler)
    app.router.add_get("/events/{client_id}", handler)
    async with served(app) as place:
        for where in ("/events/one", "/events?client_id=two"):
            stream = await place.listen(where)
            await stream.block()
        assert broker.subscriber_count == 2
        broker.unsubscribe("one")
        broker.unsubscribe("two")
        assert broker.subscriber_count == 0
        for where in ("/events", "/events?client_id=", "/events/a%20b", f"/events/{'x' * 65}"):
            async with place.http.get(where) as response:
                assert (response.status, response.content_type) == (400, "application/json")
                assert list(await response.json()) == ["error"]
        assert broker.subscriber_count == 0


@pytest.mark.rows("X4")
async def test_the_route_says_which_methods_it_has_and_the_handler_none_but_head() -> None:
    broker = Broker()
    app = web.Application()
    app.router.add_get("/events", broker.sse_handler("me"))
    app.router.add_post("/listen", broker.sse_handler("me"))
    async with served(app) as place:
        async with place.http.head("/events") as response:
            assert response.status == 405
        async with place.http.post("/listen") as response:
            assert response.status == 200
            stream = Stream(response)
            await stream.block()
            broker.publish(DONE)
            assert await stream.data(1) == [DONE.data]


@pytest.mark.rows("C33")
async def test_each_event_is_on_its_way_before_the_next_one_happens() -> None:
    broker = Broker()
    async with serving(broker.sse_handler("me")) as place, raw(place.address) as client:
        client.ask("/events", Host="x")
        await client.head()
        await client.body()
        for _ in range(3):
            broker.publish(DONE)
            assert (await client.body()).endswith(FRAME)


@pytest.mark.rows("C34", "X3")
@pytest.mark.parametrize("handler_cancellation", [False, True])
async def test_a_client_that_leaves_is_no_subscriber_after_a_second_of_silence(
    *, handler_cancellation: bool
) -> None:
    broker = Broker()
    handler = broker.sse_handler("me")
    async with serving(handler, handler_cancellation=handler_cancellation) as place:
        stays, leaves, cut = [await place.listen() for _ in range(3)]
        for stream in (stays, leaves, cut):
            await stream.block()
        assert broker.subscriber_count == 3
        leaves.response.close()
        await until(lambda: broker.subscriber_count == 2, 1)
        async with raw(place.address) as client:
            client.ask("/events", Host="x")
            await client.head()
            assert broker.subscriber_count == 3
        cut.response.close()
        await until(lambda: broker.subscriber_count == 1, 1)
        broker.publish(DONE)
        assert await stays.data(1) == [DONE.data]


@pytest.mark.rows("W-C2")
async def test_two_listeners_of_one_client_both_live_and_leave_alone() -> None:
    broker = Broker()
    async with serving(broker.sse_handler("dashboard")) as place:
        older, newer = await place.listen(), await place.listen()
        broker.emit("news", 1)
        assert [await older.data(1), await newer.data(1)] == [[1], [1]]
        older.response.close()
        await until(lambda: broker.subscriber_count == 1, 1)
        broker.emit("news", 2)
        assert await newer.data(1) == [2]


@pytest.mark.rows("X7", "W-C8")
async def test_a_client_that_is_cut_anywhere_gets_exactly_the_rest() -> None:
    broker = Broker()
    async with serving(broker.sse_handler("me")) as place:
        stream, got = await place.listen(), []
        await stream.block()
        for number in range(1, 13):
            broker.emit("news", number)
            if number % 3 == 0:
                got += await stream.data(1)
                stream.response.close()
                stream = await place.listen(last=stream.last_event_id)
        got += await stream.data(12 - len(got))
        assert got == list(range(1, 13))
        broker.emit("news", "last")
        assert await stream.data(1) == ["last"]


@pytest.mark.rows("X7")
async def test_a_client_that_is_cut_before_its_first_event_misses_none() -> None:
    broker = Broker()
    broker.emit("news", "before it came")
    async with serving(broker.sse_handler("me")) as place:
        stream = await place.listen()
        name = (await stream.block()).removeprefix(b"id: ").strip().decode()
        stream.response.close()
        broker.emit("news", 1)
        assert await (await place.listen(last=name)).data(1) == [1]


@pytest.mark.rows("X7")
@pytest.mark.parametrize("where", ["/events?last_event_id=2", "/events?last_event_id={epoch}.2"])
async def test_where_to_go_on_may_be_a_plain_number_in_the_query(where: str) -> None:
    broker = Broker()
    for number in range(1, 5):
        broker.emit("news", number)
    async with serving(broker.sse_handler("me")) as place:
        stream = await place.listen(where.format(epoch=broker.epoch))
        assert await stream.data(2) == [3, 4]
        header_wins = await place.listen(where.format(epoch=broker.epoch), last="3")
        assert await header_wins.data(1) == [4]


@pytest.mark.rows("X7", "W-C1")
async def test_a_client_that_was_away_too_long_is_told_once_what_it_missed() -> None:
    broker = Broker(keep=100)
    for number in range(1, 251):
        broker.emit("news", number)
    async with serving(broker.sse_handler("me")) as place:
        stream = await place.listen(last=f"{broker.epoch}.7")
        assert await stream.next() == {"type": "stream.gap", "data": {"first": 8, "last": 150}}
        assert stream.last_event_id == f"{broker.epoch}.150"
        assert await stream.data(100) == list(range(151, 251))


@pytest.mark.rows("X7")
@pytest.mark.parametrize("last", ["00000000.2", "{epoch}.4", "4", "nonsense", "{epoch}.-1"])
async def test_a_client_of_a_broker_that_is_no_more_is_told_and_gets_all_there_is(
    last: str,
) -> None:
    broker = Broker()
    for number in range(1, 4):
        broker.emit("news", number)
    async with serving(broker.sse_handler("me")) as place:
        stream = await place.listen("/events?named=1", last=last.format(epoch=broker.epoch))
        assert await stream.block() == b"id: %b.0\n\n" % broker.epoch.encode()
        assert (
            await stream.block()
            == (
                b"id: %b.0\nevent: stream.gap\n"
                b'data: {"type":"stream.gap","data":{"first":null,"last":null}}\n\n'
            )
            % broker.epoch.encode()
        )
        assert await stream.data(3) == [1, 2, 3]


@pytest.mark.rows("W-C1", "X5")
async def test_ten_thousand_events_reach_a_slow_reader_and_delay_nobody() -> None:
    broker = Broker()
    async with serving(broker.sse_handler("me")) as place, raw(place.address) as slow:
        slow.ask("/events", Host="x", version="1.0")
        await slow.head()
        quick = await place.listen()
        for number in range(10_000):
            broker.emit("news", number)
        assert await quick.data(10_000) == list(range(10_000))
        broker.close()
        body = (await slow.rest()).decode()
    assert [int(found) for found in re.findall(r'"data":(\d+)}', body)] == list(range(10_000))


@pytest.mark.rows("X5")
@pytest.mark.parametrize("handler_cancellation", [False, True])
async def test_a_client_that_takes_nothing_is_cut_and_may_come_back(
    *, handler_cancellation: bool
) -> None:
    broker = Broker()
    handler = broker.sse_handler("me", send_timeout=0.3)
    async with serving(handler, handler_cancellation=handler_cancellation) as place:
        quick = await place.listen()
        async with raw(place.address, receive_buffer=4096) as stuck:
            stuck.ask("/events", Host="x", version="1.0")
            await stuck.head()
            await until(lambda: broker.subscriber_count == 2, PATIENCE)
            for number in range(80):
                broker.emit("news", [number, "x" * 100_000])
                assert (await quick.data(1))[0][0] == number
            await until(lambda: broker.subscriber_count == 1, PATIENCE)
            seen = b""
            try:
                async with asyncio.timeout(PATIENCE):
                    while data := await stuck.reader.read(65536):
                        seen += data
            except ConnectionError:
                pass
        whole = seen.rpartition(b"\n\n")[0]
        done = len(re.findall(rb"^data: ", whole, re.MULTILINE))
        assert done < 80
        last = re.findall(rb"^id: (.*)$", whole, re.MULTILINE)[-1].decode()
        again = await place.listen(last=last)
        rest = [number for number, _ in await again.data(80 - done)]
        assert rest == list(range(done, 80))


@pytest.mark.rows("W-C8")
async def test_a_silent_stream_gets_comments() -> None:
    broker = Broker()
    async with serving(broker.sse_handler("me", keepalive=0.02)) as place:
        stream = await place.listen()
        await stream.block()
        for _ in range(3):
            assert (await stream.block()).startswith(b":")
        broker.publish(DONE)
        assert await stream.next() == {"type": "node_end", "data": DONE.data}


@pytest.mark.rows("C28")
async def test_threads_may_publish_to_a_stream() -> None:
    broker = Broker()
    async with serving(broker.sse_handler("me")) as place:
        stream = await place.listen()
        await stream.block()
        await asyncio.to_thread(broker.publish_threadsafe, DONE)
        assert await stream.data(1) == [DONE.data]


async def test_a_broker_that_is_closed_ends_its_streams_and_stops_those_that_come_back() -> None:
    broker = Broker()
    broker.emit("news", 1)
    async with serving(broker.sse_handler("me")) as place:
        stream = await place.listen()
        await stream.block()
        broker.emit("news", 2)
        broker.close()
        assert await stream.data(1) == [2]
        assert await stream.rest() == b""
        assert broker.subscriber_count == 0
        behind = await place.listen(last="1")
        assert await behind.data(1) == [2]
        assert await behind.rest() == b""
        for headers in ({}, {"Last-Event-ID": behind.last_event_id}):
            async with place.http.get("/events", headers=headers) as response:
                assert response.status == 204


async def test_unsubscribing_ends_the_streams_of_a_client_after_what_was_said() -> None:
    broker = Broker()
    app = web.Application()
    app.router.add_get("/events/{client_id}", broker.sse_handler())
    async with served(app) as place:
        mine, other = await place.listen("/events/me"), await place.listen("/events/other")
        for stream in (mine, other):
            await stream.block()
        broker.emit("news", 1)
        broker.unsubscribe("me")
        broker.emit("news", 2)
        assert await mine.data(1) == [1]
        assert await mine.rest() == b""
        assert await other.data(2) == [1, 2]


async def test_an_event_is_written_once_for_all_who_are_sent_it() -> None:
    event = BrokerEvent(type="x", data=[1])
    assert event.text == '{"type":"x","data":[1]}'
    assert event.text is event.text
    assert event == BrokerEvent(type="x", data=[1])


async def test_a_client_that_has_gone_before_the_answer_begins_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Broker()
    handler, here = broker.sse_handler("me"), asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        here.set()
        await until(lambda: request.transport is None, PATIENCE)
        return await handler(request)

    async with serving(late) as place, raw(place.address) as client:
        client.ask("/events", Host="x")
        await here.wait()
    assert broker.subscriber_count == 0
    assert caplog.records == []


async def test_nothing_is_looked_at_once_nobody_listens() -> None:
    leavers, request = _Leavers(), make_mocked_request("GET", "/")
    timers: list[Any] = []
    with leavers.watching(request, lambda: None):
        timers.append(leavers._timer)
        with leavers.watching(request, lambda: None):
            pass
        timers.append(leavers._timer)
    assert timers[0] is timers[1] is not None
    assert timers[0].cancelled()
    timers.append(leavers._timer)
    assert timers[2] is None
    assert not leavers._open
