"""A2A with the SDK's own client: cards, tasks, streams, questions, and coming back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import Client
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    SendMessageConfiguration,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import (
    InternalError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields
from google.protobuf.json_format import ParseDict

from gateway.app import running
from gateway.builtin.scripted import echo, tools
from gateway.config import Settings
from runtime.events import ErrorInfo, RunFailed
from runtime.registry import Registry
from tests.frontends.a2a_client import Followed, client_of, data_part, hang_up, message, state_of
from tests.support.puppet import Part
from tests.support.site import Site, running_site

NOW = SendMessageConfiguration(return_immediately=True)


class Scene:
    """A server with one agent that says what a test wants, and a client of it."""

    def __init__(self, site: Site, client: Client) -> None:
        self.site = site
        self.client = client

    async def begin(self, text: str = "go", **more: str) -> tuple[str, Part]:
        """Begin a task; return its id, and the part that plays it."""
        self.site.begun.clear()
        task = await self.send(text, **more)
        await self.site.begun.wait()
        return task.id, self.site.parts[-1]

    async def send(self, text: str, **more: str) -> Task:
        """Send a message, and return the task as it is then."""
        sent = self.client.send_message(message(text, configuration=NOW, **more))
        (response,) = [response async for response in sent]
        return response.task

    def end(self, part: Part) -> None:
        self.site.endings[part.run_id].set()

    async def answer(self, part: Part, text: str) -> None:
        await part.answer(text)
        self.end(part)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with (
        asyncio.timeout(20),
        running_site() as site,
        client_of(site.url, streaming=False) as client,
    ):
        yield Scene(site, client)


@asynccontextmanager
async def builtin(agent: str) -> AsyncIterator[Client]:
    """A server with the agents that come along, and a client of one of them."""
    settings = Settings(engine="memory", port=0)
    async with (
        asyncio.timeout(20),
        running(settings, Registry(echo(), tools())) as server,
        client_of(f"{server.url}/a2a/{agent}") as client,
    ):
        yield client


# --- cards ---------------------------------------------------------------------------------------


async def test_a_client_finds_each_agent_by_its_card() -> None:
    settings = Settings(engine="memory", port=0)
    async with running(settings, Registry(echo(), tools())) as server, httpx.AsyncClient() as http:
        default = await A2ACardResolver(http, server.url).get_agent_card()
        assert default.name == "echo"
        assert default.supported_interfaces[0].url == f"{server.url}/a2a/echo"
        raw = await http.get(f"{server.url}/a2a/tools/.well-known/agent-card.json")
        card = ParseDict(raw.json(), AgentCard(), ignore_unknown_fields=False)
        validate_proto_required_fields(card)
        assert (card.name, card.skills[0].id) == ("tools", "tools")
        assert list(card.skills[0].tags) == ["agent", "get_weather", "delete_file"]
        assert card.capabilities.streaming
        assert not card.capabilities.push_notifications
        interface = card.supported_interfaces[0]
        assert interface.protocol_binding == "JSONRPC"
        assert interface.protocol_version == "1.0"
        assert raw.headers["cache-control"] == "no-store"
        unknown = await http.get(f"{server.url}/a2a/nobody/.well-known/agent-card.json")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "agent_unknown")


@pytest.mark.parametrize(
    ("told", "scheme"), [("https", "https"), ("http", "http"), ("gopher", "http"), (None, "http")]
)
async def test_a_card_has_the_address_that_the_client_knows(told: str | None, scheme: str) -> None:
    headers = {"Host": "agents.example", "X-Forwarded-Host": "evil.example"}
    if told is not None:
        headers["X-Forwarded-Proto"] = told
    async with running_site(allowed_hosts="agents.example") as site:
        url = "/.well-known/agent-card.json"
        async with site.http.get(url, headers=headers) as response:
            card = await response.json()
    assert card["supportedInterfaces"][0]["url"] == f"{scheme}://agents.example/a2a/puppet"


# --- tasks ---------------------------------------------------------------------------------------


async def test_a_stream_adds_up_to_the_answer() -> None:
    async with builtin("echo") as client:
        seen = await Followed().follow(client.send_message(message("hello big world")))
        assert state_of(seen.task) == "COMPLETED"
        assert seen.text == "hello big world"
        assert seen.kinds[0] == "task"
        assert seen.kinds.count("artifact_update") > 2, "it came in pieces"
        got = await client.get_task(GetTaskRequest(id=seen.task.id))
        assert list(got.artifacts) == list(seen.task.artifacts)
        assert got.context_id == seen.task.context_id


async def test_without_streaming_the_answer_is_the_task_at_its_end() -> None:
    async with scene() as stage:
        asked = asyncio.create_task(Followed().follow(stage.client.send_message(message("go"))))
        await stage.site.begun.wait()
        await stage.answer(stage.site.parts[0], "here you are")
        seen = await asked
        assert (seen.kinds, state_of(seen.task)) == (["task"], "COMPLETED")
        assert seen.text == "here you are"


async def test_a_client_that_does_not_want_to_wait_gets_the_task_at_once() -> None:
    async with scene() as stage:
        task_id, part = await stage.begin()
        task = await stage.client.get_task(GetTaskRequest(id=task_id))
        assert state_of(task) == "WORKING"
        await part.begin()
        await part.say("so f")
        await part.say("ar")
        task = await stage.client.get_task(GetTaskRequest(id=task_id))
        assert [part.text for part in task.artifacts[0].parts] == ["so far"]
        await stage.answer(part, "so far, so good")
        task = await stage.client.get_task(GetTaskRequest(id=task_id))
        assert state_of(task) == "COMPLETED"


async def test_a_failure_is_told_with_its_reason() -> None:
    async with scene() as stage:
        task_id, part = await stage.begin()
        stream = stage.client.subscribe(SubscribeToTaskRequest(id=task_id))
        error = ErrorInfo(code="model_error", message="the model is gone")
        await part.emit(RunFailed(run_id=part.run_id, error=error))
        stage.end(part)
        with pytest.raises(NotImplementedError):  # this client does not stream
            await Followed().follow(stream)
        task = await stage.client.get_task(GetTaskRequest(id=task_id))
        assert state_of(task) == "FAILED"
        assert task.status.message.parts[0].text == "the model is gone"


async def test_cancelling_ends_a_task_once() -> None:
    async with scene() as stage:
        task_id, part = await stage.begin()
        await part.begin()
        await part.say("half")
        task = await stage.client.cancel_task(CancelTaskRequest(id=task_id))
        assert state_of(task) == "CANCELED"
        assert task.artifacts[0].parts[0].text == "half"
        with pytest.raises(TaskNotCancelableError):
            await stage.client.cancel_task(CancelTaskRequest(id=task_id))
        with pytest.raises(TaskNotFoundError):
            await stage.client.cancel_task(CancelTaskRequest(id=task_id + "x"))


async def test_messages_of_one_context_wait_for_each_other() -> None:
    async with scene() as stage:
        first, part = await stage.begin("one", context_id="chat")
        second = await stage.send("two", context_id="chat")
        assert state_of(second) == "SUBMITTED"
        gone = await stage.send("three", context_id="chat")
        stopped = await stage.client.cancel_task(CancelTaskRequest(id=gone.id))
        assert state_of(stopped) == "CANCELED"
        again = await stage.client.get_task(GetTaskRequest(id=gone.id))
        assert state_of(again) == "CANCELED"
        stage.site.begun.clear()
        await stage.answer(part, "1")
        await stage.site.begun.wait()
        await stage.answer(stage.site.parts[-1], "2")
        task = await stage.client.get_task(GetTaskRequest(id=second.id))
        assert (state_of(task), task.artifacts[0].parts[0].text) == ("COMPLETED", "2")
        listed = await stage.client.list_tasks(ListTasksRequest(context_id="chat"))
        assert {task.id for task in listed.tasks} == {first, second.id, gone.id}


# --- lists ---------------------------------------------------------------------------------------


async def test_the_tasks_of_a_context_come_in_pages_and_the_latest_first() -> None:
    async with scene() as stage:
        ids = []
        for number in range(5):
            task_id, part = await stage.begin(f"n{number}", context_id="chat")
            await stage.answer(part, f"a{number}")
            ids.append(task_id)
        open_id, _ = await stage.begin("n5", context_id="chat")

        async def page(**asked: Any) -> ListTasksResponse:
            return await stage.client.list_tasks(ListTasksRequest(context_id="chat", **asked))

        everything = await page()
        assert [task.id for task in everything.tasks] == [open_id, *reversed(ids)]
        assert (everything.total_size, everything.page_size) == (6, 50)
        assert everything.next_page_token == ""
        assert not everything.tasks[0].artifacts

        found, token = [], ""
        for _ in range(3):
            part_of_it = await page(page_size=2, page_token=token)
            found += [task.id for task in part_of_it.tasks]
            token = part_of_it.next_page_token
        assert (found, token) == ([open_id, *reversed(ids)], "")

        shown = await page(include_artifacts=True, history_length=0)
        assert shown.tasks[1].artifacts[0].parts[0].text == "a4"
        assert not shown.tasks[1].history
        working = await page(status=TaskState.TASK_STATE_WORKING)
        assert [task.id for task in working.tasks] == [open_id]
        since = everything.tasks[2].status.timestamp
        recent = await page(status_timestamp_after=since)
        assert {task.id for task in recent.tasks} >= {open_id, *ids[-2:]}
        assert ids[0] not in {task.id for task in recent.tasks} or since == (
            everything.tasks[-1].status.timestamp
        )
        assert not (await stage.client.list_tasks(ListTasksRequest(context_id="none"))).tasks
        wrong: dict[str, Any]
        for wrong in ({"page_size": 0}, {"page_size": 101}, {"page_token": "?"}):
            with pytest.raises(InvalidParamsError):
                await page(**wrong)


# --- streams -------------------------------------------------------------------------------------


@pytest.mark.rule("disconnect.not_cancel")
async def test_a_client_that_was_cut_off_gets_what_it_missed() -> None:
    async with scene() as stage, client_of(stage.site.url) as client:
        sent = client.send_message(message("go"))
        first = await anext(sent)
        await stage.site.begun.wait()
        part = stage.site.parts[0]
        before = Followed()
        before.take(first)
        await part.begin()
        await part.say("one ")
        await before.follow(sent, until="one ")
        await hang_up(sent)
        await part.say("two ")  # nobody hears it, and the run goes on all the same
        after = client.subscribe(SubscribeToTaskRequest(id=before.task.id))
        seen = Followed()
        seen.take(await anext(after))
        assert (seen.kinds, seen.text, state_of(seen.task)) == (["task"], "one two ", "WORKING")
        await part.say("three")
        await part.finish_step("one two three")
        await part.end("one two three")
        stage.end(part)
        await seen.follow(after)
        assert seen.text == "one two three"
        assert state_of(seen.task) == "COMPLETED"
        assert seen.kinds.count("task") == 1
        with pytest.raises(UnsupportedOperationError):
            await Followed().follow(client.subscribe(SubscribeToTaskRequest(id=before.task.id)))


async def test_all_streams_of_a_task_are_told_the_same_in_the_same_order() -> None:
    async with scene() as stage, client_of(stage.site.url) as client:
        task_id, part = await stage.begin()
        request = SubscribeToTaskRequest(id=task_id)
        streams = [client.subscribe(request) for _ in range(4)]
        seen = [Followed() for _ in streams]
        for one, stream in zip(seen, streams, strict=True):
            one.take(await anext(stream))
        await part.begin()
        for word in ("a", "b", "c"):
            await part.say(word)
        await stage.answer(part, "abc")
        for one, stream in zip(seen, streams, strict=True):
            await one.follow(stream)
        assert all(one.all == seen[0].all for one in seen)
        assert len(seen[0].all) > 5


async def test_a_server_that_stops_tells_its_streams_to_subscribe_again() -> None:
    async with asyncio.timeout(20), AsyncExitStack() as clients:
        async with running_site() as site:
            client = await clients.enter_async_context(client_of(site.url))
            stream = client.send_message(message("go"))
            await anext(stream)
            await site.begun.wait()
        with pytest.raises(InternalError, match="subscribe to it again"):
            async for _ in stream:
                pass


# --- questions -----------------------------------------------------------------------------------


async def test_a_task_asks_is_answered_and_goes_on() -> None:
    async with builtin("tools") as client:
        seen = await Followed().follow(client.send_message(message("delete notes.txt")))
        assert state_of(seen.task) == "INPUT_REQUIRED"
        assert "delete_file" in seen.question
        task_id = seen.task.id
        with pytest.raises(InvalidParamsError, match="approve"):
            await Followed().follow(client.send_message(message("perhaps", task_id=task_id)))
        reply = message("Approve!", task_id=task_id, context_id=seen.task.context_id)
        after = await Followed().follow(client.send_message(reply))
        assert (after.kinds[0], state_of(after.task)) == ("task", "COMPLETED")
        assert after.text == "Done: notes.txt is deleted (only for show)."
        again = await Followed().follow(client.send_message(reply))
        assert state_of(again.task) == "COMPLETED", "the same reply is the same decision"
        assert again.text == after.text
        with pytest.raises(UnsupportedOperationError, match="over"):
            await Followed().follow(client.send_message(message("approve", task_id=task_id)))
        got = await client.get_task(GetTaskRequest(id=task_id))
        assert [len(said.parts) for said in got.history] == [1, 2], "the input, the question"


async def test_a_question_can_be_answered_with_no() -> None:
    async with builtin("tools") as client:
        seen = await Followed().follow(client.send_message(message("delete notes.txt")))
        no = message("reject: it is the only copy", task_id=seen.task.id)
        after = await Followed().follow(client.send_message(no))
        assert state_of(after.task) == "COMPLETED"
        assert "it is the only copy" in after.text


async def test_a_decision_can_be_data() -> None:
    async with builtin("tools") as client:
        seen = await Followed().follow(client.send_message(message("delete notes.txt")))
        asked = seen.task.status.message.parts[1].data.struct_value
        for wrong in ({"decision": "maybe"}, {"approval_id": "apr_none", "decision": "approve"}):
            with pytest.raises(InvalidParamsError):
                await Followed().follow(
                    client.send_message(message(data_part(wrong), task_id=seen.task.id))
                )
        edit = {
            "approval_id": asked["approval_id"],
            "decision": "edit",
            "arguments": {"path": "other.txt"},
        }
        after = await Followed().follow(
            client.send_message(message(data_part(edit), task_id=seen.task.id))
        )
        assert "other.txt is deleted" in after.text


@pytest.mark.rule("approval.shared")
async def test_someone_who_subscribes_sees_the_question_and_what_others_decide() -> None:
    async with builtin("tools") as client:
        asked = await Followed().follow(client.send_message(message("delete notes.txt")))
        task_id = asked.task.id
        stream = client.subscribe(SubscribeToTaskRequest(id=task_id))
        seen = Followed()
        seen.take(await anext(stream))
        assert (state_of(seen.task), seen.question) == ("INPUT_REQUIRED", asked.question)
        await Followed().follow(client.send_message(message("approve", task_id=task_id)))
        await seen.follow(stream)
        assert state_of(seen.task) == "COMPLETED"
        assert "is deleted" in seen.text


async def test_a_task_that_waits_can_be_cancelled() -> None:
    async with builtin("tools") as client:
        asked = await Followed().follow(client.send_message(message("delete notes.txt")))
        task = await client.cancel_task(CancelTaskRequest(id=asked.task.id))
        assert state_of(task) == "CANCELED"
        with pytest.raises(UnsupportedOperationError, match="over"):
            await Followed().follow(client.send_message(message("approve", task_id=task.id)))


# --- the same again ------------------------------------------------------------------------------


@pytest.mark.rule("command.once")
@pytest.mark.parametrize("context_id", ["", "chat", "chats/1 ä"])
async def test_a_message_that_is_sent_again_finds_its_task(context_id: str) -> None:
    async with scene() as stage, client_of(stage.site.url) as client:
        task_id, part = await stage.begin("go", message_id="m 1", context_id=context_id)
        await stage.answer(part, "done")
        again = message("go", message_id="m 1", context_id=context_id)
        seen = await Followed().follow(client.send_message(again))
        assert (seen.task.id, seen.text) == (task_id, "done")
        assert len(stage.site.parts) == 1, "the agent ran once"
        if context_id:
            assert seen.task.context_id == context_id
            other = message("something else", message_id="m 1", context_id=context_id)
            with pytest.raises(InvalidParamsError, match="another body"):
                await Followed().follow(client.send_message(other))


async def test_a_context_keeps_the_name_that_the_client_gave_it() -> None:
    async with scene() as stage:
        task_id, part = await stage.begin(context_id="chats/1 ä")
        await stage.answer(part, "done")
        task = await stage.client.get_task(GetTaskRequest(id=task_id))
        assert task.context_id == "chats/1 ä"
        listed = await stage.client.list_tasks(ListTasksRequest(context_id="chats/1 ä"))
        assert [(task.id, task.context_id) for task in listed.tasks] == [(task_id, "chats/1 ä")]


async def test_a_context_is_a_session_that_native_clients_see() -> None:
    async with scene() as stage:
        _, part = await stage.begin("hello there", context_id="chat", message_id="mine")
        await stage.answer(part, "done")
        async with stage.site.http.get("/v1/sessions/chat") as response:
            said = [(it["message_id"], it["text"]) for it in (await response.json())["messages"]]
        assert said == [("mine", "hello there"), ("msg_a", "done")]
