"""LangGraph graphs, run by the library itself with scripted models."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import ConfigurableField, RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Send, interrupt

from runtime import Message, RunOptions
from runtime.adapters.langgraph import LangGraphAgent
from runtime.cancel import CancelToken
from runtime.events import (
    ApprovalRequested,
    Custom,
    MessageCompleted,
    MessageDelta,
    ModelCompleted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    ReasoningCompleted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    ToolCallReady,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
)
from runtime.runnable import Decision
from tests.adapters.support import asked, run, stopped
from tests.runtime.support import Log, going_on

Piece = AIMessageChunk | asyncio.Event | Exception
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


class Scripted(BaseChatModel):
    """Plays answers; what was asked is in `seen`."""

    answers: list[Any]
    temperature: float | None = None
    seen: list[Any]
    asked_with: Any = None  # not copied when the model is made configurable
    left: list[int]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_model_name": "scripted-1"}

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError  # the library wants one, and nobody here asks without awaiting

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        self.seen.append(messages)
        (message,) = self.answers.pop(0)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.seen.append(messages)
        self.asked_with.append(self.temperature)
        try:
            for piece in self.answers.pop(0):
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                elif isinstance(piece, Exception):
                    raise piece
                else:
                    yield ChatGenerationChunk(message=piece)
        finally:
            self.left.append(1)


def scripted(*answers: Sequence[Any], **options: Any) -> Scripted:
    return Scripted(answers=list(answers), seen=[], asked_with=[], left=[], **options)


def text(*pieces: str) -> list[AIMessageChunk]:
    told = {"finish_reason": "stop", "model_name": "scripted-1-0"}
    last = AIMessageChunk(content="", usage_metadata=USAGE, response_metadata=told)
    return [*(AIMessageChunk(content=piece) for piece in pieces), last]


def calls(name: str, *pieces: str, call_id: str = "c1") -> list[AIMessageChunk]:
    first = {"name": name, "args": pieces[0], "id": call_id, "index": 0}
    rest = [{"name": None, "args": piece, "id": None, "index": 0} for piece in pieces[1:]]
    return [AIMessageChunk(content="", tool_call_chunks=[c]) for c in (first, *rest)]


@tool
async def weather(city: str) -> str:
    """Look up the weather."""
    get_stream_writer()({"stage": "looking"})
    return f"sunny in {city}"


def react(model: Any, *tools: Any, **compiling: Any) -> Any:
    """Return model → tools → model, the usual loop."""

    async def think(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"], config)]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([weather, *tools]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return graph.compile(name="helper", **compiling)


async def test_a_run_is_told_in_full() -> None:
    model = scripted(
        [
            AIMessageChunk(content=[{"type": "reasoning", "reasoning": "hm, ", "index": 0}]),
            AIMessageChunk(content=[{"type": "reasoning", "reasoning": "so", "index": 0}]),
            *text("let ", "me"),
            *calls("weather", '{"ci', 'ty":"Oslo"}'),
        ],
        text("it is ", "sunny"),
    )
    log = await run(LangGraphAgent(react(model)), asked("how is it?"))
    assert log.types == [
        "run.started",
        "node.started",
        "model.started",
        "reasoning.started",
        "reasoning.delta",
        "reasoning.delta",
        "reasoning.completed",
        "message.started",
        "message.delta",
        "message.delta",
        "tool_call.started",
        "tool_call.delta",
        "tool_call.delta",
        "tool_call.ready",
        "message.completed",
        "model.completed",
        "node.completed",
        "node.started",
        "tool.started",
        "node.update",
        "tool.completed",
        "node.completed",
        "node.started",
        "model.started",
        "message.started",
        "message.delta",
        "message.delta",
        "message.completed",
        "model.completed",
        "node.completed",
        "run.completed",
    ]
    assert log.one(ReasoningCompleted).text == "hm, so"
    assert log.one(ToolCallReady).arguments == '{"city":"Oslo"}'
    assert log.one(ToolStarted).arguments == '{"city": "Oslo"}'
    assert log.one(ToolCompleted).result == "sunny in Oslo"
    assert log.one(NodeUpdate).updates == {"stage": "looking"}
    assert [event.node for event in log.of(NodeStarted)] == ["think", "tools", "think"]
    first, last = log.of(MessageCompleted)
    assert (first.path, first.text) == (("helper", "think"), "let me")
    end = log.one(RunCompleted)
    assert (end.output, end.finish_reason, end.num_turns) == (last.text, "stop", 2)
    assert (end.usage.prompt_tokens, end.usage.total_tokens) == (6, 10)
    assert {said.model for said in log.of(ModelCompleted)} == {"scripted-1-0"}


async def test_a_model_that_does_not_stream_is_told_at_once() -> None:
    message = AIMessage(content="all of it", usage_metadata=USAGE)
    call: Any = {"name": "weather", "args": {"city": "X"}, "id": "c1"}
    model = scripted([AIMessage(content="", tool_calls=[call])], [message], disable_streaming=True)
    log = await run(LangGraphAgent(react(model.with_config(tags=["x"]))))
    assert log.one(ToolCallReady).arguments == '{"city": "X"}'
    assert log.one(MessageCompleted).text == "all of it"
    assert log.one(RunCompleted).usage.total_tokens == 5


async def test_earlier_turns_reach_the_model_and_runs_do_not_mix() -> None:
    model = scripted(text("one"), text("two"))
    runnable = LangGraphAgent(react(model))
    await run(runnable, asked("hi"))
    history = [
        Message(role="system", content="be kind"),
        Message(role="user", content="hi"),
        Message(role="assistant", content="one"),
        Message(role="user", content="again"),
    ]
    await run(runnable, asked(history))
    assert [message.content for message in model.seen[1]] == ["be kind", "hi", "one", "again"]
    assert isinstance(model.seen[1][0], SystemMessage)


async def test_options_reach_a_configurable_model() -> None:
    model = scripted(text("one"))
    configurable = model.configurable_fields(temperature=ConfigurableField("temperature"))
    await run(LangGraphAgent(react(configurable)), asked(options=RunOptions(temperature=0.5)))
    assert model.asked_with == [0.5]


class Plan(TypedDict, total=False):
    topic: str
    found: Annotated[list[str], operator.add]


async def test_a_graph_without_messages_gives_its_state() -> None:
    async def search(state: Any) -> dict[str, Any]:
        get_stream_writer()({"progress": 1})
        return {"found": [state["topic"]]}

    graph = StateGraph(Plan)
    graph.add_node("search", search)
    graph.add_conditional_edges(
        START, lambda state: [Send("search", {"topic": f"{state['topic']}{n}"}) for n in (1, 2)]
    )
    log = await run(LangGraphAgent(graph.compile(name="g")), asked(state={"topic": "x"}))
    assert log.one(RunCompleted).state == {"topic": "x", "found": ["x1", "x2"]}
    # Two runs of one node at once are one node.
    assert len(log.of(NodeStarted)) == len(log.of(NodeCompleted)) == 1


async def test_what_side_by_side_nodes_write_is_nobodys_update() -> None:
    both = asyncio.Barrier(2)

    async def work(state: Any) -> None:
        await both.wait()
        get_stream_writer()({"word": "hi"})

    graph = StateGraph(Plan)
    for name in ("left", "right"):
        graph.add_node(name, work)
        graph.add_edge(START, name)
    log = await run(LangGraphAgent(graph.compile(name="g")), asked(state={"topic": "x"}))
    assert [event.payload for event in log.of(Custom)] == [{"word": "hi"}, {"word": "hi"}]


def asking(*, checkpointer: Any = None) -> Any:
    """Return a graph with a subgraph that asks a human."""

    async def ask(state: MessagesState) -> dict[str, Any]:
        said = interrupt({"question": "go on?"})
        return {"messages": [AIMessage(f"you said {said}")]}

    inner = StateGraph(MessagesState)
    inner.add_node("ask", ask)
    inner.add_edge(START, "ask")
    outer = StateGraph(MessagesState)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    return outer.compile(name="asker", checkpointer=checkpointer)


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (Decision("approved"), "you said True"),
        (Decision("rejected"), "you said False"),
        (Decision("edited", arguments='{"n": 1}'), "you said {'n': 1}"),
    ],
)
async def test_an_interrupt_waits_for_a_human(decision: Decision, said: str) -> None:
    runnable = LangGraphAgent(asking())
    first = await run(runnable)
    question = first.one(ApprovalRequested)
    assert (question.node, question.arguments) == ("inner", '{"question": "go on?"}')
    end = first.one(RunInterrupted)
    assert (end.pending, end.node) == ((question.approval_id,), "inner")
    assert {failed.error.code for failed in first.of(NodeFailed)} == {"interrupted"}

    log = await run(runnable, going_on(asked(), first.events, {question.approval_id: decision}))
    assert log.one(RunCompleted).output == said
    assert log.one(MessageCompleted).path == ("asker", "inner", "ask")


async def test_a_restart_with_a_durable_checkpointer_goes_on() -> None:
    saver = InMemorySaver()  # stands for any that outlives the process
    first = await run(LangGraphAgent(asking(checkpointer=saver)))
    answer = {first.one(ApprovalRequested).approval_id: Decision("approved")}
    again = LangGraphAgent(asking(checkpointer=saver))
    log = await run(again, going_on(asked(), first.events, answer))
    assert log.one(RunCompleted).output == "you said True"


async def test_a_restart_without_one_says_what_is_missing() -> None:
    first = await run(LangGraphAgent(asking()))
    answer = {first.one(ApprovalRequested).approval_id: Decision("approved")}
    log = await run(LangGraphAgent(asking()), going_on(asked(), first.events, answer))
    error = log.one(RunFailed).error
    assert error.code == "checkpoint_unknown"
    assert "durable checkpointer" in error.message


async def test_a_question_that_nobody_answered_is_asked_again() -> None:
    runnable = LangGraphAgent(asking())
    first = await run(runnable)
    again = await run(runnable, going_on(asked(), first.events))
    assert again.one(RunInterrupted).pending == first.one(RunInterrupted).pending
    assert again.of(NodeStarted) == []


async def test_a_breakpoint_of_the_graph_waits_too() -> None:
    for kind, last in (("approved", RunCompleted), ("rejected", RunFailed)):
        model = scripted(calls("weather", '{"city":"X"}'), text("done"))
        runnable = LangGraphAgent(react(model, interrupt_before=["tools"]))
        first = await run(runnable)
        question = first.one(ApprovalRequested)
        assert question.node == "tools"
        answer = {question.approval_id: Decision(kind)}  # type: ignore[arg-type] # literals
        log = await run(runnable, going_on(asked(), first.events, answer))
        assert isinstance(log.events[-1], last)


async def test_a_run_that_died_goes_on_from_its_checkpoint() -> None:
    saver = InMemorySaver()
    model = scripted(calls("weather", '{"city":"X"}'), [RuntimeError("died")], text("done"))
    runnable = LangGraphAgent(react(model, checkpointer=saver))
    died = await run(runnable)
    assert died.types[-1] == "run.failed"
    log = await run(runnable, going_on(asked(), died.events[:-4]))
    assert log.of(ToolStarted) == []
    assert log.one(RunCompleted).output == "done"


async def test_finished_runs_are_not_kept_in_memory() -> None:
    runnable = LangGraphAgent(react(scripted(text("one"))))
    await run(runnable)
    saver = runnable._graph.checkpointer
    assert isinstance(saver, InMemorySaver)
    assert not saver.storage


async def test_a_tool_that_fails_tells_why() -> None:
    @tool
    async def broken() -> str:
        """Fail."""
        raise ValueError("too late")

    model = scripted(calls("broken", "{}"), text("done"))
    graph = react(model)
    graph.nodes["tools"].bound.tools_by_name["broken"] = broken
    graph.nodes["tools"].bound._handle_tool_errors = True
    log = await run(LangGraphAgent(graph))
    assert log.one(ToolFailedEvent).error.message == "ValueError: too late"
    assert log.one(RunCompleted).output == "done"


async def test_a_tool_that_asks_a_human_has_not_failed() -> None:
    @tool
    async def careful() -> str:
        """Ask first."""
        return f"told {interrupt('really?')}"

    runnable = LangGraphAgent(react(scripted(calls("careful", "{}"), text("done")), careful))
    first = await run(runnable)
    assert first.one(ApprovalRequested).reason == "really?"
    assert first.of(ToolFailedEvent) == []
    answer = {first.one(ApprovalRequested).approval_id: Decision("approved")}
    log = await run(runnable, going_on(asked(), first.events, answer))
    assert log.one(ToolCompleted).result == "told True"
    assert log.one(RunCompleted).output == "done"


async def test_cancelling_in_mid_answer_leaves_nothing_behind() -> None:
    model = scripted(
        [AIMessageChunk(content="half "), AIMessageChunk(content="of it"), asyncio.Event()]
    )
    log = Log()
    async with stopped(LangGraphAgent(react(model)), log):
        await log.until(MessageDelta, 2)
    assert log.one(RunCancelled).partial_output == "half of it"
    assert log.one(NodeFailed).error.code == "cancelled"
    assert model.left == [1]


async def test_cancelling_in_a_tool_stops_the_tool() -> None:
    ends: list[str] = []

    @tool
    async def hang() -> str:
        """Hang."""
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")
        return "never"

    log = Log()
    async with stopped(LangGraphAgent(react(scripted(calls("hang", "{}")), hang)), log):
        await log.until(ToolStarted)
    assert ends == ["cancelled"]
    assert log.one(ToolFailedEvent).error.code == "cancelled"


async def test_a_time_limit_ends_the_run() -> None:
    model = scripted([AIMessageChunk(content="half"), asyncio.Event()])
    log = await run(LangGraphAgent(react(model)), asked(timeout=0.2))
    assert log.one(RunCancelled).reason == "timeout"


async def test_a_run_can_be_asked_to_stop_after_its_step() -> None:
    model = scripted(calls("weather", '{"city":"X"}'), text("never"))
    token = CancelToken()
    token.stop_after_step()
    log = await run(LangGraphAgent(react(model)), asked(cancel=token))
    assert log.types[-2:] == ["node.completed", "run.cancelled"]


async def test_a_failure_is_told_without_secrets() -> None:
    model = scripted([AIMessageChunk(content="half "), RuntimeError("secret")])
    log = await run(LangGraphAgent(react(model)))
    end = log.one(RunFailed)
    assert end.error.code == "internal_error"
    assert "secret" not in repr(log.events)
    assert str(end.exception) == "secret"
    assert "model.failed" in log.types


async def test_too_many_supersteps_are_a_failure() -> None:
    model = scripted(*(calls("weather", '{"city":"X"}', call_id=f"c{n}") for n in range(9)))
    runnable = LangGraphAgent(react(model), config={"recursion_limit": 3})
    log = await run(runnable)
    assert log.one(RunFailed).error.message == "the run was not done after 3 supersteps"


@pytest.mark.parametrize("returned", [False, True])
async def test_a_hidden_model_is_counted_once_and_not_heard(*, returned: bool) -> None:
    model = scripted(text("in the open")).with_config(tags=["nostream"])

    async def think(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        said = await model.ainvoke(state["messages"], config)
        return {"messages": [said if returned else AIMessage("in the open")]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_edge(START, "think")
    graph.add_edge("think", END)
    log = await run(LangGraphAgent(graph.compile(name="g")))
    assert [said.text for said in log.of(MessageCompleted)] == ["in the open"]
    assert log.one(RunCompleted).usage.total_tokens == 5


async def test_providers_that_name_their_messages_are_understood() -> None:
    pieces = [AIMessageChunk(content=piece, id="chatcmpl-1") for piece in ("one ", "two")]
    whole = AIMessage(content="three", id="msg-9")
    log = await run(LangGraphAgent(react(scripted([*pieces, *text()]))))
    assert [said.text for said in log.of(MessageCompleted)] == ["one two"]
    assert log.one(RunCompleted).num_turns == 1
    log = await run(LangGraphAgent(react(scripted([whole], disable_streaming=True))))
    assert [said.text for said in log.of(MessageCompleted)] == ["three"]
    assert log.one(RunCompleted).num_turns == 1


async def test_models_that_speak_at_the_same_time_are_told_apart() -> None:
    gates = {name: asyncio.Event() for name in "ab"}
    pieces = {
        name: [AIMessageChunk(content=f"{name}{n}", id=f"msg-{name}") for n in (1, 2)]
        for name in "ab"
    }
    model = {  # the one that is called first speaks last
        "a": scripted([gates["a"], *pieces["a"]]),
        "b": scripted([pieces["b"][0], gates["b"], pieces["b"][1]]),
    }

    async def think(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(model[n].ainvoke(state["messages"], config)) for n in "ab"]
        return {"messages": [task.result() for task in tasks]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_edge(START, "think")
    log = Log()
    runnable = LangGraphAgent(graph.compile(name="g"))
    task = asyncio.create_task(runnable.execute(asked(), log.emit))
    await log.until(MessageDelta)
    gates["b"].set()
    await log.until(MessageCompleted)
    gates["a"].set()
    await task
    assert [said.text for said in log.of(MessageCompleted)] == ["b1b2", "a1a2"]
    assert [said.content for said in log.of(ModelCompleted)] == ["b1b2", "a1a2"]
