"""A run as an async iterator: whoever ends it and whenever, it ends once, cleanly and not silently."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from runtime.cancel import CancelToken
from runtime.errors import RunAborted, RunFault, RuntimeFault, RunTimeout
from runtime.events import (
    Custom,
    ErrorInfo,
    Event,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
)
from runtime.messages import Usage
from runtime.run_stream import RunStream
from runtime.runnable import Emit, RunRequest
from tests.runtime.support import PATIENCE

REPEATS = 200
REQUEST = RunRequest(run_id="run_1", history=())
Work = Callable[[Emit], Coroutine[Any, Any, None]]


def said(payload: object) -> Custom:
    return Custom(run_id="run_1", path=("r",), name="n", payload=payload)


def completed() -> RunCompleted:
    return RunCompleted(
        run_id="run_1", path=("r",), output="", usage=Usage(), message_count=0, num_turns=0
    )


def cancelled(reason: str = "cancel") -> RunCancelled:
    return RunCancelled.model_validate({"run_id": "run_1", "path": ("r",), "reason": reason})


class Script:
    """A run that does what it is told, then ends as a `Runnable` does."""

    def __init__(self, work: Work, *, end: Event | None = None) -> None:
        self.work = work
        self.end = end or completed()
        self.begun = 0
        self.over = asyncio.Event()

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        self.begun += 1
        try:
            await self.work(emit)
            await emit(self.end)
        except asyncio.CancelledError:
            await emit(cancelled())
            raise
        finally:
            self.over.set()


async def nothing(emit: Emit) -> None:
    pass


async def for_ever(emit: Emit) -> None:
    await emit(said("begun"))
    await asyncio.Event().wait()


def counting(count: int) -> Work:
    async def work(emit: Emit) -> None:
        for i in range(count):
            await emit(said(i))

    return work


def payload(event: Event) -> object | None:
    return event.payload if isinstance(event, Custom) else None


def event_itself(event: Event) -> Event:
    return event


def stream_of(script: Script, cancel: CancelToken | None = None) -> RunStream[object]:
    return RunStream(script, REQUEST, payload, cancel=cancel)


async def consume(stream: RunStream[object], into: list[object] | None = None) -> list[object]:
    items = [] if into is None else into
    async for item in stream:
        items.append(item)  # what came before an error is wanted too
    return items


async def test_nothing_happens_before_the_first_item_is_wanted() -> None:
    script = Script(counting(2))
    stream = stream_of(script)
    await asyncio.sleep(0)
    assert (script.begun, stream.started, stream.over) == (0, False, False)
    assert [item async for item in stream] == [0, 1]
    assert (script.begun, stream.started, stream.over) == (1, True, True)
    assert isinstance(stream.end, RunCompleted)
    assert stream.error() is None
    assert [item async for item in stream] == []  # over is over
    await stream.aclose()
    assert stream.error() is None


async def test_an_item_is_there_while_the_run_goes_on() -> None:
    gate = asyncio.Event()

    async def work(emit: Emit) -> None:
        await emit(said("first"))
        await gate.wait()
        await emit(said("second"))

    stream = stream_of(Script(work))
    assert await anext(stream) == "first"
    gate.set()
    assert [item async for item in stream] == ["second"]


async def test_a_run_waits_for_a_slow_consumer_and_loses_nothing() -> None:
    stream = RunStream(Script(counting(1000)), REQUEST, payload, buffer=7)
    items = []
    async for item in stream:
        items.append(item)
        for _ in range(3):
            await asyncio.sleep(0)
    assert items == list(range(1000))
    assert stream.peak == 7


async def test_tasks_that_report_side_by_side_all_wait_for_room() -> None:
    async def work(emit: Emit) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(5):
                group.create_task(counting(200)(emit), name=str(n))

    stream = RunStream(Script(work), REQUEST, payload, buffer=3)
    assert len([item async for item in stream]) == 1000
    assert stream.peak < 3 + 5


async def test_a_failure_is_raised_once_after_what_was_said_and_is_the_very_same_exception() -> (
    None
):
    error = OSError("boom")
    failed = RunFailed(
        run_id="run_1", path=("r",), error=ErrorInfo(code="internal_error", message="m")
    )
    stream = stream_of(Script(counting(2), end=failed.caused_by(error)))
    items: list[object] = []
    with pytest.raises(OSError, match="boom") as raised:
        await consume(stream, items)
    assert raised.value is error
    assert items == [0, 1]
    assert stream.error() is error
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_failure_whose_exception_is_not_known_keeps_its_code_and_text() -> None:
    info = ErrorInfo(code="model_refused", message="no", retryable=True)
    failed = RunFailed(run_id="run_1", path=("r",), error=info)
    with pytest.raises(RunFault, match="no") as raised:
        await anext(stream_of(Script(nothing, end=failed)))
    assert (raised.value.code, raised.value.retryable) == ("model_refused", True)


async def test_a_run_that_was_too_slow_raises_a_timeout() -> None:
    with pytest.raises(TimeoutError) as raised:
        await anext(stream_of(Script(nothing, end=cancelled("timeout"))))
    assert isinstance(raised.value, RunTimeout)


async def test_a_run_that_waits_for_a_human_ends_the_iteration_normally() -> None:
    end = RunInterrupted(run_id="run_1", path=("r",), reason="approval", pending=("apr_1",))
    stream = stream_of(Script(counting(1), end=end))
    assert [item async for item in stream] == [0]
    assert stream.end is end


async def test_a_run_that_ends_without_saying_how_is_a_failure_and_not_silence() -> None:
    class Mute:
        async def execute(self, request: RunRequest, emit: Emit) -> None:
            await emit(said(1))

    stream = RunStream(Mute(), REQUEST, payload)
    assert await anext(stream) == 1
    with pytest.raises(RuntimeFault, match="without saying how"):
        await anext(stream)


async def test_what_execute_raises_reaches_the_consumer() -> None:
    class Broken:
        async def execute(self, request: RunRequest, emit: Emit) -> None:
            raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        await anext(RunStream(Broken(), REQUEST, payload))


async def test_a_projection_that_fails_ends_the_run_with_its_error() -> None:
    def fussy(event: Event) -> object:
        if payload(event) == 2:
            raise ValueError("not that one")
        return payload(event)

    script = Script(counting(5))
    items: list[object] = []
    with pytest.raises(ValueError, match="not that one"):
        await consume(RunStream(script, REQUEST, fussy), items)
    assert items == [0, 1]
    assert script.over.is_set()


# --- leaving ---------------------------------------------------------------------------------------


async def test_a_break_ends_the_run_at_once() -> None:
    for _ in range(REPEATS):
        script = Script(for_ever)
        stream = stream_of(script)
        async for _item in stream:
            break
        assert stream.leaving
        async with asyncio.timeout(PATIENCE):
            await stream.wait()
        assert script.over.is_set()
        assert isinstance(stream.error(), RunAborted)


async def test_a_break_makes_the_run_an_aborted_one_even_if_it_was_done_already() -> None:
    stream = stream_of(Script(counting(5)))
    async for _item in stream:
        break
    await stream.wait()
    assert isinstance(stream.error(), RunAborted)


async def test_leaving_after_the_last_event_was_seen_is_no_abort() -> None:
    stream = RunStream(Script(counting(2)), REQUEST, event_itself)
    async for event in stream:
        if isinstance(event, RunCompleted):
            break
    await stream.aclose()
    assert stream.error() is None


async def test_an_exception_in_the_loop_body_ends_the_run() -> None:
    script = Script(for_ever)
    stream = stream_of(script)

    async def fail() -> None:
        async for _item in stream:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with asyncio.timeout(PATIENCE):
        await stream.wait()
    assert script.over.is_set()


async def test_a_loop_that_the_garbage_collector_finds_ends_its_run_too() -> None:
    script = Script(for_ever)
    stream = stream_of(script)
    loop = aiter(stream)
    await anext(loop)
    ring: list[object] = [loop]
    ring.append(ring)
    del loop, ring
    await asyncio.to_thread(gc.collect)
    async with asyncio.timeout(PATIENCE):
        await stream.wait()
    assert isinstance(stream.error(), RunAborted)


async def test_asking_for_an_iterator_and_not_using_it_does_nothing() -> None:
    stream = stream_of(Script(counting(2)))
    aiter(stream)
    assert [item async for item in stream] == [0, 1]


async def test_leaving_the_block_waits_until_everything_is_gone() -> None:
    cleaned = asyncio.Event()

    async def work(emit: Emit) -> None:
        try:
            await for_ever(emit)
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    script = Script(work)
    async with stream_of(script) as stream:
        assert await anext(stream) == "begun"
    assert cleaned.is_set()
    assert script.over.is_set()
    assert stream.over


async def test_closing_before_the_start_means_that_the_run_never_begins() -> None:
    script = Script(counting(1))
    stream = stream_of(script)
    await stream.aclose()
    assert stream.over
    with pytest.raises(RunAborted):
        await anext(stream)
    assert script.begun == 0


async def test_closing_wakes_a_consumer_in_another_task() -> None:
    stream = stream_of(Script(for_ever))
    assert await anext(stream) == "begun"
    consumer = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await stream.aclose()
        with pytest.raises(RunAborted):
            await consumer


async def test_closing_at_any_turn_of_the_loop_ends_the_run_and_its_reader() -> None:
    """Also between the start of the run and its first step."""
    for turns in range(8):
        script = Script(for_ever)
        stream = stream_of(script)
        reader = asyncio.create_task(consume(stream))
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            await stream.aclose()
            with pytest.raises(RunAborted):
                await reader
        assert script.begun == 0 or script.over.is_set()


async def test_after_closing_there_are_no_items_left() -> None:
    stream = stream_of(Script(counting(5)))
    await anext(stream)
    await stream.aclose()
    with pytest.raises(RunAborted):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_run_that_closes_its_own_stream_does_not_wait_for_itself() -> None:
    streams: list[RunStream[object]] = []

    async def work(emit: Emit) -> None:
        async def inner() -> None:
            with pytest.raises(RuntimeFault, match="own end"):
                await streams[0].wait()
            await streams[0].aclose()

        await emit(said(1))
        async with asyncio.TaskGroup() as group:
            group.create_task(inner())
        await for_ever(emit)

    streams.append(stream_of(Script(work)))
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RunAborted):
            async for _item in streams[0]:
                pass


# --- cancelling ------------------------------------------------------------------------------------


async def test_a_cancelled_consumer_waits_until_the_run_is_over() -> None:
    for turns in range(REPEATS):
        script = Script(for_ever)
        stream = stream_of(script)
        consumer = asyncio.create_task(consume(stream))
        for _ in range(turns % 6):  # also before the run's first step
            await asyncio.sleep(0)
        consumer.cancel()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(asyncio.CancelledError):
                await consumer
            if stream.started:
                await stream.wait()
                assert stream.error() is not None
        assert script.begun == 0 or script.over.is_set()


async def test_a_consumer_that_is_cancelled_twice_still_waits_for_the_end() -> None:
    cleaning, gate = asyncio.Event(), asyncio.Event()

    async def work(emit: Emit) -> None:
        try:
            await for_ever(emit)
        finally:
            cleaning.set()
            await gate.wait()

    script = Script(work)
    consumer = asyncio.create_task(consume(stream_of(script)))
    async with asyncio.timeout(PATIENCE):
        while not script.begun:  # noqa: ASYNC110 - the next turns of the loop are the point
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        consumer.cancel()
        await cleaning.wait()
        consumer.cancel()
        await asyncio.sleep(0)
        assert not consumer.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await consumer
    assert script.over.is_set()


async def test_leaving_after_an_abort_does_not_disturb_the_cleaning_up() -> None:
    cleaning, gate, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(emit: Emit) -> None:
        try:
            await for_ever(emit)
        finally:
            cleaning.set()
            await gate.wait()
            cleaned.set()

    token = CancelToken()
    stream = stream_of(Script(work), token)
    async with asyncio.timeout(PATIENCE):
        await anext(stream)
        token.abort()
        await cleaning.wait()
        closing = asyncio.create_task(stream.aclose())
        await asyncio.sleep(0)
        assert not closing.done()
        gate.set()
        await closing
    assert cleaned.is_set()


async def test_an_outer_timeout_ends_the_run() -> None:
    script = Script(for_ever)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await consume(stream_of(script))
    assert script.over.is_set()


@pytest.mark.parametrize("from_thread", [False, True])
async def test_an_aborted_run_always_raises_and_always_the_same(from_thread: bool) -> None:
    """At every turn of the loop, also before the start and while the run waits for room."""
    for turns in range(REPEATS):
        token = CancelToken()
        work = for_ever if turns % 2 else counting(10_000)
        stream = RunStream(Script(work), REQUEST, payload, cancel=token, buffer=2)
        consumer = asyncio.create_task(consume(stream))
        for _ in range(turns % 7):
            await asyncio.sleep(0)
        if from_thread:
            thread = threading.Thread(target=token.abort, args=("enough",))
            thread.start()
            await asyncio.to_thread(thread.join)
        else:
            token.abort("enough")
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(RunAborted, match="enough") as raised:
                await consumer
        assert stream.error() is raised.value
        assert raised.value.reason == "enough"
        assert not token._watchers


async def test_a_token_that_was_aborted_before_keeps_the_run_from_starting() -> None:
    token = CancelToken()
    token.abort()
    script = Script(counting(1))
    with pytest.raises(RunAborted):
        await anext(stream_of(script, token))
    assert script.begun == 0


async def test_what_was_said_before_the_abort_is_handed_over_first() -> None:
    token = CancelToken()
    gate = asyncio.Event()

    async def work(emit: Emit) -> None:
        await emit(said(1))
        await emit(said(2))
        gate.set()
        await asyncio.Event().wait()

    stream = stream_of(Script(work), token)
    assert await anext(stream) == 1
    await gate.wait()
    token.abort()
    assert await anext(stream) == 2
    with pytest.raises(RunAborted):
        await anext(stream)


async def test_a_wanted_stop_after_a_step_ends_normally_and_an_abort_at_that_moment_does_not() -> (
    None
):
    for aborted in (False, True):
        token = CancelToken()
        stream = stream_of(Script(nothing, end=cancelled()), token)
        token.stop_after_step()
        if aborted:
            # As from a thread: the run sees `stopping` before its task is cancelled.
            stream._start()
            token._aborted.set()
            with pytest.raises(RunAborted):
                await anext(stream)
        else:
            assert await consume(stream) == []
            assert stream.error() is None


async def test_a_run_that_is_cancelled_for_no_reason_of_ours_is_not_silent() -> None:
    with pytest.raises(RunAborted):
        await anext(stream_of(Script(nothing, end=cancelled())))


async def test_an_abort_after_the_end_changes_nothing() -> None:
    token = CancelToken()
    stream = stream_of(Script(counting(1)), token)
    assert await consume(stream) == [0]
    assert not token._watchers  # a token that lives long keeps no runs that are over
    token.abort()
    await asyncio.sleep(0)
    assert stream.error() is None
    assert isinstance(stream.end, RunCompleted)


# --- waiting ---------------------------------------------------------------------------------------


async def test_the_consumer_itself_may_wait_for_the_end_and_read_on_later() -> None:
    stream = RunStream(Script(counting(500)), REQUEST, payload, buffer=3)
    assert await anext(stream) == 0
    async with asyncio.timeout(PATIENCE):
        await stream.wait()
    assert stream.error() is None
    assert await consume(stream) == list(range(1, 500))


async def test_waiting_for_a_run_whose_consumer_has_gone_without_a_word_does_not_hang() -> None:
    stream = RunStream(Script(counting(500)), REQUEST, payload, buffer=3)
    consumer = asyncio.create_task(anext(stream))
    waiting = asyncio.create_task(stream.wait())
    await consumer
    async with asyncio.timeout(PATIENCE):
        await waiting
        await stream.wait()


async def test_waiting_while_another_task_consumes_leaves_the_pace_to_it() -> None:
    stream = RunStream(Script(counting(50)), REQUEST, payload, buffer=3)
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        async for _item in stream:
            reading.set()
            await go_on.wait()

    reader = asyncio.create_task(read())
    await reading.wait()
    waiting = asyncio.create_task(stream.wait())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert stream.peak == 3
    go_on.set()
    async with asyncio.timeout(PATIENCE):
        await waiting
        await reader


def test_a_run_ends_with_its_loop() -> None:
    scripts: list[Script] = []

    async def main() -> None:
        scripts.append(Script(for_ever))
        stream = stream_of(scripts[0])
        await anext(stream)

    asyncio.run(main())
    assert scripts[0].over.is_set()
