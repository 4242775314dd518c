"""Graphs that hold a conversation, and nodes that stream a model's words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from runtime import ScriptedModel
from runtime.events import MessageCompleted
from runtime.graph import (
    END,
    MESSAGES,
    Graph,
    Key,
    MessageGraph,
    NodeContext,
    View,
    append,
    assistant,
    get_messages,
    last,
    user,
)
from runtime.models import Delta, ModelRequest, Text, say
from runtime.runnable import RunOptions
from tests.graph.graphs import all_results, asked, run
from tests.runtime.support import PATIENCE


def chatting(model: ScriptedModel) -> Any:
    async def reply(context: NodeContext, view: View) -> Any:
        request = ModelRequest(messages=tuple(get_messages(view)), tools=(), options=RunOptions())
        words: list[str] = []
        async for delta in model.stream(request):
            if isinstance(delta, Text):
                words.append(delta.text)
                context.writer({"type": "token", "content": delta.text})
        return append(MESSAGES, assistant("".join(words))).to(END)

    return MessageGraph(name="chat").node("reply", reply, END).start("reply").build()


@pytest.mark.rows("A23", "A24", "A25", "C36")
async def test_tokens_arrive_one_by_one_and_are_the_message_that_is_appended() -> None:
    model = ScriptedModel([say("Nice to meet you.")])
    given = [user("Hello"), assistant("Yes?"), user("I am Ada.")]

    results = await all_results(chatting(model).run(given))
    tokens = [
        r.updates["content"] for r in results if r.updates and r.updates.get("type") == "token"
    ]

    assert tokens == ["Nice", " to", " meet", " you."]
    assert results[-1].output == [*given, assistant("Nice to meet you.")]
    assert list(model.requests[0].messages) == given
    assert (await last(chatting(ScriptedModel([say("x")])).run("hi"))).output == [
        user("hi"),
        assistant("x"),
    ]


@pytest.mark.rows("A24")
async def test_those_who_read_a_chat_see_the_answer() -> None:
    log = await run(chatting(ScriptedModel([say("Hi!")])), asked(history=[user("Hello")]))

    assert log.one(MessageCompleted).text == "Hi!"
    assert log.events[-1].output == "Hi!"  # type: ignore[union-attr]  # it is the run's end


async def test_without_an_answer_nothing_is_said() -> None:
    async def silent(view: View) -> None:
        """Says nothing."""

    graph = MessageGraph().node("silent", silent, END).start("silent").build()

    log = await run(graph, asked(history=[user("Hello")]))

    assert log.of(MessageCompleted) == []


@pytest.mark.rows("C35")
async def test_cancelling_the_run_closes_the_models_stream() -> None:
    closed = asyncio.Event()
    began = asyncio.Event()

    async def stream() -> AsyncGenerator[Delta, None]:
        try:
            yield Text("one")
            began.set()
            await asyncio.sleep(PATIENCE * 2)
            yield Text("two")
        finally:
            closed.set()

    text = Key("text", "")

    async def reply(view: View) -> Mapping[str, str]:
        return {"text": "".join([d.text async for d in stream() if isinstance(d, Text)])}

    task = asyncio.create_task(
        all_results(Graph(text).node("reply", reply, END).start("reply").build().run())
    )
    async with asyncio.timeout(PATIENCE):
        await began.wait()
        task.cancel()
        await asyncio.wait((task,))

    assert task.cancelled()
    assert closed.is_set()
