"""Tools: from a typed function to a schema, and from a model's text to a call."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from runtime import (
    ArgumentsInvalid,
    Event,
    RunRequest,
    Tool,
    ToolContext,
    ToolFailed,
    ToolTimedOut,
    tool,
)
from runtime.events import ToolProgress
from runtime.plain import plain
from tests.runtime.support import PATIENCE


class Place(BaseModel):
    city: str
    country: str = "CH"


@tool
async def get_weather(
    place: Place,
    unit: Annotated[Literal["C", "F"], Field(description="Of the temperature")] = "C",
    days: int = 1,
) -> dict[str, Any]:
    """Look up the weather.

    Only for cities.

    Args:
        place: Where to
            look.
        unit: Not this text.
        days (int): How many: at most 7.

    Returns:
        The weather.
    """
    return {"city": place.city, "unit": unit, "days": days}


async def nobody(_: Any) -> None:
    raise AssertionError("no progress was expected")


async def run(ran: Tool, arguments: str = "{}", report: Any = nobody) -> Any:
    async def take(event: Event) -> None:
        await report(event.data if isinstance(event, ToolProgress) else event)

    context = ToolContext(
        call_id="c",
        request=RunRequest("run_1", ()),
        path=("a",),
        report=take,
        idempotency_key="run_1:c",
    )
    async with asyncio.timeout(PATIENCE):
        return await ran.run(ran.parse(arguments), context)


@pytest.mark.rows("S17")
def test_descriptions_reach_the_schema_that_the_model_is_sent() -> None:
    assert get_weather.info.name == "get_weather"
    assert get_weather.info.description == "Look up the weather.\n\nOnly for cities."
    schema = get_weather.info.parameters
    assert schema["required"] == ["place"]
    assert schema["additionalProperties"] is False
    place, unit, days = (schema["properties"][name] for name in ("place", "unit", "days"))
    assert place["description"] == "Where to look."
    assert unit == {
        "default": "C",
        "description": "Of the temperature",
        "enum": ["C", "F"],
        "type": "string",
    }
    assert days == {"default": 1, "description": "How many: at most 7.", "type": "integer"}
    assert schema["$defs"]["Place"]["required"] == ["city"]


async def test_arguments_reach_the_function_as_their_types() -> None:
    assert await run(get_weather, '{"place": {"city": "Bern"}, "days": "3"}') == {
        "city": "Bern",
        "unit": "C",
        "days": 3,
    }


async def test_no_arguments_at_all_are_an_empty_object() -> None:
    @tool
    async def ping() -> str:
        return "pong"

    assert ping.info.parameters["properties"] == {}
    assert await run(ping, "") == "pong"
    assert await run(ping, " {} ") == "pong"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"place":', "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"place": {}}', r"place\.city: Field required"),
        ('{"place": {"city": "x"}, "unit": "K"}', "unit: Input should be 'C' or 'F'"),
        ('{"place": {"city": "x"}, "extra": 1}', "extra: Extra inputs"),
    ],
)
def test_bad_arguments_are_told_in_words(arguments: str, text: str) -> None:
    with pytest.raises(ArgumentsInvalid, match=text):
        get_weather.parse(arguments)


async def test_names_that_pydantic_needs_for_itself_are_fine_as_parameters() -> None:
    @tool
    async def save(json: str, copy: int, model_name: str = "m") -> str:
        return f"{json} {copy} {model_name}"

    assert list(save.info.parameters["properties"]) == ["json", "copy", "model_name"]
    assert await run(save, '{"json": "j", "copy": 2}') == "j 2 m"


def test_a_function_that_a_model_cannot_call_is_refused_with_the_reason() -> None:
    def untyped(city) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001 - what is refused
        return str(city)

    def many(*cities: str) -> str:
        return str(cities)

    def hidden(_city: str) -> str:
        return _city

    def odd(lock: threading.Event) -> str:
        return str(lock)

    with pytest.raises(TypeError, match=r"tool 'untyped': parameter 'city' needs a type"):
        tool(untyped)
    with pytest.raises(TypeError, match=r"tool 'many': .* cannot be given by name"):
        tool(many)
    with pytest.raises(TypeError, match="underscore"):
        tool(hidden)
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        tool(odd)
    with pytest.raises(TypeError, match="is no function"):
        tool(print)
    with pytest.raises(ValueError, match="tool name 'no spaces'"):
        tool(hidden_free, name="no spaces")
    with pytest.raises(ValueError, match="timeout"):
        tool(hidden_free, timeout=0)


def hidden_free(city: str) -> str:
    return city


async def test_options_replace_what_the_function_says() -> None:
    renamed = tool(hidden_free, name="other", description="Does it.", idempotent=True)
    assert (renamed.name, renamed.description, renamed.idempotent) == ("other", "Does it.", True)
    assert await run(renamed, '{"city": "Bern"}') == "Bern"


async def test_a_sync_tool_runs_in_a_thread_and_reports_progress_in_order() -> None:
    said: list[Any] = []
    threads: list[str] = []

    async def report(data: Any) -> None:
        await asyncio.sleep(0)
        said.append(data)

    @tool
    def count(to: int, told: ToolContext) -> str:
        threads.append(threading.current_thread().name)
        for number in range(to):
            told.progress_from_thread(number)
        return told.idempotency_key

    assert "told" not in count.info.parameters["properties"]
    assert await run(count, '{"to": 3}', report) == "run_1:c"
    assert said == [0, 1, 2]
    assert threads == ["tidegate-tool"]


async def test_an_async_tool_reports_progress_and_waits_until_it_is_taken() -> None:
    said: list[Any] = []

    async def report(data: Any) -> None:
        said.append(("taken", data))

    @tool
    async def work(told: ToolContext) -> str:
        for part in ("a", "b"):
            said.append(("said", part))
            await told.progress(part)
        return "done"

    assert await run(work, report=report) == "done"
    assert said == [("said", "a"), ("taken", "a"), ("said", "b"), ("taken", "b")]


async def test_a_tool_that_takes_too_long_is_cut_off() -> None:
    released = threading.Event()

    @tool(timeout=0.02)
    async def slow() -> None:
        await asyncio.sleep(60)

    @tool(timeout=0.02)
    def stuck() -> None:
        released.wait(PATIENCE)

    try:
        for ran in (slow, stuck):
            with pytest.raises(ToolTimedOut, match=r"not done within 0\.02 seconds"):
                await run(ran)
    finally:
        released.set()


async def test_a_tools_own_timeout_error_is_its_own() -> None:
    @tool(timeout=60)
    async def flaky() -> None:
        raise TimeoutError("the database")

    with pytest.raises(TimeoutError, match="the database"):
        await run(flaky)


async def test_a_cancelled_call_leaves_its_thread_and_ignores_what_it_says_later() -> None:
    began, go_on = threading.Event(), threading.Event()
    refused: list[BaseException] = []

    @tool
    def stubborn(told: ToolContext) -> str:
        began.set()
        go_on.wait(PATIENCE)
        try:
            told.progress_from_thread("late")
        except ToolFailed as error:
            refused.append(error)
        finally:
            ended.set()
        return "late"

    ended = threading.Event()
    task = asyncio.create_task(run(stubborn))
    await asyncio.to_thread(began.wait, PATIENCE)
    before = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - before < 1
    go_on.set()
    await asyncio.to_thread(ended.wait, PATIENCE)
    assert [str(error) for error in refused] == [
        "the call is over: nobody waits for this tool any more"
    ]


async def test_a_tool_that_will_not_be_cancelled_does_not_hold_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    began, released = asyncio.Event(), asyncio.Event()

    @tool
    async def stubborn() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            await released.wait()

    task = asyncio.create_task(run(stubborn))
    await began.wait()
    task.cancel()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not released.is_set()
    assert "did not stop" in caplog.text
    released.set()


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration("x"), KeyboardInterrupt()])
async def test_a_sync_tool_that_wants_to_end_the_process_only_fails(error: BaseException) -> None:
    @tool
    def leave() -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        await run(leave)


async def test_a_tool_that_cancels_itself_fails() -> None:
    @tool
    async def confused() -> None:
        raise asyncio.CancelledError

    with pytest.raises(ToolFailed, match="cancelled itself"):
        await run(confused)


@dataclass
class Reading:
    at: datetime
    values: set[int]


def test_results_become_plain_json_and_what_cannot_is_a_placeholder() -> None:
    loop: list[Any] = []
    loop.append(loop)
    reading = Reading(datetime(2026, 1, 2, tzinfo=UTC), {1})
    assert plain(reading, "t") == {"at": "2026-01-02T00:00:00Z", "values": [1]}
    assert plain(Place(city="Bern"), "t") == {"city": "Bern", "country": "CH"}
    assert plain({1: date(2026, 1, 2), "n": float("nan")}, "t") == {"1": "2026-01-02", "n": None}
    assert plain([b"\xff", object()], "t") == ["_w==", "<object>"]
    assert plain(loop, "t") == "<list>"
    assert plain("bad \ud800 text", "t") == "bad ? text"
    assert plain(None, "t") is None


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, math.factorial(25)])
def test_a_whole_number_that_would_be_rounded_becomes_its_digits(number: int) -> None:
    assert plain({"n": [number]}, "t") == {"n": [str(number)]}
    exact = {"n": [2**64 - 1, -(2**63), 1e300, "7" * 30, True]}
    assert plain(exact, "t") == exact
    assert plain(10**5000, "t") == "<int>"
