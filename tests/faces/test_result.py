"""A result never hangs, and says the same as its stream."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from runtime import Agent, ModelRefused, RuntimeFault, ScriptedModel
from runtime.errors import RunAborted, StreamNotConsumedError
from runtime.events import RunFailed
from runtime.models.base import Finish
from runtime.models.scripted import say
from runtime.streaming import RunHandle, RunResult, run, stream
from tests.faces.support import Gated, agent, check_events, gather_into
from tests.runtime.support import PATIENCE

REPEATS = 200


def long_answer() -> Agent:
    """More than a run may be ahead of its reader."""
    return agent([*(f"{i} " for i in range(500)), Finish("stop")])


async def settled(handle: RunHandle) -> RunResult:
    return await handle.result


@pytest.mark.rows("S6", "W-S1")
async def test_a_result_that_nobody_would_ever_produce_is_refused_at_once() -> None:
    handle = stream(agent(say("Hi.")), "hi")
    with pytest.raises(StreamNotConsumedError, match="drain"):
        await handle.result
    assert (await handle.drain()).output == "Hi."
    assert (await handle.result).output == "Hi."


@pytest.mark.rows("S6", "W-S1")
@pytest.mark.parametrize("answer", ["short", "long", "stuck"])
async def test_after_a_break_the_result_is_an_abort_however_far_the_run_was(answer: str) -> None:
    for _ in range(REPEATS):
        gate = asyncio.Event()
        asked = {
            "short": agent(say("a b c")),
            "long": long_answer(),
            "stuck": agent(["a", gate]),
        }[answer]
        handle = stream(asked, "hi")
        async for _event in handle.stream:
            break
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(RunAborted):
                await handle.result
        assert handle.over


@pytest.mark.rows("S6", "S4")
async def test_after_closing_the_result_is_an_abort_also_before_the_start() -> None:
    handle = stream(long_answer(), "hi")
    await anext(handle.stream)
    await handle.stream.aclose()
    with pytest.raises(RunAborted):
        await handle.result

    never = stream(long_answer(), "hi")
    await never.stream.aclose()
    with pytest.raises(RunAborted):
        await never.result
    with pytest.raises(RunAborted):
        await never.drain()

    async with stream(long_answer(), "hi") as left:
        await anext(left.events)
    with pytest.raises(RunAborted):
        await left.result


async def test_a_result_waits_while_another_task_consumes() -> None:
    gate = Gated()
    handle = stream(agent(["a", gate.go_on, "b", Finish("stop")]), "hi")
    reading = asyncio.create_task(gather_into([], handle.stream))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(settled(handle))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    gate.go_on.set()
    async with asyncio.timeout(PATIENCE):
        assert (await waiting).output == "ab"
        await reading


async def test_a_result_that_is_wanted_in_the_middle_of_reading_comes_and_nothing_is_lost() -> None:
    handle = stream(long_answer(), "hi")
    first = await anext(handle.stream)
    async with asyncio.timeout(PATIENCE):
        result = await handle.result
    rest = [event async for event in handle.stream]
    texts = [event.text for event in (first, *rest) if event.type == "message.delta"]
    assert "".join(texts) == result.output


async def test_draining_goes_on_where_the_reader_stopped() -> None:
    handle = stream(long_answer(), "hi")
    await anext(handle.events)
    async with asyncio.timeout(PATIENCE):
        assert (await handle.drain()).output.endswith("499 ")


async def test_a_run_is_consumed_in_one_way_only() -> None:
    handle = stream(agent(say("Hi.")), "hi")
    await anext(handle.stream)
    with pytest.raises(RuntimeFault, match="not both"):
        await anext(handle.events)
    assert (await handle.drain()).output == "Hi."

    other = stream(agent(say("Hi.")), "hi")
    await anext(other.events)
    with pytest.raises(RuntimeFault, match="not both"):
        await anext(other.stream)
    assert (await other.drain()).output == "Hi."


class Odd(Exception):
    pass


@pytest.mark.rows("S39", "X2")
@pytest.mark.parametrize("said", [(), ("one", "two")])
async def test_an_error_of_the_model_reaches_stream_and_result_as_the_same_object(
    said: tuple[str, ...],
) -> None:
    cause = KeyError("inner")
    error = Odd("outer")
    error.__cause__ = cause
    handle = stream(agent([*said, error]), "hi")
    seen: list[object] = []
    with pytest.raises(Odd) as raised:
        await gather_into(seen, handle.stream)
    assert raised.value is error
    assert raised.value.__cause__ is cause
    assert len(seen) == len(said)
    for _ in range(2):
        with pytest.raises(Odd) as again:
            await handle.result
        assert again.value is error


@pytest.mark.rows("S39")
async def test_a_fault_of_the_runtime_keeps_its_type_and_text() -> None:
    with pytest.raises(ModelRefused, match="bad key") as raised:
        await run(agent([ModelRefused("bad key", status_code=401)]), "hi")
    assert raised.value.status_code == 401


@pytest.mark.rows("X1")
async def test_a_failed_run_ends_its_events_with_the_failure() -> None:
    events: list[object] = []
    handle = stream(agent(["one", Odd("x")]), "hi")
    with pytest.raises(Odd):
        await gather_into(events, handle.events)
    check_events(events)  # type: ignore[arg-type]  # they are events
    assert isinstance(events[-1], RunFailed)


@contextmanager
def looking_at_what_is_new() -> Iterator[None]:
    """Let collections pass over all that is there already, which after thousands of tests takes long."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@pytest.mark.rows("S38")
async def test_a_result_that_nobody_wants_warns_of_nothing() -> None:
    complaints: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    with warnings.catch_warnings(), looking_at_what_is_new():
        warnings.simplefilter("error")
        for asked in (agent([Odd("x")]), agent(["a", asyncio.Event()]), agent(say("x"))):
            handle = stream(asked, "hi")
            _, result = handle
            try:
                async for _event in handle.stream:
                    break
            except Odd:
                pass
            await handle.wait()
            del handle, result, _
            gc.collect()
            await asyncio.sleep(0)
        unused = stream(agent(say("x")), "hi")
        del unused
        gc.collect()
    assert complaints == []


async def test_many_runs_of_one_agent_side_by_side_do_not_touch_each_other() -> None:
    shared = Agent("a", ScriptedModel(lambda asked: say(f"you said {asked.messages[-1].content}")))
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(run(shared, str(i))) for i in range(50)]
    assert [task.result().output for task in runs] == [f"you said {i}" for i in range(50)]
