"""Responses as OpenAI's Python client gets them: whole, streamed, with tools, one after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from gateway.builtin.research import research
from runtime.agent import Agent
from runtime.errors import ModelRefused
from runtime.messages import Usage
from runtime.models.base import Finish
from runtime.models.scripted import ScriptedModel
from tests.frontends.responses_support import (
    TOOL,
    boss,
    checked,
    keeper,
    mirror,
    responses_site,
)
from tests.support.chat_site import Gated, counter, looker


async def test_a_response_is_an_agents_answer() -> None:
    async with responses_site(counter()) as site:
        response = await site.ai.responses.create(
            model="counter",
            input="2 + 2?",
            temperature=0.5,
            max_output_tokens=50,
            metadata={"a": "b"},
        )
        assert response.status == "completed"
        assert response.output_text == "I add.It is 4."
        kinds = [item.type for item in response.output]
        assert kinds == ["reasoning", "message", "mcp_call", "reasoning", "message"]
        call: Any = response.output[2]
        assert (call.name, call.arguments, call.output) == ("add", '{"a": 2, "b": 2}', "4")
        assert call.server_label == "tidegate"
        assert (response.model, response.metadata) == ("counter", {"a": "b"})
        assert (response.temperature, response.max_output_tokens) == (0.5, 50)
        assert response.usage is not None
        assert response.usage.total_tokens > 0
        again = await site.ai.responses.retrieve(response.id)
        assert again.to_dict() == response.to_dict()


async def test_a_stream_fits_the_clients_own_types_and_adds_up() -> None:
    async with responses_site(counter()) as site:
        stream = await site.ai.responses.create(model="counter", input="2 + 2?", stream=True)
        events = [event async for event in stream]
        types = checked(events)
        assert types[:2] == ["response.created", "response.in_progress"]
        assert types[-1] == "response.completed"
        final: Any = events[-1]
        whole = await site.ai.responses.retrieve(final.response.id)
        assert whole.to_dict() == final.response.to_dict()
        async with site.ai.responses.stream(model="counter", input="2 + 2?") as helper:
            texts = [e.delta async for e in helper if e.type == "response.output_text.delta"]
            done = await helper.get_final_response()
        assert "".join(texts) == done.output_text == whole.output_text


async def test_the_client_without_async_gets_the_same() -> None:
    async with responses_site(counter()) as site:

        def ask() -> tuple[str, str]:
            with openai.OpenAI(api_key="none", base_url=f"{site.url}/v1") as ai:
                whole = ai.responses.create(model="counter", input="2 + 2?")
                with ai.responses.stream(model="counter", input="2 + 2?") as stream:
                    return whole.output_text, stream.get_final_response().output_text

        assert await asyncio.to_thread(ask) == ("I add.It is 4.", "I add.It is 4.")


async def test_a_conversation_goes_on_from_response_to_response() -> None:
    async with responses_site(mirror()) as site:
        first = await site.ai.responses.create(
            model="mirror", input="one", instructions="Be brief.", metadata={"a": "b"}
        )
        assert first.output_text == "system: Be brief. | user: one"
        second = await site.ai.responses.create(
            model="mirror", input="two", previous_response_id=first.id, metadata={"a": "b"}
        )
        assert second.metadata == {"a": "b"}
        assert second.output_text == f"user: one | assistant: {first.output_text} | user: two"
        assert (first.previous_response_id, second.previous_response_id) == (None, first.id)
        assert (first.instructions, second.instructions) == ("Be brief.", None)
        session = await site.only_session()
        assert session in first.id
        assert (await site.ai.responses.retrieve(second.id)).previous_response_id == first.id
        kind, error = await site.refused(model="mirror", input="x", previous_response_id=first.id)
        assert (kind, error["param"]) == (openai.BadRequestError, "previous_response_id")
        assert error["code"] == "previous_response_not_latest"


async def test_what_was_said_before_begins_a_session() -> None:
    async with responses_site(mirror()) as site:
        given: Any = [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
            {
                "type": "message",
                "id": "msg_of_somebody",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "two", "annotations": []}],
            },
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "three"},
            {"role": "user", "content": "four"},
        ]
        response = await site.ai.responses.create(model="mirror", input=given)
        assert response.output_text == (
            "system: Be kind. | user: one | assistant: two | tool: three | user: four"
        )
        listed = [
            item.model_dump(include={"type", "role", "call_id"})
            async for item in await site.ai.responses.input_items.list(response.id, order="asc")
        ]
        assert listed == [
            {"type": "message", "role": "user"},
            {"type": "message", "role": "assistant"},
            {"type": "function_call", "call_id": "c1"},
            {"type": "function_call_output", "call_id": "c1"},
            {"type": "message", "role": "user"},
        ]
        page = await site.ai.responses.input_items.list(response.id, limit=2)
        assert [item.id for item in page.data] == [
            f"in_{response.id.removeprefix('resp_')}-{place}" for place in (4, 3)
        ]
        assert page.has_more
        rest = await site.ai.responses.input_items.list(response.id, after=page.data[1].id)
        assert (len(rest.data), rest.has_more) == (3, False)


async def test_a_call_without_an_answer_is_answered_by_the_first_request() -> None:
    async with responses_site(mirror()) as site:
        given: Any = [
            {"role": "user", "content": "one"},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "two"},
        ]
        response = await site.ai.responses.create(model="mirror", input=given)
        assert response.output_text == "user: one | assistant:  | tool: two"


async def test_the_clients_tools_are_called_by_the_client() -> None:
    async with responses_site(looker()) as site:
        said = [("user", "hello"), ("assistant", "hi"), ("user", "sea sky")]
        conversation = [{"role": role, "content": text} for role, text in said]
        asked: Any = {"model": "looker", "tools": [TOOL], "input": conversation}
        async with site.ai.responses.stream(**asked) as stream:
            events = [event async for event in stream]
            first = await stream.get_final_response()
        assert events[-1].type == "response.completed"
        assert [item.type for item in first.output] == ["message", "function_call", "function_call"]
        sea, sky = (item for item in first.output if item.type == "function_call")
        assert (sea.name, sea.arguments, sea.status) == ("look", '{"place": "sea"}', "completed")
        outputs: Any = [
            {"type": "function_call_output", "call_id": sky.call_id, "output": "blue"},
            {
                "type": "function_call_output",
                "call_id": sea.call_id,
                "output": [{"type": "input_text", "text": "green"}],
            },
        ]
        kind, error = await site.refused(
            model="looker", previous_response_id=first.id, input=outputs[:1]
        )
        assert kind is openai.BadRequestError
        assert error["message"] == f"No tool output found for function call {sea.call_id}."
        second = await site.ai.responses.create(
            model="looker", previous_response_id=first.id, input=outputs, tools=[TOOL]
        )
        assert second.output_text == "I saw green and blue."
        assert second.previous_response_id == first.id
        assert second.id == f"{first.id}.1"
        assert [item.type for item in second.output] == ["message"]
        listed = await site.ai.responses.input_items.list(second.id)
        assert {item.type for item in listed.data} == {"function_call_output"}
        retrieved = await site.ai.responses.retrieve(first.id)
        assert retrieved.output_text == first.output_text
        assert len(retrieved.output) == 3


async def test_a_client_that_keeps_the_conversation_itself_goes_on_in_the_same_session() -> None:
    async with responses_site(looker()) as site:
        asked: Any = {"model": "looker", "tools": [TOOL]}
        history: Any = [{"role": "user", "content": "sea"}]
        first = await site.ai.responses.create(**asked, input=history)
        history += [item.to_dict() for item in first.output]
        call: Any = first.output[-1]
        history.append({"type": "function_call_output", "call_id": call.call_id, "output": "wet"})
        second = await site.ai.responses.create(**asked, input=history)
        assert second.output_text == "I saw wet."
        assert second.id == f"{first.id}.1"
        history += [item.to_dict() for item in second.output]
        history.append({"role": "user", "content": "sky"})
        third = await site.ai.responses.create(**asked, input=history)
        assert third.previous_response_id == second.id
        assert len(await site.sessions()) == 1
        # Another question in place of the last one: that is another conversation.
        history[-1] = {"role": "user", "content": "land"}
        other = await site.ai.responses.create(**asked, input=history)
        assert other.previous_response_id is None
        assert len(await site.sessions()) == 2
        last: Any = other.output[-1]
        assert last.arguments == '{"place": "land"}'


async def test_calls_and_their_outputs_may_come_in_pairs() -> None:
    async with responses_site(looker()) as site:
        asked: Any = {"model": "looker", "tools": [TOOL]}
        first = await site.ai.responses.create(**asked, input="sea sky")
        said, *calls = [item.to_dict() for item in first.output]
        assert said["type"] == "message"
        history: Any = [{"role": "user", "content": "sea sky"}]
        for call, seen in zip(calls, ("green", "blue"), strict=True):
            output = {"type": "function_call_output", "call_id": call["call_id"], "output": seen}
            history += [{key: call[key] for key in call if key != "id"}, output]
        second = await site.ai.responses.create(**asked, input=history)
        assert second.output_text == "I saw green and blue."
        assert second.previous_response_id == first.id


async def test_references_stand_for_what_they_name() -> None:
    async with responses_site(mirror()) as site:
        first = await site.ai.responses.create(model="mirror", input="one")
        told: Any = [
            {"role": "user", "content": "one"},
            {"type": "item_reference", "id": first.output[0].id},
            {"role": "user", "content": "two"},
        ]
        second = await site.ai.responses.create(model="mirror", input=told)
        assert second.previous_response_id == first.id
        forked = await site.ai.responses.create(model="mirror", input=told)
        assert forked.previous_response_id is None
        assert (
            forked.output_text
            == second.output_text
            == "user: one | assistant: user: one | user: two"
        )
        for unknown in ("msg_x", f"{first.output[0].id}9", "msg_ses_x.run_y-0"):
            told[1] = {"type": "item_reference", "id": unknown}
            kind, error = await site.refused(model="mirror", input=told)
            assert (kind, error["param"]) == (openai.BadRequestError, "input[1].id")


async def test_a_human_approves_and_another_one_does_not() -> None:
    async with responses_site(keeper()) as site:
        for approve, said in ((True, "Told: t is gone"), (False, "not today")):
            first = await site.ai.responses.create(model="keeper", input="go")
            (request,) = first.output
            assert request.type == "mcp_approval_request"
            assert (request.name, request.arguments) == ("drop", '{"table": "t"}')
            kind, error = await site.refused(
                model="keeper", input="well?", previous_response_id=first.id
            )
            assert kind is openai.BadRequestError
            assert request.id in error["message"]
            answer: Any = {
                "type": "mcp_approval_response",
                "approval_request_id": request.id,
                "approve": approve,
                "reason": None if approve else "not today",
            }
            more = {"role": "user", "content": "and hurry"}
            _, error = await site.refused(
                model="keeper", input=[answer, more], previous_response_id=first.id
            )
            assert "answer the calls first" in error["message"]
            second = await site.ai.responses.create(
                model="keeper", previous_response_id=first.id, input=[answer]
            )
            assert said in second.output_text
            call: Any = second.output[0]
            assert call.type == "mcp_call"
            assert call.approval_request_id == request.id
            assert (call.output == "t is gone") is approve
            _, both = await site.refused(
                model="keeper", previous_response_id=second.id, input=[answer]
            )
            assert both["message"] == f"No approval request found with id {request.id}."
            late, problem = await site.refused(
                model="keeper", previous_response_id=first.id, input=[answer]
            )
            assert (late, problem["code"]) == (
                openai.BadRequestError,
                "previous_response_not_latest",
            )


async def test_an_agent_that_is_called_as_a_tool_is_not_the_answer() -> None:
    async with responses_site(boss()) as site:
        response = await site.ai.responses.create(model="boss", input="go")
        assert response.output_text == "That is all."
        call: Any = response.output[0]
        assert (call.name, call.output) == ("helper", "For your ears.")


async def test_a_graph_asks_and_then_streams_its_report_as_the_answer() -> None:
    graph = research(None, pace=0.001)
    async with responses_site(graph) as site:
        first = await site.ai.responses.create(model=graph.name, input="tides")
        (request,) = first.output
        assert (request.type, first.status) == ("mcp_approval_request", "completed")
        answer: Any = {
            "type": "mcp_approval_response",
            "approval_request_id": request.id,
            "approve": True,
        }
        asked: Any = {"model": graph.name, "previous_response_id": first.id, "input": [answer]}
        async with site.ai.responses.stream(**asked) as stream:
            events = [event async for event in stream]
            second = await stream.get_final_response()
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert len(deltas) > 10
        assert "".join(deltas) == second.output_text
        assert [item.type for item in second.output] == ["message"]


async def test_a_failure_ends_the_stream_and_is_in_the_object() -> None:
    broken = ScriptedModel(lambda request: ["Hello", ModelRefused("it will not")])
    async with responses_site(Agent("broken", broken)) as site:
        response = await site.ai.responses.create(model="broken", input="hi")
        assert response.status == "failed"
        assert response.error is not None
        assert "it will not" in response.error.message
        stream = await site.ai.responses.create(model="broken", input="hi", stream=True)
        assert checked([event async for event in stream])[-1] == "response.failed"
        async with site.ai.responses.stream(model="broken", input="hi") as helper:
            with pytest.raises(RuntimeError, match=r"response\.completed"):
                await helper.get_final_response()


async def test_an_answer_that_ran_into_its_limit_is_incomplete() -> None:
    model = ScriptedModel(lambda request: ["Hel", Finish("length", Usage())])
    async with responses_site(Agent("long", model)) as site:
        response = await site.ai.responses.create(model="long", input="hi")
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"


async def test_what_cannot_be_done_is_refused_in_openais_words_and_leaves_nothing_behind() -> None:
    async with responses_site(mirror()) as site:
        fine: Any = {"model": "mirror", "input": "x"}
        bad, missing = openai.BadRequestError, openai.NotFoundError
        cases: list[tuple[dict[str, Any], type[Exception], str | None]] = [
            ({"model": "nobody"}, missing, None),
            ({"previous_response_id": "resp_x.y"}, bad, "previous_response_id"),
            ({"previous_response_id": "nonsense"}, bad, "previous_response_id"),
            ({"temperature": 3}, bad, None),
            ({"input": []}, bad, "input"),
            ({"input": [{"role": "assistant", "content": "x"}]}, bad, "input"),
            ({"extra_body": {"conversation": "c"}}, bad, "conversation"),
        ]
        for body, kind, param in cases:
            refused, error = await site.refused(**(fine | body))
            assert (refused, error["param"]) == (kind, param), body
        assert await site.sessions() == []
        for unknown in ("resp_a.b", "x", "resp_a.b.7"):
            with pytest.raises(missing):
                await site.ai.responses.retrieve(unknown)
        response = await site.ai.responses.create(**fine)
        with pytest.raises(missing):
            await site.ai.responses.retrieve(f"{response.id}.1")
        with pytest.raises(openai.APIStatusError, match="DELETE /v1/sessions/") as caught:
            await site.ai.responses.delete(response.id)
        assert caught.value.status_code == 405
        for query in ({"limit": "0"}, {"limit": "x"}, {"after": "x"}):
            with pytest.raises(bad):
                await site.ai.responses.input_items.list(response.id, extra_query=query)
        with pytest.raises(bad):
            await site.ai.responses.retrieve(
                response.id, stream=True, extra_query={"starting_after": "-1"}
            )


async def test_the_same_request_under_the_same_key_is_one_response() -> None:
    gated = Gated()
    async with responses_site(gated.agent) as site:
        asked: Any = {"model": "gated", "input": "hi", "background": True}
        key: Any = {"extra_headers": {"Idempotency-Key": "key-1"}}
        first = await site.ai.responses.create(**asked, **key)
        again = await site.ai.responses.create(**asked, **key)
        assert first.id == again.id
        with pytest.raises(openai.ConflictError):
            await site.ai.responses.create(**(asked | {"input": "ho"}), **key)
        with pytest.raises(openai.ConflictError):
            await site.ai.responses.create(**asked, metadata={"a": "b"}, **key)
        gated.gate.set()
        key = {"extra_headers": {"Idempotency-Key": "key-2"}}
        asked |= {"previous_response_id": first.id, "background": False}
        second = await site.ai.responses.create(**asked, **key)
        third = await site.ai.responses.create(**asked, **key)
        assert second.id == third.id
        assert second.output_text == "Hello again"
        assert len(gated.model.requests) == 2


async def test_what_a_paused_run_was_asked_for_cannot_change() -> None:
    async with responses_site(looker(), mirror()) as site:
        asked: Any = {"model": "looker", "tools": [TOOL], "instructions": "A.", "temperature": 1}
        first = await site.ai.responses.create(input="sea", **asked)
        call: Any = first.output[-1]
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "wet"}
        others: list[dict[str, Any]] = [
            {"model": "mirror"},
            {"instructions": "B."},
            {"temperature": 0},
            {"max_output_tokens": 5},
            {"tools": [TOOL | {"name": "see"}]},
        ]
        for other in others:
            _, error = await site.refused(
                **(asked | other), previous_response_id=first.id, input=[output]
            )
            assert error["param"] == next(iter(other))
        second = await site.ai.responses.create(
            **asked, previous_response_id=first.id, input=[output]
        )
        assert second.output_text == "I saw wet."
        assert second.instructions == "A."
        _, error = await site.refused(
            model="looker", previous_response_id=second.id, input="x", metadata={"a": "b"}
        )
        assert error["param"] == "metadata"
