"""`stream` gives what the model says as it says it, and then the result."""

from __future__ import annotations

import asyncio
from typing import Any, assert_never

import pytest
from pydantic import BaseModel

from runtime import (
    Agent,
    Message,
    OpenAIModel,
    OptionsRefused,
    ScriptedModel,
    ToolCall,
    ToolContext,
    Usage,
    tool,
)
from runtime.agent import Handoff
from runtime.cancel import CancelToken
from runtime.errors import OutputParseError, RunAborted
from runtime.events import (
    MessageDelta,
    ModelCompleted,
    RunCompleted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolProgress,
    ToolStarted,
)
from runtime.models.base import Finish, Text
from runtime.models.scripted import call_tools, say
from runtime.session import create_session
from runtime.streaming import ModelEvent, RunHandle, run, stream
from tests.faces.support import LONDON, NYC, Gated, agent, check_events, get_weather, weather_agent
from tests.models.benches import WIRES, http_bench
from tests.runtime.support import PATIENCE


@pytest.mark.rows("S1")
async def test_an_agent_without_a_model_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="has no model"):
        Agent("assistant", None)  # type: ignore[arg-type]  # the mistake that is tested
    with pytest.raises(ValueError, match="needs an agent or a model"):
        create_session(instructions="Be brief.")
    with pytest.raises(TypeError, match="is no agent and no graph"):
        stream(ScriptedModel([]), "hi")  # type: ignore[arg-type]  # the mistake that is tested
    assert (await run(agent(say("Hello.")), "hi")).output == "Hello."


@pytest.mark.rows("S3", "S4")
async def test_a_stream_is_iterated_and_its_result_awaited() -> None:
    handle = stream(weather_agent(), "Weather?")
    events = [event async for event in handle.stream]
    assert isinstance(events[-1], ModelCompleted)
    assert (await handle.result).output == "Sunny in both cities."

    events_, result = stream(weather_agent(), "Weather?")
    assert await anext(events_) is not None
    async for _event in events_:
        pass
    assert (await result).output == "Sunny in both cities."


@pytest.mark.rows("S14", "S15", "S8", "S10", "S11")
async def test_two_tool_calls_and_an_answer_come_in_exactly_this_order() -> None:
    handle = stream(weather_agent(), "Weather?")
    types = [event.type async for event in handle.stream]
    call = ["tool_call.started", *["tool_call.delta"] * 3, "tool_call.ready"]
    assert types == [*call, *call, "model.completed", *["message.delta"] * 4, "model.completed"]


@pytest.mark.rows("S14")
async def test_the_tools_run_between_the_two_model_calls() -> None:
    types = [event.type async for event in stream(weather_agent(), "Weather?").events]
    first, second = (i for i, kind in enumerate(types) if kind == "model.completed")
    ran = [i for i, kind in enumerate(types) if kind.startswith("tool.")]
    assert ran
    assert all(first < i < second for i in ran)


@pytest.mark.rows("S9", "W-S4")
async def test_the_fragments_of_each_call_are_its_arguments() -> None:
    joined: dict[str, str] = {}
    final: dict[str, str] = {}
    async for event in stream(weather_agent(), "Weather?").stream:
        match event:
            case ToolCallStarted():
                assert event.call_id not in joined
                joined[event.call_id] = ""
            case ToolCallDelta():
                joined[event.call_id] += event.arguments
            case ToolCallReady():
                assert joined[event.call_id] == event.arguments
                final[event.call_id] = event.arguments
            case _:
                pass
    assert joined == final == {NYC.id: NYC.arguments, LONDON.id: LONDON.arguments}


@pytest.mark.rows("S7", "S19", "S42")
async def test_the_joined_text_of_the_last_model_call_is_the_output() -> None:
    texts = [""]
    handle = stream(
        agent((*"Let me see. ", *call_tools(NYC)), say("It is  sunny.\n")), "Weather in New York?"
    )
    async for event in handle.stream:
        if isinstance(event, MessageDelta):
            texts[-1] += event.text
        elif isinstance(event, ModelCompleted):
            texts.append("")
    result = await handle.result
    assert texts == ["Let me see. ", "It is  sunny.\n", ""]
    assert result.output == "It is  sunny.\n"
    assert isinstance(result.output, str)


def told(event: ModelEvent) -> str:
    """Exhaustive: the type checker refuses this function when a sixth class comes."""
    match event:
        case MessageDelta():
            return event.text
        case ToolCallStarted() | ToolCallDelta() | ToolCallReady():
            return event.call_id
        case ModelCompleted():
            return event.finish_reason or ""
        case _:
            assert_never(event)


@pytest.mark.rows("S12")
async def test_stream_and_session_give_one_union_of_five_types() -> None:
    session = create_session(weather_agent())
    session.send("Weather?")
    from_session = [event async for event in session.stream()]
    direct = [event async for event in stream(weather_agent(), "Weather?").stream]
    assert [event.type for event in from_session] == [event.type for event in direct]
    assert {event.type for event in direct} == {
        "message.delta",
        "tool_call.started",
        "tool_call.delta",
        "tool_call.ready",
        "model.completed",
    }
    assert "".join(told(event) for event in direct).endswith("Sunny in both cities.stop")


async def test_an_event_is_there_before_the_model_says_the_next_one() -> None:
    gate = Gated()
    handle = stream(agent(["one ", gate.go_on, "two", Finish("stop")]), "hi")
    first = await anext(handle.stream)
    assert isinstance(first, MessageDelta)
    assert first.text == "one "
    gate.go_on.set()
    assert (await handle.drain()).output == "one two"


@pytest.mark.rows("X1", "S12")
async def test_all_that_happens_can_be_seen_instead_its_end_last() -> None:
    handle = stream(weather_agent(), "Weather?")
    events = [event async for event in handle.events]
    check_events(events)
    assert isinstance(events[-1], RunCompleted)
    assert {event.run_id for event in events} == {handle.run_id}
    assert (await handle.result).output == "Sunny in both cities."


@pytest.mark.rows("SX2")
async def test_the_running_of_tools_is_seen_among_all_events() -> None:
    types = [event.type async for event in stream(weather_agent(), "Weather?").events]
    assert types.count("tool.started") == types.count("tool.completed") == 2


@pytest.mark.rows("S35", "S44", "S45", "S47")
async def test_the_result_has_the_conversation_the_usage_and_who_said_it() -> None:
    assistant = agent(
        (*call_tools(NYC)[:-1], Finish("tool_calls", Usage(total_tokens=150))),
        ("Sunny.", Finish("stop", Usage(total_tokens=280))),
        instructions="You know the weather.",
    )
    before = [Message(role="user", content="Hi"), Message(role="assistant", content="Hello")]
    result = await run(assistant, "Weather?", history=before)
    assert result.usage.total_tokens == 430
    assert result.last_agent is assistant
    assert result.last_agent.name == "assistant"
    assert result.finish_reason == "stop"
    assert result.num_turns == 2
    assert result.interrupted == ()
    assert not result.stopped
    assert [(m.role, m.content) for m in result.messages] == [
        ("system", "You know the weather."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Weather?"),
        ("assistant", ""),
        ("tool", "sunny in New York"),
        ("assistant", "Sunny."),
    ]
    assert result.messages[4].tool_calls == (NYC,)
    assert result.messages[5].tool_call_id == NYC.id


class City(BaseModel):
    name: str
    population: int


def asked_for_city(text: str) -> Agent:
    return Agent("a", ScriptedModel([say(text)]), output_type=City)


@pytest.mark.rows("S43")
async def test_the_final_output_is_an_object_of_the_output_type() -> None:
    text = '{"name": "Paris", "population": 2100000}'
    result = await run(asked_for_city(text), "Paris?")
    assert result.final_output == City(name="Paris", population=2_100_000)
    assert isinstance(result.final_output, City)
    assert result.output == text
    assert (await run(agent(say("Paris.")), "Paris?")).final_output is None


@pytest.mark.rows("S43")
async def test_an_answer_that_does_not_fit_is_an_error_with_the_raw_text() -> None:
    handle = stream(asked_for_city("a nice city"), "Paris?")
    with pytest.raises(OutputParseError) as raised:
        await handle.drain()
    assert raised.value.text == "a nice city"


@pytest.mark.rows("S46")
async def test_after_a_handoff_the_last_agent_is_the_one_that_answered() -> None:
    call = ToolCall(id="h1", name="transfer_to_poet", arguments="{}")
    poet = Agent("poet", ScriptedModel([say("Roses are red.")]))
    first = Agent("first", ScriptedModel([call_tools(call)]), handoffs=[Handoff(lambda: poet)])
    result = await run(first, "A poem, please.")
    assert result.output == "Roses are red."
    assert result.last_agent is poet


@pytest.mark.rows("S12")
async def test_an_agent_below_does_not_speak_in_the_stream_but_among_all_events() -> None:
    def build() -> Agent:
        below = Agent("researcher", ScriptedModel([say("found it")]))
        call = ToolCall(id="r1", name="researcher", arguments='{"input": "look"}')
        return Agent(
            "boss", ScriptedModel([call_tools(call), say("Done.")]), tools=[below.as_tool()]
        )

    handle = stream(build(), "Look it up.")
    text = "".join([e.text async for e in handle.stream if isinstance(e, MessageDelta)])
    result = await handle.result
    assert text == result.output == "Done."
    assert [m.content for m in result.messages if m.role == "assistant"] == ["", "Done."]
    every = [e async for e in stream(build(), "Look it up.").events]
    spoken = {e.path: e.text for e in every if isinstance(e, MessageDelta) and e.text == "found"}
    assert spoken == {("boss", "r1:researcher"): "found"}


async def test_input_is_a_text_a_message_or_several() -> None:
    async def heard(input: Any) -> list[str]:
        assistant = agent(say("ok"))
        await run(assistant, input)
        scripted = assistant.model
        assert isinstance(scripted, ScriptedModel)
        return [message.content for message in scripted.requests[0].messages]

    question = Message(role="user", content="b")
    assert await heard("a") == ["a"]
    assert await heard(question) == ["b"]
    assert await heard([Message(role="assistant", content="x"), question]) == ["x", "b"]
    with pytest.raises(ValueError, match="no input"):
        stream(agent(), [])
    with pytest.raises(TypeError, match="is no message"):
        stream(agent(), [{"role": "user"}])  # type: ignore[list-item]  # the mistake


async def test_options_and_a_time_limit_are_checked_before_anything_runs() -> None:
    with pytest.raises(OptionsRefused, match=r"max_tokes: there is no such option.*max_tokens"):
        stream(agent(), "hi", options={"max_tokes": 5})
    with pytest.raises(ValueError, match="timeout"):
        stream(agent(), "hi", timeout=0)
    gate = asyncio.Event()
    with pytest.raises(TimeoutError):
        await run(agent([gate]), "hi", timeout=0.01)


@pytest.mark.rows("S5", "W-S1")
async def test_the_result_of_a_drained_stream_is_there_at_once_and_stays() -> None:
    handle: RunHandle = stream(agent(say("Hi."), tools=[get_weather]), "hi")
    async for _event in handle.stream:
        pass
    first = handle.result.__await__()
    with pytest.raises(StopIteration) as done:
        first.send(None)  # without a turn of the loop
    assert done.value.value is await handle.result
    assert (await handle.drain()).output == "Hi."


@pytest.mark.rows("S2")
async def test_a_model_is_configured_by_arguments_or_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    async with http_bench(WIRES["chat completions"]) as bench, asyncio.timeout(PATIENCE):
        bench.play(Text("ok"), Finish("stop"))
        url = f"{bench.server.url}/v1"
        given = await asyncio.to_thread(OpenAIModel, "m", base_url=url, api_key="by-argument")
        assert (await run(Agent("a", given), "hi")).output == "ok"
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "by-environment")
        found = await asyncio.to_thread(OpenAIModel, "m")
        assert (await run(Agent("a", found), "hi")).output == "ok"
        assert bench.server.keys == ["by-argument", "by-environment"]
        await given.aclose()
        await found.aclose()


@pytest.mark.rows("S48")
async def test_a_program_shows_text_and_tools_as_they_come_and_stops_a_long_run() -> None:
    place, token = Gated(), CancelToken()
    shown: list[str] = []

    @tool
    async def dig(context: ToolContext) -> str:
        """Dig."""
        await context.progress({"deep": 1})
        return "gold"

    call = ToolCall(id="d1", name="dig", arguments="{}")
    digger = agent(("I dig. ", *call_tools(call)), ("And ", place.go_on), tools=[dig])
    handle = stream(digger, "Dig.", cancel=token)

    async def show() -> None:
        async for event in handle.events:
            match event:
                case MessageDelta():
                    shown.append(event.text)
                case ToolStarted() | ToolCompleted():
                    shown.append(f"{event.type} {event.name}")
                case ToolProgress():
                    shown.append(f"{event.data}")
                case _:
                    pass
            if shown[-1:] == ["And "]:
                token.abort()

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RunAborted):
            await show()
    assert shown == ["I dig. ", "tool.started dig", "{'deep': 1}", "tool.completed dig", "And "]
