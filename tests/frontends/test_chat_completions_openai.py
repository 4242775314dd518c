"""OpenAI's own Python client, sync and async, talks to agents as if they were models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from gateway.builtin.scripted import echo, tools
from runtime.agent import Agent
from runtime.errors import ModelRefused
from runtime.models.scripted import ScriptedModel, say
from tests.support.chat_site import (
    LOOK,
    SESSION,
    ChatSite,
    Gated,
    chat_site,
    counter,
    looker,
    user,
)


@asynccontextmanager
async def client_of(site: ChatSite) -> AsyncIterator[Any]:
    """Give a client; its types know OpenAI's models, and not what other servers take."""
    async with openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key="any") as client:
        yield client


async def test_models_are_the_agents() -> None:
    async with chat_site(echo(), counter()) as site, client_of(site) as client:
        listed = [model async for model in client.models.list()]
        assert [model.id for model in listed] == ["echo", "counter"]
        assert (await client.models.retrieve("counter")) == listed[1]
        assert listed[0].object == "model"
        assert listed[0].owned_by == "tidegate"
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("gpt-nobody")
        assert caught.value.code == "model_not_found"


async def test_an_answer_and_its_stream_say_the_same() -> None:
    async with chat_site(counter()) as site, client_of(site) as client:
        whole = await client.chat.completions.create(model="counter", messages=user("2+2"))
        stream = await client.chat.completions.create(
            model="counter",
            messages=user("2+2"),
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert whole.choices[0].message.content == "I add.\n\nIt is 4."
    assert whole.choices[0].finish_reason == "stop"
    assert whole.choices[0].message.tool_calls is None, "the tool is the server's own"
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(d.content or "" for d in deltas) == whole.choices[0].message.content
    assert deltas[0].role == "assistant"
    reasoning = "".join((d.model_extra or {}).get("reasoning_content", "") for d in deltas)
    assert reasoning == "Two and two.\n\nEasy now."
    assert (whole.choices[0].message.model_extra or {})["reasoning_content"] == reasoning
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert whole.id.startswith("chatcmpl-")


async def test_the_sync_client_streams_and_waits() -> None:
    def talk(url: str) -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as typed:
            client: Any = typed
            whole = client.chat.completions.create(model="echo", messages=user("so it is"))
            stream = client.chat.completions.create(
                model="echo",
                messages=user("so it is"),
                stream=True,
            )
            said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            return whole.choices[0].message.content or "", said

    async with chat_site(echo()) as site:
        assert await asyncio.to_thread(talk, site.url) == ("so it is", "so it is")


async def test_a_tool_of_the_clients_makes_a_round_trip() -> None:
    async with chat_site(looker()) as site, client_of(site) as client:
        messages: list[Any] = user("north south")
        arguments: dict[str, Any] = {"model": "looker", "tools": [LOOK]}
        first = await client.chat.completions.create(messages=messages, **arguments)
        assert first.choices[0].finish_reason == "tool_calls"
        message = first.choices[0].message
        assert message.content == "Let me see."
        calls = message.tool_calls or []
        assert [call.model_dump() for call in calls] == [
            {
                "id": f"call_{place}",
                "type": "function",
                "function": {"name": "look", "arguments": f'{{"place": "{place}"}}'},
            }
            for place in ("north", "south")
        ]
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": f"what is at {call.id}"}
            for call in calls
        ]
        messages = [*messages, message.model_dump(exclude_none=True), *results]
        second = await client.chat.completions.create(messages=messages, **arguments)
        assert second.choices[0].finish_reason == "stop"
        answer = second.choices[0].message.content
        assert answer == "I saw what is at call_north and what is at call_south."
        assert {s["status"] for s in await site.sessions()} == {"idle"}, "nothing is left waiting"


async def test_the_stream_helper_parses_text_and_tool_calls() -> None:
    async with chat_site(looker()) as site, client_of(site) as client:
        arguments: dict[str, Any] = {"model": "looker", "tools": [LOOK]}
        async with client.chat.completions.stream(
            messages=user("north south"),
            **arguments,
        ) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_completion()
    done = [e for e in events if e.type == "tool_calls.function.arguments.done"]
    assert [(e.index, e.name, e.parsed_arguments) for e in done] == [
        (0, "look", {"place": "north"}),
        (1, "look", {"place": "south"}),
    ]
    assert [e.content for e in events if e.type == "content.done"] == ["Let me see."]
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls is not None
    assert len(final.choices[0].message.tool_calls) == 2


async def test_refusals_are_the_clients_own_classes_of_errors() -> None:
    async with chat_site(echo()) as site, client_of(site) as client:
        create = client.chat.completions.create
        with pytest.raises(openai.NotFoundError) as unknown:
            await create(model="gpt-nobody", messages=user("x"))
        assert unknown.value.code == "model_not_found"
        assert "echo" in unknown.value.message, "it names those that there are"
        with pytest.raises(openai.BadRequestError) as several:
            await create(model="echo", messages=user("x"), n=2)
        assert (several.value.param, several.value.code) == ("n", "unsupported_value")
        image = {"type": "image_url", "image_url": {"url": "data:,"}}
        with pytest.raises(openai.BadRequestError) as picture:
            await create(model="echo", messages=[{"role": "user", "content": [image]}])
        assert picture.value.param == "messages[0].content[0]"
        assert "'image_url'" in picture.value.message
        with pytest.raises(openai.BadRequestError) as hot:
            await create(model="echo", messages=user("x"), temperature=3)
        assert "temperature" in hot.value.message
        assert await site.sessions() == [], "a refused request leaves nothing behind"


async def test_a_run_that_fails_is_an_error_and_is_not_tried_again() -> None:
    model = ScriptedModel([["Hello", ModelRefused("it will not")]] * 4)
    async with chat_site(Agent("broken", model)) as site, client_of(site) as client:
        create = client.chat.completions.create
        with pytest.raises(openai.InternalServerError) as whole:
            await create(model="broken", messages=user("x"))
        assert whole.value.code == "model_refused"
        assert model.calls == 1, "the client does not start a second run by itself"
        stream = await create(model="broken", messages=user("x"), stream=True)
        heard: list[str] = []
        with pytest.raises(openai.APIError) as midway:
            await hear(stream, heard)
        assert "".join(heard) == "Hello"
        assert midway.value.code == "model_refused"
        assert "it will not" in midway.value.message


async def hear(stream: Any, heard: list[str]) -> None:
    """Put what is said into a list, also what came before the stream broke."""
    async for chunk in stream:
        heard.append(chunk.choices[0].delta.content or "")  # noqa: PERF401


async def test_an_approval_is_told_and_can_still_be_given_natively() -> None:
    async with chat_site(tools()) as site, client_of(site) as client:
        create = client.chat.completions.create
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await create(model="tools", messages=user("delete notes.txt"))
        assert caught.value.code == "approval_required"
        session_id = caught.value.response.headers[SESSION]
        assert session_id in caught.value.message
        snapshot = await site.manager.snapshot(session_id)
        assert snapshot.status == "interrupted"
        decision = {"approval_id": snapshot.approvals[0].approval_id, "decision": "approve"}
        body = {"type": "continue", "id": "c1", "decisions": [decision]}
        async with site.http.post(f"/v1/sessions/{session_id}/commands", json=body) as answer:
            assert answer.status == 202
        assert "is deleted" in (await site.until(session_id, "run.completed"))["output"]


@pytest.mark.parametrize("streaming", [True, False])
async def test_aborting_cancels_the_run(*, streaming: bool) -> None:
    gated = Gated()
    async with chat_site(gated.agent) as site, client_of(site) as client:
        create = client.chat.completions.create
        asking = asyncio.create_task(
            create(model="gated", messages=user("x"), stream=streaming),
        )
        if streaming:
            stream = await asking
            async for chunk in stream:
                if chunk.choices[0].delta.content == "Hello":
                    break
            await stream.close()
        else:
            await gated.begun.wait()
            asking.cancel()
        ended = await site.until(await site.only_session(), "run.cancelled")
        assert ended["reason"] == "disconnect"


async def test_a_conversation_brings_its_history_and_instructions_along() -> None:
    model = ScriptedModel([say("Ann.")])
    agent = Agent("memory", model, instructions="Be short.")
    async with chat_site(agent) as site, client_of(site) as client:
        create = client.chat.completions.create
        await create(
            model="memory",
            messages=[
                {"role": "developer", "content": "Speak English."},
                {"role": "user", "content": [{"type": "text", "text": "I am "}, *_parts("Ann")]},
                {"role": "assistant", "content": None, "refusal": "Hello, Ann."},
                {"role": "system", "content": "Be polite."},
                {"role": "user", "content": "Who am I?", "name": "Ann"},
            ],
            temperature=0.5,
            max_completion_tokens=7,
            max_tokens=9,
            stop="END",
            seed=1,
            top_p=0.5,
            user="ann",
            metadata={"ticket": "7"},
        )
        (session,) = await site.sessions()
    (request,) = model.requests
    assert [(m.role, m.content) for m in request.messages] == [
        ("system", "Be short.\n\nSpeak English.\n\nBe polite."),
        ("user", "I am Ann"),
        ("assistant", "Hello, Ann."),
        ("user", "Who am I?"),
    ]
    assert request.options.temperature == 0.5
    assert request.options.max_tokens == 7
    assert request.options.stop_sequences == ("END",)
    assert session["metadata"] == {"ticket": "7"}


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


async def test_a_limit_on_the_answer_is_told_as_its_reason() -> None:
    async with chat_site(echo()) as site, client_of(site) as client:
        create = client.chat.completions.create
        answer = await create(model="echo", messages=user("one two three"), max_tokens=2)
        assert answer.choices[0].message.content == "one two"
        assert answer.choices[0].finish_reason == "length"
