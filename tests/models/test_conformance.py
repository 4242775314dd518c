"""What every provider promises, whatever is behind it. The same tests over all of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from types import AsyncGeneratorType
from typing import Any

import pytest
from pydantic import ValidationError

from runtime.cancel import CancelToken
from runtime.errors import ModelSpokeNonsense, ModelUnavailable, RunAborted
from runtime.messages import Message, ToolCall, Usage
from runtime.models.base import (
    Delta,
    Finish,
    ModelRequest,
    ReasoningText,
    Text,
    ToolCallFragment,
)
from runtime.models.chat import ChatChunk, ChatStream, chat, merge_tool_calls, stream_chat
from runtime.models.fold import fold
from runtime.runnable import RunOptions, ToolInfo
from tests.models.benches import PROVIDERS, Bench, ScriptedBench, bench_of
from tests.models.servers.wire import Failure, Together
from tests.runtime.support import PATIENCE, user

ASKED = ModelRequest((Message(role="system", content="Be kind."), user("hi")))
STOP = Finish("stop", Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7))
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.fixture(params=PROVIDERS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Every provider in turn: one suite, one contract."""
    async with bench_of(request.param) as bench:
        yield bench


async def said(bench: Bench, asked: ModelRequest = ASKED) -> list[Delta]:
    async with asyncio.timeout(PATIENCE), aclosing(bench.model.stream(asked)) as deltas:
        return [delta async for delta in deltas]


async def hear(
    chunks: ChatStream, heard: list[ChatChunk], then: Callable[[ChatChunk], None] | None = None
) -> None:
    """Keep each chunk as it comes; what came before an error is kept too."""
    async with asyncio.timeout(PATIENCE):
        async for chunk in chunks:
            heard.append(chunk)
            if then is not None:
                then(chunk)


async def fragments_of(bench: Bench) -> list[ToolCallFragment]:
    heard: list[ChatChunk] = []
    await hear(stream_chat(bench.model, ASKED), heard)
    collected: list[ToolCallFragment] = []
    for chunk in heard:
        collected.extend(chunk.tool_calls)
    return collected


async def freed(bench: Bench) -> None:
    """Return once the provider knows that nobody listens any more."""
    async with asyncio.timeout(PATIENCE):
        await bench.gone.wait()


def finish(deltas: Sequence[Delta]) -> Finish:
    assert sum(isinstance(delta, Finish) for delta in deltas) == 1
    last = deltas[-1]
    assert isinstance(last, Finish)
    return last


# --- what is said ------------------------------------------------------------------------------


@pytest.mark.rows("C1", "C2", "C3", "C6", "C7", "C8", "C9")
async def test_each_piece_is_there_before_the_next_one_exists(bench: Bench) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    bench.play(Text("Hel"), gates[0], Text("lo "), gates[1], Text("you"), STOP)
    chunks: list[ChatChunk] = []
    await hear(stream_chat(bench.model, ASKED), chunks, lambda _: gates[len(chunks) - 1].set())
    assert [chunk.content for chunk in chunks] == ["Hel", "lo ", "you"]
    assert all(chunk.delta is True and chunk.tool_calls == [] for chunk in chunks)


@pytest.mark.rows("C7")
async def test_a_whole_answer_is_no_delta(bench: Bench) -> None:
    call = ToolCallFragment(0, "c1", "look", '{"city":"Bern"}')
    bench.play(ReasoningText("hm"), Text("Hel"), Text("lo"), call, Finish("tool_calls", STOP.usage))
    answer = await chat(bench.model, ASKED)
    assert answer.delta is False
    assert (answer.content, answer.reasoning) == ("Hello", "hm")
    assert merge_tool_calls(answer.tool_calls) == [
        ToolCall(id="c1", name="look", arguments='{"city":"Bern"}')
    ]
    assert answer.finish is not None
    assert answer.finish.reason == "tool_calls"


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
@pytest.mark.rows("W-C9")
async def test_the_finish_is_last_and_says_why_and_what_it_took(bench: Bench, reason: str) -> None:
    usage = Usage(
        prompt_tokens=9,
        completion_tokens=4,
        total_tokens=13,
        cache_read_tokens=3,
        reasoning_tokens=1,
    )
    call = ToolCallFragment(0, "c1", "look", "{}")
    cues = [call] if reason == "tool_calls" else [Text("ok")]
    bench.play(*cues, Finish(reason, usage))
    told = finish(await said(bench))
    assert (told.reason, told.usage) == (reason, usage)
    assert told.response_id
    assert told.model in {"m-2026", None}


async def test_an_answer_may_be_empty(bench: Bench) -> None:
    bench.play(STOP)
    assert fold(await said(bench)).text == ""
    nothing: list[ChatChunk] = []
    await hear(stream_chat(bench.model, ASKED), nothing)
    assert nothing == []


async def test_reasoning_is_kept_apart_from_the_answer(bench: Bench) -> None:
    bench.play(ReasoningText("Let me "), ReasoningText("see."), Text("42"), STOP)
    deltas = await said(bench)
    assert deltas[:3] == [ReasoningText("Let me "), ReasoningText("see."), Text("42")]
    assert fold(deltas).reasoning == "Let me see."


@pytest.mark.rows("C10", "S9", "W-C10", "W-S4")
async def test_interleaved_tool_calls_keep_every_fragment_also_the_first(bench: Bench) -> None:
    bench.play(
        ToolCallFragment(0, "c1", "look", '{"ci'),
        ToolCallFragment(1, "c2", "find", '{"n'),
        ToolCallFragment(0, arguments='ty":"Be'),
        ToolCallFragment(1, arguments='":1}'),
        ToolCallFragment(0, arguments='rn"}'),
        Finish("tool_calls", STOP.usage),
    )
    fragments = await fragments_of(bench)
    assert [(piece.index, piece.arguments) for piece in fragments if piece.arguments] == [
        (0, '{"ci'),
        (1, '{"n'),
        (0, 'ty":"Be'),
        (1, '":1}'),
        (0, 'rn"}'),
    ]
    whole = (
        ToolCall(id="c1", name="look", arguments='{"city":"Bern"}'),
        ToolCall(id="c2", name="find", arguments='{"n":1}'),
    )
    assert fold(await said(bench)).tool_calls == whole
    assert merge_tool_calls(fragments) == list(whole)


@pytest.mark.rows("C11")
async def test_what_comes_with_text_and_a_call_loses_neither(bench: Bench) -> None:
    call = ToolCallFragment(0, "c1", "look", "{}")
    bench.play(Together((Text("See: "), call)), Finish("tool_calls", STOP.usage))
    answer = fold(await said(bench))
    assert answer.text == "See: "
    assert answer.tool_calls == (ToolCall(id="c1", name="look", arguments="{}"),)


@pytest.mark.parametrize(
    "pieces",
    [
        ("Zürich ", "🌧 \u2028", "👩‍👩‍👧", "שלום\n\r\n", "\u0000\ufeff"),
        ("data: x\n\n", "event: y\n\n", "[DONE]", ": no"),
        ("x" * 100_000, "ü" * 100_000),
    ],
    ids=["letters", "words of the wire", "long"],
)
async def test_text_comes_through_as_it_is(bench: Bench, pieces: tuple[str, ...]) -> None:
    bench.play(*map(Text, pieces), STOP)
    assert [d.text for d in await said(bench) if isinstance(d, Text)] == list(pieces)


# --- what is asked -----------------------------------------------------------------------------


@pytest.mark.rows("K17")
async def test_a_temperature_reaches_the_provider_unchanged(bench: Bench) -> None:
    bench.play(STOP)
    await said(bench, ModelRequest((user("hi"),), options=RunOptions(temperature=0.0)))
    assert bench.heard().temperature == 0.0
    await said(bench, ModelRequest((user("hi"),), options=RunOptions(temperature=0.7)))
    assert bench.heard().temperature == 0.7
    await said(bench)
    assert bench.heard().temperature is None
    for wrong in (-0.1, 2.1):
        with pytest.raises(ValidationError, match="temperature"):
            RunOptions(temperature=wrong)


@pytest.mark.rows("K18")
async def test_an_answer_that_is_capped_says_so(bench: Bench) -> None:
    asked = ModelRequest((user("hi"),), options=RunOptions(max_tokens=2))
    if isinstance(bench, ScriptedBench):  # it cuts the answer itself; elsewhere the server does
        bench.play(Text("one two three "), Text("four"), STOP)
    else:
        bench.play(Text("one"), Text(" two"), Finish("length", STOP.usage))
    answer = fold(await said(bench, asked))
    assert bench.heard().max_tokens == 2
    assert (answer.text, answer.finished().reason) == ("one two", "length")


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["one END two"], "one "),
        (["one E", "ND two"], "one "),
        (["one ", "E", "N", "D", " two"], "one "),
        (["EN", "EN", "D"], "EN"),
        (["one", "\n", "\n two"], "one"),
        (["E", "x ", "\n", "y END"], "Ex \ny "),
        (["END"], ""),
    ],
)
@pytest.mark.rows("K19")
async def test_an_answer_stops_before_a_stop_sequence_wherever_it_is_cut(
    bench: Bench, pieces: list[str], shown: str
) -> None:
    options = RunOptions(stop_sequences=("END", "\n\n"))
    bench.play(*map(Text, pieces), asyncio.Event())  # whatever else would come is not waited for
    answer = fold(await said(bench, ModelRequest((user("hi"),), options=options)))
    assert answer.text == shown
    assert answer.finished().reason == "stop"
    await freed(bench)


@pytest.mark.rows("K19")
async def test_what_only_looked_like_a_stop_sequence_is_said(bench: Bench) -> None:
    options = RunOptions(stop_sequences=("END",))
    bench.play(Text("one E"), Text("N"), STOP)
    deltas = await said(bench, ModelRequest((user("hi"),), options=options))
    assert fold(deltas).text == "one EN"
    assert finish(deltas).usage == STOP.usage


async def test_the_schema_of_the_answer_is_sent(bench: Bench) -> None:
    bench.play(Text('{"city":"Bern"}'), STOP)
    await said(bench, ModelRequest((user("hi"),), output_schema=SCHEMA, output_name="Place"))
    assert bench.heard().schema == SCHEMA
    assert bench.heard().schema_name in {"Place", None}
    await said(bench)
    assert bench.heard().schema is None


async def test_a_conversation_with_tools_is_taken(bench: Bench) -> None:
    bench.play(Text("ok"), STOP)
    calls = (
        ToolCall(id="c1", name="look", arguments='{"city":"Bern"}'),
        ToolCall(id="c2", name="look", arguments="no json"),
    )
    look = ToolInfo(name="look", description="Look.", parameters={"type": "object"})
    asked = ModelRequest(
        (
            user("hi"),
            Message(role="assistant", tool_calls=calls),
            Message(role="tool", content="sunny", tool_call_id="c1"),
            Message(role="tool", content="error: bad", tool_call_id="c2"),
        ),
        tools=(look,),
    )
    assert fold(await said(bench, asked)).text == "ok"


# --- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.rows("C5")
async def test_an_error_in_the_middle_comes_after_what_was_said(bench: Bench) -> None:
    bench.play(Text("Hel"), Failure("overloaded_error"))
    heard: list[ChatChunk] = []
    with pytest.raises(ModelUnavailable) as caught:
        await hear(stream_chat(bench.model, ASKED), heard)
    assert [chunk.content for chunk in heard] == ["Hel"]
    assert "secret" not in str(caught.value)


@pytest.mark.rows("SX12", "W-C9", "W-S5")
async def test_an_answer_without_its_end_is_an_error_and_no_short_success(bench: Bench) -> None:
    for cues in ([], [Text("Hel")], [ToolCallFragment(0, "c1", "look", '{"ci')]):
        bench.play(*cues)
        with pytest.raises(ModelSpokeNonsense, match="ended without a finish"):
            await chat(bench.model, ASKED)


# --- how it ends early -------------------------------------------------------------------------


@pytest.mark.rows("W-C10")
async def test_leaving_the_answer_frees_the_provider(bench: Bench) -> None:
    bench.play(Text("Hel"), asyncio.Event())
    stream = stream_chat(bench.model, ASKED)  # kept: it is not the garbage collector that ends it
    async with asyncio.timeout(PATIENCE):
        async for chunk in stream:
            assert chunk.content == "Hel"
            break
    await freed(bench)
    assert stream.finish is None


async def test_closing_the_stream_frees_the_provider(bench: Bench) -> None:
    bench.play(Text("Hel"), asyncio.Event())
    async with asyncio.timeout(PATIENCE), aclosing(bench.model.stream(ASKED)) as deltas:
        assert await anext(deltas) == Text("Hel")
    await freed(bench)


@pytest.mark.parametrize("stops", [(), ("END",)])
async def test_closing_the_stream_leaves_nothing_to_the_garbage_collector(
    bench: Bench, stops: tuple[str, ...]
) -> None:
    left: list[str] = []
    hooks = sys.get_asyncgen_hooks()

    def finalizer(generator: AsyncGenerator[Any, Any]) -> None:
        assert isinstance(generator, AsyncGeneratorType)
        if "/runtime/" in generator.ag_code.co_filename:
            left.append(generator.__qualname__)
        assert hooks.finalizer is not None
        hooks.finalizer(generator)

    asked = ModelRequest((user("hi"),), options=RunOptions(stop_sequences=stops))
    bench.play(Text("Hel"), asyncio.Event())
    sys.set_asyncgen_hooks(finalizer=finalizer)
    try:
        async with asyncio.timeout(PATIENCE), aclosing(bench.model.stream(asked)) as deltas:
            assert await anext(deltas) == Text("Hel")
        del deltas
    finally:
        sys.set_asyncgen_hooks(*hooks)
    assert left == []


@pytest.mark.parametrize("opened", [True, False])
async def test_cancelling_the_task_that_reads_frees_the_provider(
    bench: Bench, *, opened: bool
) -> None:
    bench.play(*([Text("Hel")] if opened else []), asyncio.Event())
    speaking = asyncio.Event()

    async def read() -> None:
        async for _ in bench.model.stream(ASKED):
            speaking.set()

    task = asyncio.create_task(read())
    async with asyncio.timeout(PATIENCE):
        await (speaking if opened else bench.asked).wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await freed(bench)


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.rows("C3", "S37", "W-S3")
async def test_an_abort_is_always_the_same_error_and_frees_the_provider(
    bench: Bench, *, opened: bool
) -> None:
    bench.play(*([Text("Hel")] if opened else []), asyncio.Event())
    token = CancelToken()
    heard: list[ChatChunk] = []

    async def abort_unopened() -> None:
        await bench.asked.wait()
        if not opened:
            token.abort("enough")

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(abort_unopened())
        with pytest.raises(RunAborted, match="enough"):
            await hear(
                stream_chat(bench.model, ASKED, cancel=token),
                heard,
                lambda _: token.abort("enough"),
            )
    assert [chunk.content for chunk in heard] == (["Hel"] if opened else [])
    await freed(bench)


async def test_after_an_answer_was_left_the_next_one_comes(bench: Bench) -> None:
    bench.play(Text("Hel"), asyncio.Event())
    async with asyncio.timeout(PATIENCE), aclosing(bench.model.stream(ASKED)) as deltas:
        await anext(deltas)
    bench.play(Text("again"), STOP)
    assert fold(await said(bench)).text == "again"


async def test_a_model_has_a_name_and_can_be_closed_twice(bench: Bench) -> None:
    assert bench.model.name
    await bench.model.aclose()
    await bench.model.aclose()


async def test_many_answers_at_once_do_not_mix(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.play(Text("one "), gate, Text("two"), STOP)
    begun = 0

    async def read() -> str:
        nonlocal begun
        texts: list[str] = []
        async for chunk in stream_chat(bench.model, ASKED):
            texts.append(chunk.content)
            if len(texts) == 1:
                begun += 1
                if begun == 5:
                    gate.set()
        return "".join(texts)

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        tasks = [group.create_task(read()) for _ in range(5)]
    assert [task.result() for task in tasks] == ["one two"] * 5
