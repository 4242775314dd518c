"""What every provider promises that speaks HTTP: bytes in any pieces, and all that can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import Agent
from runtime.cancel import CancelToken
from runtime.errors import (
    ModelError,
    ModelRefused,
    ModelSpokeNonsense,
    ModelUnavailable,
    RunAborted,
)
from runtime.events import MessageDelta
from runtime.messages import ToolCall, Usage
from runtime.models.base import (
    Delta,
    Finish,
    ModelRequest,
    ReasoningText,
    Text,
    ToolCallFragment,
)
from runtime.models.exchange import SdkErrors, exchange
from runtime.models.fold import Answer, fold
from runtime.run_stream import RunStream
from tests.models.benches import WIRES, HttpBench, fallback_bench, http_bench
from tests.models.servers.loopback import CUT, KEY
from tests.models.servers.wire import Failure, Wire
from tests.runtime.support import PATIENCE, request, user

ASKED = ModelRequest((user("a prompt that nobody else may see"),))
STOP = Finish("stop", Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7))
CANONICAL = (
    ReasoningText("hm, 🌧"),
    Text("Zürich "),
    Text("🌧\u2028x\n"),
    ToolCallFragment(0, "c1", "look", '{"ci'),
    ToolCallFragment(1, "c2", "find", '{"n":'),
    ToolCallFragment(0, arguments='ty":"Bern"}'),
    ToolCallFragment(1, arguments='"é"}'),
    Finish("tool_calls", STOP.usage),
)
NO_ERRORS = SdkErrors(OSError, OSError, OSError, OSError)


@pytest.fixture(params=[*WIRES, "fallback"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[HttpBench]:
    """Every provider that speaks HTTP, in turn."""
    if request.param == "fallback":
        async with fallback_bench() as bench:
            yield bench
    else:
        async with http_bench(WIRES[request.param]) as bench:
            yield bench


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


async def said(bench: HttpBench) -> list[Delta]:
    async with asyncio.timeout(PATIENCE), aclosing(bench.model.stream(ASKED)) as deltas:
        return [delta async for delta in deltas]


@dataclass
class Recording:
    """An open answer that gives recorded bytes in the pieces of a test."""

    pieces: Sequence[bytes]
    breaks: bool = False
    ended: list[str] = field(default_factory=list)

    @property
    def response(self) -> Recording:
        return self

    async def aiter_bytes(self) -> AsyncGenerator[bytes, None]:
        try:
            for piece in self.pieces:
                yield piece
            if self.breaks:
                raise ConnectionResetError
        finally:
            self.ended.append("read")

    async def close(self) -> None:
        self.ended.append("closed")


def recorded(wire: Wire) -> bytes:
    return b"".join(piece for piece in wire.encode(CANONICAL) if isinstance(piece, bytes))


async def heard(wire: Wire, *pieces: bytes, breaks: bool = False) -> Answer:
    """Return what our reader makes of bytes, from the HTTP client upwards."""
    recording = Recording(pieces, breaks)

    async def opening() -> Recording:
        return recording

    answer = Answer()
    try:
        async for delta in exchange(opening, wire.decoder(), NO_ERRORS):
            answer.add(delta)
    finally:
        assert recording.ended == ["read", "closed"]
    return answer


def check_canonical(answer: Answer) -> None:
    assert answer.reasoning == "hm, 🌧"
    assert answer.text == "Zürich 🌧\u2028x\n"
    assert answer.tool_calls == (
        ToolCall(id="c1", name="look", arguments='{"city":"Bern"}'),
        ToolCall(id="c2", name="find", arguments='{"n":"é"}'),
    )
    finish = answer.finished()
    assert (finish.reason, finish.usage) == ("tool_calls", STOP.usage)


# --- bytes in any pieces -----------------------------------------------------------------------


@pytest.mark.rows("W-S12")
async def test_bytes_may_be_cut_in_two_at_every_place(wire: Wire) -> None:
    whole = recorded(wire)
    for place in range(len(whole) + 1):
        check_canonical(await heard(wire, whole[:place], whole[place:]))


@pytest.mark.rows("W-C9", "W-S5")
async def test_an_answer_cut_short_at_any_place_is_whole_or_an_error(wire: Wire) -> None:
    whole = recorded(wire)
    errors = 0
    for place in range(len(whole)):
        try:
            check_canonical_but_usage(await heard(wire, whole[:place]))
        except ModelSpokeNonsense:
            errors += 1
    assert errors > len(whole) * 0.6


def check_canonical_but_usage(answer: Answer) -> None:
    """Check an answer whose usage, which comes last, may be missing."""
    finish = answer.finished()
    answer.finish = Finish(finish.reason, STOP.usage)
    check_canonical(answer)


async def test_a_connection_that_breaks_after_the_end_takes_nothing_back(wire: Wire) -> None:
    check_canonical(await heard(wire, recorded(wire), breaks=True))


async def test_an_answer_that_is_left_leaves_nothing_half_read(wire: Wire) -> None:
    recording = Recording([recorded(wire)])

    async def opening() -> Recording:
        return recording

    async with aclosing(exchange(opening, wire.decoder(), NO_ERRORS)) as deltas:
        assert await anext(deltas) == CANONICAL[0]
        assert recording.ended == []
    assert recording.ended == ["read", "closed"]


async def test_every_byte_may_come_alone_over_a_real_connection(bench: HttpBench) -> None:
    whole = recorded(bench.wire)
    bench.server.pieces = [whole[place : place + 1] for place in range(len(whole))]
    check_canonical(fold(await said(bench)))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.rows("W-S12")
async def test_lines_may_end_in_all_three_ways_between_comments_and_unknown_fields(
    bench: HttpBench, line_end: bytes
) -> None:
    whole = recorded(bench.wire).replace(b"data: ", b"data:").replace(b"event: ", b"event:")
    whole = whole.replace(b"\n\n", b"\nid: 7\nretry: 10\nwhat\n: keep-alive\n\n\n: ping\n\n")
    bench.server.pieces = [b"\xef\xbb\xbf" + whole.replace(b"\n", line_end)]
    check_canonical(fold(await said(bench)))


@given(cuts=st.lists(st.integers(0, 6000), max_size=40), line_end=st.sampled_from([b"\n", b"\r\n"]))
def test_bytes_may_be_cut_anywhere(cuts: list[int], line_end: bytes) -> None:
    for wire in WIRES.values():
        whole = recorded(wire).replace(b"\n", line_end)
        places = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
        pieces = [whole[a:b] for a, b in pairwise(places)]
        check_canonical(asyncio.run(heard(wire, *pieces)))


@pytest.mark.rows("W-C9")
async def test_a_line_may_be_longer_than_any_buffer(bench: HttpBench) -> None:
    long = "wörter " * 40_000
    bench.play(Text(long), STOP)
    lines = b"".join(p for p in bench.server.pieces if isinstance(p, bytes)).split(b"\n")
    assert max(map(len, lines)) > 65_536
    assert fold(await said(bench)).text == long


async def test_the_same_connection_is_used_for_the_next_answer(bench: HttpBench) -> None:
    bench.play(Text("ok"), STOP)
    await said(bench)
    await said(bench)
    assert len(bench.server.connections) == 2
    assert len(set(bench.server.connections)) == 1


async def test_a_server_that_does_not_end_the_body_holds_nobody_up(bench: HttpBench) -> None:
    bench.play(Text("ok"), STOP, asyncio.Event())
    assert fold(await said(bench)).text == "ok"
    async with asyncio.timeout(PATIENCE):
        await bench.server.gone.wait()


# --- what goes wrong before the first delta ----------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ModelRefused),
        (403, ModelRefused),
        (404, ModelRefused),
        (413, ModelRefused),
        (408, ModelUnavailable),
        (409, ModelUnavailable),
        (429, ModelUnavailable),
        (500, ModelUnavailable),
        (502, ModelUnavailable),
        (503, ModelUnavailable),
        (529, ModelUnavailable),
    ],
)
@pytest.mark.rows("C5")
async def test_a_status_becomes_a_fault_and_the_call_is_made_once(
    bench: HttpBench, status: int, error: type[ModelError]
) -> None:
    for body in (b"", b"<html>no</html>", b'{"error": {"message": "what was asked"}}', b"[1]"):
        bench.server.status, bench.server.pieces = status, [body]
        with pytest.raises(error, match=f"HTTP {status}") as caught:
            await said(bench)
        assert caught.value.status_code == status
        assert caught.value.__cause__ is not None
    assert len(bench.server.requests) == 4


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.rows("S2")
async def test_a_refused_key_is_a_refusal_that_does_not_repeat_the_key(
    bench: HttpBench, status: int
) -> None:
    bench.server.status, bench.server.pieces = status, [bench.wire.wrong_key]
    with pytest.raises(ModelRefused, match=f"HTTP {status}, (invalid_api_key|authentication)") as c:
        await said(bench)
    assert bench.server.keys == [KEY]
    assert bench.server.paths == [bench.wire.path]
    assert KEY not in str(c.value)
    assert "prompt" not in str(c.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After-Ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
async def test_how_long_a_provider_asks_to_wait_is_kept(
    bench: HttpBench, headers: dict[str, str], seconds: float | None
) -> None:
    bench.server.status, bench.server.headers = 429, headers
    with pytest.raises(ModelUnavailable) as caught:
        await said(bench)
    assert caught.value.retry_after == seconds


async def test_a_date_to_wait_for_is_turned_into_seconds(bench: HttpBench) -> None:
    later = datetime.now(UTC) + timedelta(seconds=60)
    bench.server.status = 503
    bench.server.headers = {"Retry-After": format_datetime(later, usegmt=True)}
    with pytest.raises(ModelUnavailable) as caught:
        await said(bench)
    assert caught.value.retry_after is not None
    assert 50 < caught.value.retry_after <= 60


async def test_a_server_whose_headers_do_not_come_is_unavailable(wire: Wire) -> None:
    async with http_bench(wire, timeout=0.05) as bench:
        bench.server.silent = asyncio.Event()
        with pytest.raises(ModelUnavailable, match="did not answer in time"):
            await said(bench)
        async with asyncio.timeout(PATIENCE):
            await bench.server.gone.wait()


async def test_a_server_that_falls_silent_is_an_error_that_says_whether_it_had_begun(
    wire: Wire,
) -> None:
    # Long enough for what is said to arrive on a busy machine, before the silence is too long.
    async with http_bench(wire, timeout=1) as bench:
        bench.play(asyncio.Event())
        with pytest.raises(ModelUnavailable, match="did not answer in time"):
            await said(bench)
        bench.play(Text("Hel"), asyncio.Event())
        with pytest.raises(ModelSpokeNonsense, match="broke off before its end"):
            await said(bench)


async def test_a_server_that_is_not_there_is_unavailable(wire: Wire) -> None:
    model = await asyncio.to_thread(wire.model, "http://127.0.0.1:1")
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        await anext(model.stream(ASKED))
    await model.aclose()


async def test_text_that_is_no_text_is_refused_and_not_sent(wire: Wire) -> None:
    async with http_bench(wire) as bench:
        with pytest.raises(ModelRefused):
            await anext(bench.model.stream(ModelRequest((user("\ud83c"),))))
        assert bench.server.requests == []


async def test_a_page_in_place_of_an_answer_is_nonsense(bench: HttpBench) -> None:
    bench.server.headers = {"Content-Type": "text/html"}
    bench.server.pieces = [b"<html>\n\n<body>data: hello</body>\n\n"]
    with pytest.raises(ModelSpokeNonsense, match="ended without a finish"):
        await said(bench)


# --- what goes wrong in the middle -------------------------------------------------------------


@pytest.mark.parametrize(
    "bytes_",
    [
        b'event: x\ndata: {"type": "x", \n\n',
        b'event: x\ndata: "\xff"\n\n',
        b"event: x\ndata: [1]\n\n",
        b"event: x\ndata: 7\n\n",
    ],
)
async def test_bytes_that_mean_nothing_are_an_error(bench: HttpBench, bytes_: bytes) -> None:
    bench.play(Text("Hel"), bytes_, Text("lo"), STOP)
    with pytest.raises(ModelSpokeNonsense, match="cannot be read"):
        await said(bench)


async def test_a_connection_that_is_cut_is_an_error(bench: HttpBench) -> None:
    bench.play(Text("Hel"), CUT)
    with pytest.raises(ModelSpokeNonsense, match="broke off before its end"):
        await said(bench)


@pytest.mark.parametrize(
    ("word", "error"),
    [("busy", ModelUnavailable), ("server_error", ModelUnavailable), ("policy", ModelRefused)],
)
async def test_an_error_that_comes_as_an_event_is_told_in_the_provider_s_word(
    bench: HttpBench, word: str, error: type[ModelError]
) -> None:
    word = bench.wire.busy if word == "busy" else word
    bench.play(Text("Hel"), Failure(word))
    with pytest.raises(error, match=word) as caught:
        await said(bench)
    assert KEY not in str(caught.value)


async def test_what_is_not_known_is_passed_over(bench: HttpBench) -> None:
    new = b'event: new.thing\ndata: {"type": "new.thing", "delta": {"x": 1}, "index": "a"}\n\n'
    if bench.wire is WIRES["chat completions"]:
        new = b'data: {"object": "new.thing", "delta": {"x": 1}}\n\n'
    bench.play(Text("Hel"), new, Text("lo"), STOP)
    assert fold(await said(bench)).text == "Hello"


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.rows("S37", "W-S3")
async def test_aborting_an_agent_in_its_model_call_closes_the_connection(
    bench: HttpBench, *, opened: bool
) -> None:
    bench.play(*([Text("Hel")] if opened else []), asyncio.Event())
    token = CancelToken()

    def project(event: object) -> str | None:
        return event.text if isinstance(event, MessageDelta) else None

    stream = RunStream(Agent("a", bench.model), request(), project, cancel=token)

    async def abort() -> None:
        await bench.server.asked.wait()
        token.abort("enough")

    async with asyncio.timeout(PATIENCE):
        if opened:
            assert await anext(stream) == "Hel"
        async with asyncio.TaskGroup() as group:
            group.create_task(abort())
            with pytest.raises(RunAborted, match="enough"):
                await anext(stream)
        await bench.server.gone.wait()
