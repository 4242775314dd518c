"""`get_agent` and `chat_stream`: an agent by name, and its answer as plain strings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import Field, ValidationError

from runtime import (
    Agent,
    AgentUnknown,
    Message,
    ModelRefused,
    OptionsRefused,
    Registry,
    RunOptions,
    RuntimeFault,
    ScriptedModel,
    ToolCall,
    tool,
)
from runtime.cancel import CancelToken
from runtime.errors import RunAborted, RunFault
from runtime.models.base import Finish, ReasoningText, Text
from runtime.models.scripted import call_tools, say
from runtime.registry import ServedAgent, get_agent, set_default_registry
from tests.faces.support import NYC, Gated, agent, gather_into, weather_agent
from tests.models.benches import WIRES, http_bench
from tests.runtime.support import PATIENCE


@pytest.fixture(autouse=True)
def no_default() -> Iterator[None]:
    yield
    set_default_registry(None)


def options_of(asked: Agent) -> RunOptions:
    assert isinstance(asked.model, ScriptedModel)
    return asked.model.requests[-1].options


@pytest.mark.rows("K1")
async def test_each_piece_is_there_before_the_model_says_the_next() -> None:
    place = Gated()
    served = ServedAgent(agent(("Hel", place.go_on, "lo", Finish("stop"))))
    pieces = served.chat_stream("hi")
    assert await anext(pieces) == "Hel"
    place.go_on.set()
    assert [piece async for piece in pieces] == ["lo"]


@pytest.mark.rows("K2", "K3")
async def test_an_agent_is_found_by_name_and_without_a_name_it_is_the_default() -> None:
    first = Agent("assistant", ScriptedModel([say("Hi.")]))
    other = Agent("other", ScriptedModel([say("Ho.")]))
    with pytest.raises(RuntimeFault, match="no registry is the default"):
        await get_agent("assistant")
    registry = Registry(first, other)
    registry.make_default()
    assert (await get_agent()).name == "assistant"
    assert (await get_agent(None, None)).runnable is first
    assert await (await get_agent("other")).chat("hi") == "Ho."
    with pytest.raises(AgentUnknown, match=r"no agent 'nobody'; registered: assistant, other"):
        await get_agent("nobody")


@pytest.mark.rows("K22")
async def test_a_changed_registry_holds_from_the_next_look_up_on() -> None:
    old, new = (Agent("a", ScriptedModel([say(text), say(text)])) for text in ("old", "new"))
    registry = Registry(old)
    before = await registry.get_agent("a")
    assert registry.replace(new) is old
    assert await before.chat("hi") == "old"
    assert await (await registry.get_agent("a")).chat("hi") == "new"
    registry.register(Agent("b", ScriptedModel([say("b")])))
    assert registry.remove("a") is new
    assert (await registry.get_agent()).name == "b"
    with pytest.raises(AgentUnknown, match=r"no agent 'a'; registered: b"):
        await registry.get_agent("a")
    with pytest.raises(AgentUnknown):
        registry.replace(old)
    with pytest.raises(AgentUnknown):
        registry.remove("a")


@pytest.mark.rows("K4", "K5", "W-K2")
async def test_only_text_comes_and_nothing_is_added_to_it() -> None:
    pieces = [piece async for piece in ServedAgent(weather_agent()).chat_stream("Weather?")]
    assert all(type(piece) is str for piece in pieces)
    assert "".join(pieces) == "Sunny in both cities."
    thoughtful = agent((ReasoningText("hm"), "", "Yes", Finish("stop")))
    assert [p async for p in ServedAgent(thoughtful).chat_stream("?")] == ["Yes"]


@pytest.mark.rows("K4")
async def test_agents_below_work_in_silence() -> None:
    below = Agent("helper", ScriptedModel([say("secret work")]))
    call = ToolCall(id="h1", name="helper", arguments='{"input": "x"}')
    boss = agent(call_tools(call), say("Done."), tools=[below.as_tool()])
    assert await ServedAgent(boss).chat("hi") == "Done."


@pytest.mark.rows("K6", "W-K3", "X2")
async def test_a_failure_before_the_first_piece_is_raised_before_it() -> None:
    pieces: list[str] = []
    with pytest.raises(ModelRefused, match="bad key"):
        await gather_into(pieces, ServedAgent(agent([ModelRefused("bad key")])).chat_stream("hi"))
    assert pieces == []


@pytest.mark.rows("K6", "W-K3")
async def test_a_later_failure_is_raised_after_what_came_before_it() -> None:
    pieces: list[str] = []
    with pytest.raises(ModelRefused, match="too long"):
        await gather_into(
            pieces,
            ServedAgent(agent(["one ", "two", ModelRefused("too long")])).chat_stream("hi"),
        )
    assert pieces == ["one ", "two"]


async def test_a_run_that_waits_for_a_human_is_an_error_and_not_a_short_answer() -> None:
    @tool(needs_approval=True)
    async def send() -> str:
        """Send."""
        return "sent"

    call = ToolCall(id="c1", name="send", arguments="{}")
    served = ServedAgent(agent(("Well. ", *call_tools(call)), say("never"), tools=[send]))
    pieces: list[str] = []
    with pytest.raises(RunFault, match="human") as raised:
        await gather_into(pieces, served.chat_stream("hi"))
    assert raised.value.code == "approval_required"
    assert pieces == ["Well. "]


async def test_a_chat_is_stopped_by_its_token_or_by_leaving_it() -> None:
    place, token = Gated(), CancelToken()
    served = ServedAgent(agent(("Once ", place.go_on), ("Once ", place.go_on)))
    pieces = served.chat_stream("hi", cancel=token)
    assert await anext(pieces) == "Once "
    token.abort()
    with pytest.raises(RunAborted):
        await anext(pieces)
    left = served.chat_stream("hi")
    async for _piece in left:
        break
    async with asyncio.timeout(PATIENCE):
        await left.wait()
    gate = asyncio.Event()
    with pytest.raises(TimeoutError):
        await ServedAgent(agent([gate])).chat("hi", timeout=0.01)


async def test_a_chat_may_go_on_from_what_was_said_before() -> None:
    asked = agent(say("ok"))
    await ServedAgent(asked).chat("c", history=[Message(role="user", content="a")])
    assert isinstance(asked.model, ScriptedModel)
    assert asked.model.requests[0].messages[0].content == "a\n\nc"


SET: dict[str, Any] = {"temperature": 0.7, "max_tokens": 500, "stop_sequences": ("\n\n",)}


@pytest.mark.rows("K16")
@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"temperature": 0.7, "max_tokens": 500, "stop_sequences": ["\n\n"]}, {}),
        ({"temperature": 0.7, "maxTokens": 500, "stopSequences": ["\n\n"]}, {}),
        (None, {"temperature": 0.7, "max_tokens": 500, "stop_sequences": ["\n\n"]}),
        (None, {"temperature": 0.7, "maxTokens": 500, "stopSequences": ["\n\n"]}),
        (RunOptions(temperature=0.7, max_tokens=500, stop_sequences=("\n\n",)), {}),
        (RunOptions.model_validate({"maxTokens": 500}), {"temperature": 0.7, **SET}),
        ({"temperature": 2, "maxTokens": 1, "stopSequences": []}, SET),
    ],
)
async def test_options_come_as_a_dict_as_keywords_or_as_an_object(
    options: Any, more: dict[str, Any]
) -> None:
    asked = agent(say("ok"))
    await ServedAgent(asked).chat("hi", options, **more)
    assert options_of(asked).model_dump(exclude_unset=True) == SET


@pytest.mark.rows("K3", "K16")
async def test_the_config_of_a_look_up_holds_unless_a_chat_says_otherwise() -> None:
    asked = agent(say("ok"))
    served = await Registry(asked).get_agent(config={"maxTokens": 5, "temperature": 0.1})
    await served.chat("hi", {"temperature": 1})
    assert options_of(asked).model_dump(exclude_unset=True) == {"max_tokens": 5, "temperature": 1}
    with pytest.raises(OptionsRefused, match="nope"):
        await Registry(asked).get_agent(config={"nope": 1})


class StyleOptions(RunOptions):
    reading_level: int = Field(default=5, ge=1, le=9)


@pytest.mark.rows("K16", "K20")
async def test_options_of_an_agent_s_own_have_aliases_too() -> None:
    asked = Agent("a", ScriptedModel([say("ok"), say("ok")]), options_type=StyleOptions)
    await ServedAgent(asked).chat("hi", {"readingLevel": 3})
    assert options_of(asked) == StyleOptions(reading_level=3)
    await ServedAgent(asked).chat("hi", RunOptions(max_tokens=7))
    assert options_of(asked).model_dump(exclude_unset=True) == {"max_tokens": 7}
    with pytest.raises(OptionsRefused, match="reading_level"):
        ServedAgent(asked).chat_stream("hi", reading_level=10)


@pytest.mark.rows("K20")
@pytest.mark.parametrize("given", [{"topp": 1}, {"max_token": 1}, {"maxTokenss": 1}])
async def test_an_unknown_option_is_refused_at_once_by_name_with_those_that_there_are(
    given: dict[str, Any],
) -> None:
    (name,) = given
    with pytest.raises(OptionsRefused) as raised:
        ServedAgent(agent()).chat_stream("hi", given)
    assert f"{name}: there is no such option" in str(raised.value)
    assert "it takes: max_tokens, stop_sequences, temperature" in str(raised.value)


@pytest.mark.rows("K17")
@pytest.mark.parametrize("value", [-0.1, 2.1, "hot"])
async def test_an_option_out_of_range_is_refused_at_once_and_the_cause_is_pydantic_s(
    value: Any,
) -> None:
    with pytest.raises(OptionsRefused, match="temperature") as raised:
        ServedAgent(agent()).chat_stream("hi", temperature=value)
    assert isinstance(raised.value.__cause__, ValidationError)
    with pytest.raises(OptionsRefused, match="max_tokens: "):
        ServedAgent(agent()).chat_stream("hi", maxTokens=0)
    with pytest.raises(ValidationError) as named:  # as the server validates them
        RunOptions.model_validate({"maxTokens": 0})
    assert named.value.errors()[0]["loc"] == ("max_tokens",)
    with pytest.raises(ValidationError):
        RunOptions(temperature=value)


@pytest.mark.rows("K17", "K20")
async def test_on_the_wire_is_what_was_set_unchanged_and_nothing_else() -> None:
    async with http_bench(WIRES["chat completions"]) as bench, asyncio.timeout(PATIENCE):
        bench.play(Text("ok"), Finish("stop"))
        served = ServedAgent(Agent("a", bench.model))
        await served.chat("hi")
        await served.chat("hi", {"temperature": 0.1234, "maxTokens": 77})
        await served.chat("hi", temperature=0)
        bare, two, zero = bench.server.requests
    names = {"temperature", "max_tokens", "max_completion_tokens", "stop"}
    assert not names & bare.keys()
    assert two["temperature"] == 0.1234
    assert 77 in (two.get("max_tokens"), two.get("max_completion_tokens"))
    assert "stop" not in two
    assert zero["temperature"] == 0
    assert not (names - {"temperature"}) & zero.keys()


@pytest.mark.rows("K18")
async def test_the_output_is_capped() -> None:
    served = ServedAgent(agent(say("one two three four five")))
    assert await served.chat("hi", max_tokens=2) == "one two"


async def test_nothing_runs_before_the_first_piece_is_wanted() -> None:
    asked = agent(call_tools(NYC), say("ok"))
    pieces = ServedAgent(asked).chat_stream("hi")
    await asyncio.sleep(0)
    assert isinstance(asked.model, ScriptedModel)
    assert asked.model.requests == []
    await pieces.aclose()
