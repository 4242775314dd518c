"""Chats of the AI SDK over HTTP: the real clients of its majors 6 and 7 against a running server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.frontends.serving import Place, serving
from tests.frontends.vercel_agents import LOOK, Cast
from tests.support.vercel_client import Chat, Clients, Shown, running_clients, running_wire

majors = pytest.mark.parametrize("major", [6, 7])

ODD = "chat 1/é%2F"
"""A chat's id that has to be escaped in a path."""


class Scene:
    """A server, clients, and the agents."""

    def __init__(self, place: Place, clients: Clients, cast: Cast) -> None:
        self.place = place
        self.clients = clients
        self.cast = cast

    @property
    def api(self) -> str:
        return f"{self.place.url}/api/chat"

    async def chat(self, major: int, chat_id: str = "chat", **given: Any) -> Chat:
        return await self.clients.chat(major, given.pop("url", self.api), chat_id, **given)

    async def say(self, chat: Chat, text: str) -> Shown:
        """Say something, and wait for the end of the answer."""
        await chat.do("send", text=text)
        return await chat.settled()

    async def runs(self, session_id: str) -> list[str]:
        log = await self.place.log(session_id)
        return [event.run_id or "" for event in log if event.type == "run.started"]


@asynccontextmanager
async def scene(**settings: Any) -> AsyncIterator[Scene]:
    cast = Cast()
    async with serving(*cast.runnables(), **settings) as place, running_clients() as clients:
        yield Scene(place, clients, cast)


async def sent_in_all(chat: Chat) -> int:
    """Return how many requests the client made, those by itself too."""
    await chat.settled()
    requests: int = (await chat.do("show"))["requests"]
    return requests


@majors
async def test_text_reasoning_and_a_server_tool(major: int) -> None:
    async with scene() as stage:
        chat = await stage.chat(major, auto="either")
        shown = await stage.say(chat, "add")
        assert (shown["status"], shown["error"]) == ("ready", None)
        assert shown.text == "I add.|Done: 4."
        assert [part["text"] for part in shown.parts("reasoning")] == ["Two and two."]
        [part] = shown.parts("tool-add")
        assert (part["state"], part["input"], part["output"]) == (
            "output-available",
            {"a": 2, "b": 2},
            4,
        )
        assert shown["called"] == []  # the client is not asked to carry out the server's tools
        assert shown["finished"] == [
            {"isAbort": False, "isDisconnect": False, "isError": False, "finishReason": "stop"}
        ]
        told = shown.last["metadata"]
        assert told["runId"] == shown.last["id"] == (await stage.runs("chat"))[0]
        assert (told["sessionId"], told["status"]) == ("chat", "completed")
        assert told["usage"]["totalTokens"] > 0
        shown = await stage.say(chat, "hello")
        assert shown.text == "hello, as message 2."
        assert [message["role"] for message in shown["messages"]] == [
            "user",
            "assistant",
            "user",
            "assistant",
        ]


@majors
async def test_an_approval_goes_back_and_the_answer_goes_on_in_the_same_message(major: int) -> None:
    async with scene() as stage:
        for approved, answer in ((True, "Done: paid 5."), (False, "Done: error: a human")):
            name = f"pay-{approved}"
            chat = await stage.chat(major, name, auto="either")
            asked = await stage.say(chat, "pay")
            [part] = asked.parts("tool-pay")
            assert (part["state"], asked["status"]) == ("approval-requested", "ready")
            before = asked.last["id"]
            await chat.do("approve", id=part["approval"]["id"], approved=approved, reason="so")
            shown = await chat.until(text=answer, status="ready", finishes=2)
            [part] = shown.parts("tool-pay")
            assert part["state"] == ("output-available" if approved else "output-denied")
            assert part["approval"]["approved"] is approved
            assert len(shown["messages"]) == 2  # no copy of the message (vercel/ai#18457)
            assert shown.last["id"] == before
            assert await sent_in_all(chat) == 2  # and nothing was sent again after it
            assert len(await stage.runs(name)) == 1
        assert stage.cast.paid == [5]


@majors
async def test_a_tool_of_the_client_is_carried_out_by_it(major: int) -> None:
    async with scene() as stage:
        chat = await stage.chat(major, auto="either", body={"tools": [LOOK]})
        asked = await stage.say(chat, "look")
        assert asked["called"] == ["look"]
        [part] = asked.parts("tool-look")
        assert (part["state"], part["input"]) == ("input-available", {"place": "sea"})
        await chat.do(
            "output",
            tool="look",
            toolCallId=part["toolCallId"],
            output={"see": 3},
            state="output-available",
        )
        shown = await chat.until(text="Done: {", status="ready", finishes=2)
        assert shown.text == 'Let me see.|Done: {"see":3}.'
        assert len(shown["messages"]) == 2
        await chat.do("send", text="look")
        asked = await chat.settled()
        part = asked.parts("tool-look")[-1]
        await chat.do(
            "output",
            tool="look",
            toolCallId=part["toolCallId"],
            state="output-error",
            errorText="too dark",
        )
        shown = await chat.until(text="Done: error", status="ready", finishes=4)
        assert shown.text == "Let me see.|Done: error: too dark."
        assert shown.parts("tool-look")[-1]["errorText"] == "too dark"
        assert await sent_in_all(chat) == 4


@majors
async def test_an_approval_and_a_client_tool_in_one_step_wait_for_each_other(major: int) -> None:
    async with scene() as stage:
        chat = await stage.chat(major, auto="either", body={"tools": [LOOK]})
        asked = await stage.say(chat, "both")
        look, pay = asked.parts("tool-look")[0], asked.parts("tool-pay")[0]
        await chat.do(
            "output",
            tool="look",
            toolCallId=look["toolCallId"],
            output="sand",
            state="output-available",
        )
        shown = await chat.do("show")
        assert (shown["status"], shown["error"], len(shown["finished"])) == ("ready", None, 1)
        await chat.do("approve", id=pay["approval"]["id"], approved=True)
        shown = await chat.until(text="Done: ", status="ready", finishes=2)
        assert shown.text == "Done: paid 7 and sand."
        assert await sent_in_all(chat) == 2


@majors
async def test_an_agent_below_is_shown_beside_the_text_and_can_ask_too(major: int) -> None:
    async with scene() as stage:
        chat = await stage.chat(major, auto="either")
        asked = await stage.say(chat, "ask")
        [part] = asked.parts("tool-pay")
        assert part["state"] == "approval-requested"
        await chat.do("approve", id=part["approval"]["id"], approved=True)
        shown = await chat.until(text="Done: ", status="ready", finishes=2)
        assert shown.text == "Done: The helper has paid.."
        assert stage.cast.paid == [9]
        [helper] = shown.parts("data-subagent")
        assert (helper["data"]["agent"], helper["data"]["status"]) == ("helper", "completed")
        said = [part["data"]["text"] for part in shown.parts("data-subagent-message")]
        assert said == ["The helper pays.", "The helper has paid."]
        assert "The helper" in "".join(
            part["data"]["delta"] for part in shown["data"] if part["type"].endswith("-delta")
        )
        [called] = shown.parts("tool-helper")
        assert (called["state"], called["output"]) == ("output-available", "The helper has paid.")


@majors
async def test_what_the_nodes_of_a_graph_say_is_the_text_and_nodes_can_ask(major: int) -> None:
    async with scene() as stage:
        chat = await stage.chat(major, "graph", body={"agent": "report"})
        shown = await stage.say(chat, "write")
        assert shown.text == "The tide comes."
        [node] = shown.parts("data-node")
        assert node["data"]["status"] == "completed"
        chat = await stage.chat(major, "asks", body={"agent": "question"}, auto="either")
        asked = await stage.say(chat, "go")
        [part] = asked.parts("tool-work")
        assert part["state"] == "approval-requested"
        await chat.do("approve", id=part["approval"]["id"], approved=True)
        shown = await chat.until(text="worked", status="ready", finishes=2)
        assert (shown.text, shown.parts("tool-work")[0]["state"]) == ("worked", "output-available")
        assert await sent_in_all(chat) == 2


@majors
async def test_a_failure_is_an_error_and_the_text_before_it_stays(major: int) -> None:
    async with scene() as stage:
        chat = await stage.chat(major, auto="either")
        shown = await stage.say(chat, "fail")
        assert shown["status"] == "error"
        assert "it will not" in shown["error"]
        assert shown.text == "Half"
        assert shown["finished"][0]["isError"] is True
        assert shown.last["metadata"]["status"] == "failed"
        other = await stage.chat(major, "other", body={"agent": "nobody"})
        shown = await stage.say(other, "hello")
        assert "nobody" in shown["error"]
        files = [{"type": "file", "mediaType": "image/png", "filename": "x.png", "url": "data:,"}]
        other = await stage.chat(major, "files")
        await other.do("files", files=files)
        shown = await other.settled()
        assert shown["error"].startswith("files cannot be sent to this server")


@majors
@pytest.mark.rule("disconnect.not_cancel")
async def test_a_chat_that_was_cut_in_mid_message_comes_back_to_the_same_text(major: int) -> None:
    async with scene() as stage, running_wire(stage.place.address) as wire:
        chat = await stage.chat(major, ODD, url=f"{wire.url}/api/chat")
        await chat.do("send", text="wait")
        await chat.until(text="one ")
        await wire.cut()
        cut = await chat.settled()
        assert (cut["status"], cut.text) == ("error", "one ")
        await chat.do("resume")
        again = await chat.until(text="one ", status="streaming")
        assert again.text == "one "
        stage.cast.gate.set()
        shown = await chat.settled()
        assert (shown["status"], shown.text) == ("ready", "one two three")
        assert (len(shown["messages"]), shown["most"]) == (2, 2)
        assert shown.last["id"] == cut.last["id"]
        await chat.do("resume")  # and now there is nothing to come back to
        assert (await chat.settled()).text == "one two three"


@majors
@pytest.mark.rule("cancel.bounded")
async def test_stop_ends_the_run_and_a_closed_request_does_not(major: int) -> None:
    async with scene() as stage:
        chat = await stage.chat(major, ODD)
        await chat.do("send", text="wait")
        await chat.until(text="one ")
        await chat.do("stop")  # the client's own: it closes the request
        await chat.do("resume")
        await chat.until(text="one ", status="streaming")
        path = f"{stage.api}/chat%201%2F%C3%A9%252F/stop"
        async with stage.place.http.post(path) as response:
            assert (response.status, await response.json()) == (200, {"success": True})
        shown = await chat.settled()
        assert (shown["status"], shown["error"], shown.text) == ("ready", None, "one ")
        assert shown.last["metadata"]["status"] == "cancelled"
        [session] = await stage.place.sessions()
        assert (await stage.place.until(session, "run.cancelled")).type == "run.cancelled"


@majors
async def test_regenerate_and_edit_go_back_in_the_conversation(major: int) -> None:
    async with scene() as stage:
        chat = await stage.chat(major)
        await stage.say(chat, "first")
        shown = await stage.say(chat, "second")
        assert shown.text == "second, as message 2."
        await chat.do("regenerate")
        again = await chat.settled()
        assert again.text == "second, as message 2."
        assert again.last["id"] != shown.last["id"]
        assert len(again["messages"]) == 4
        user = again["messages"][2]["id"]
        await chat.do("send", text="third", messageId=user)
        edited = await chat.settled()
        assert edited.text == "third, as message 2."
        await chat.do("regenerate", messageId=edited["messages"][1]["id"])
        first = await chat.settled()
        assert (first.text, len(first["messages"])) == ("first, as message 1.", 2)
        assert (await stage.say(chat, "then")).text == "then, as message 2."
        snapshot = await stage.place.manager.snapshot("chat")
        assert [said.text for said in snapshot.messages if said.role == "user"] == ["first", "then"]


@majors
async def test_a_chat_that_the_server_does_not_know_brings_its_history(major: int) -> None:
    async with scene() as stage:
        earlier = [
            {"id": "u 1", "role": "user", "parts": [{"type": "text", "text": "before"}]},
            {
                "id": "a1",
                "role": "assistant",
                "parts": [
                    {"type": "step-start"},
                    {
                        "type": "tool-add",
                        "toolCallId": "c1",
                        "state": "output-available",
                        "input": {"a": 1},
                        "output": {"sum": 1},
                    },
                    {"type": "text", "text": "One.", "state": "done"},
                ],
            },
        ]
        chat = await stage.chat(major, messages=earlier)
        shown = await stage.say(chat, "now")
        assert shown.text == "now, as message 2."
        request = stage.cast.model.requests[-1].messages
        assert [(said.role, said.content) for said in request] == [
            ("user", "before"),
            ("assistant", ""),
            ("tool", '{"sum":1}'),
            ("assistant", "One."),
            ("user", "now"),
        ]


@majors
async def test_a_server_that_stops_in_mid_run_is_an_error_and_no_end(major: int) -> None:
    async with running_clients() as clients:
        cast = Cast()
        async with serving(*cast.runnables()) as place:
            chat = await clients.chat(major, f"{place.url}/api/chat", "chat")
            await chat.do("send", text="wait")
            await chat.until(text="one ")
        shown = await chat.settled()
        assert shown["status"] == "error"
        assert (
            shown["error"]
            == "the server is stopping; resume the chat to see the rest of the answer"
        )
        assert shown.text == "one "


async def test_what_is_said_while_a_question_is_open_takes_its_place() -> None:
    async with scene() as stage:
        chat = await stage.chat(7, auto="either")
        await stage.say(chat, "pay")
        async with asyncio.timeout(30):
            shown = await stage.say(chat, "hello")
        assert shown.text == "hello, as message 2."
        assert stage.cast.paid == []
