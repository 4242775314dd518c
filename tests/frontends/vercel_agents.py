"""Agents for the tests of chats of the AI SDK: what they do is in what the user says last."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from runtime.agent import Agent
from runtime.errors import ModelRefused
from runtime.graph import END, Graph, Key, View, set_
from runtime.graph.compiled import CompiledGraph
from runtime.messages import Message, ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.runnable import Runnable
from runtime.tools import tool

LOOK = {
    "name": "look",
    "description": "Look at a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
}
"""A tool of the client's."""


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Cast:
    """The agents of one server, and the gates that hold them.

    The model answers to the newest words of the user: `add`, `think`, `pay`, `look`, `both`, `ask`,
    `fail`; to `wait` it says "one ", and the rest when `gate` is set; else it says them back.
    """

    def __init__(self, model: ScriptedModel | None = None) -> None:
        self.gate = asyncio.Event()
        self.paid: list[int] = []
        self.model = model or ScriptedModel(self._script)

    def runnables(self) -> list[Runnable]:
        @tool(needs_approval=True)
        async def pay(amount: int) -> str:
            """Pay."""
            self.paid.append(amount)
            return f"paid {amount}"

        helper = Agent("helper", ScriptedModel(_help), tools=(pay,), description="Looks things up.")
        boss = Agent("assistant", self.model, tools=(add, pay, helper.as_tool()))
        return [boss, report(), question()]

    def _script(self, request: ModelRequest) -> Iterable[Cue]:
        newest = request.messages[-1]
        if newest.role == "tool":
            return say(f"Done: {_results(request.messages)}.")
        words = newest.content
        first = words.split()[0]
        if first == "wait":
            return ["one ", self.gate, "two ", *say("three")]
        said = sum(message.role == "user" for message in request.messages)
        return _SCRIPTS.get(first) or say(f"{words}, as message {said}.")


def _call(name: str, arguments: str) -> Iterable[Cue]:
    return call_tools(ToolCall(id=f"call_{name}", name=name, arguments=arguments))


_SCRIPTS: Mapping[str, Iterable[Cue]] = {
    "add": (*say("I add.", reasoning="Two and two.")[:-1], *_call("add", '{"a":2,"b":2}')),
    "think": say("Thought.", reasoning="Hm, well."),
    "pay": _call("pay", '{"amount":5}'),
    "look": (*say("Let me see.")[:-1], *_call("look", '{"place":"sea"}')),
    "both": call_tools(
        ToolCall(id="call_pay", name="pay", arguments='{"amount":7}'),
        ToolCall(id="call_look", name="look", arguments='{"place":"sea"}'),
    ),
    "ask": _call("helper", '{"input":"help"}'),
    "fail": ("Half", ModelRefused("it will not")),
}


def _results(messages: tuple[Message, ...]) -> str:
    newest: list[str] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        newest.insert(0, message.content)
    return " and ".join(newest)


def _help(request: ModelRequest) -> Iterable[Cue]:
    if request.messages[-1].role == "tool":
        return say("The helper has paid.")
    return [*say("The helper pays.")[:-1], *_call("pay", '{"amount":9}')]


TEXT = Key("text", "")


def report() -> CompiledGraph:
    """Return a graph one of whose nodes is an agent that writes."""
    writer = Agent("writer", ScriptedModel([say("The tide comes.")] * 9))

    graph = Graph(TEXT, name="report")
    graph.start("write").node("write", writer, END, ask=lambda view: "tides", into=TEXT)
    return graph.build(input=lambda history: {})


def question() -> CompiledGraph:
    """Return a graph that asks before its node works."""

    def work(view: View) -> object:
        return set_(TEXT, "worked")

    graph = Graph(TEXT, name="question")
    graph.start("work").node("work", work, END, interrupt_before="Really?")
    return graph.build(input=lambda history: {})
