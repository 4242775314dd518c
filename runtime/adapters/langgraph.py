"""Compiled LangGraph graphs, served like our own. Needs the extra `langgraph`.

The conversation goes in as `messages`, all of it, in each run: each run is a LangGraph thread of its
own, with the run's id. So a graph needs no checkpointer to remember; it needs one to wait for a
human. Without a checkpointer of its own it gets one in memory, and a run that waits is then lost
when the process ends; compile the graph with a durable one where that matters.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, cast

try:
    from langchain_core.messages import (
        AIMessage,
        AnyMessage,
        HumanMessage,
        SystemMessage,
        ToolMessage,
    )
    from langchain_core.runnables import RunnableConfig
    from langchain_core.runnables.config import merge_configs
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.errors import GraphRecursionError
    from langgraph.pregel import Pregel
    from langgraph.types import Command, StateSnapshot
except ImportError as error:
    raise ImportError(
        "LangGraph graphs need the extra `langgraph`: pip install 'tidegate[langgraph]'"
    ) from error

from runtime.adapters.adapter import Adapter
from runtime.adapters.langgraph_callbacks import Callbacks
from runtime.adapters.langgraph_ears import Ears, without_messages
from runtime.adapters.speaking import Speaker, rejection
from runtime.errors import CheckpointUnknown, RuntimeFault, StepLimitExceeded
from runtime.events import ApprovalRequested, Event
from runtime.history import legal, result_text
from runtime.messages import Message
from runtime.plain import plain
from runtime.report import new_id
from runtime.runnable import Decision, RunRequest

__all__ = ["LangGraphAgent", "answer"]

LOST = (
    "the run cannot go on: its graph's state was kept in the memory of a process that has ended; "
    "compile the graph with a durable checkpointer"
)


def answer(decision: Decision) -> Any:
    """Return what an `interrupt()` is answered with: the JSON that a human gave, or yes or no."""
    if decision.kind in {"rejected", "expired"}:
        return False
    return True if decision.arguments is None else json.loads(decision.arguments)


class LangGraphAgent(Adapter):
    """A compiled LangGraph graph as a `Runnable`.

    What is said in nodes, also of subgraphs, becomes messages; `get_stream_writer` becomes updates
    of the node. `interrupt()` makes the run wait for a human. The options `temperature`,
    `max_tokens` and `stop` are given as `configurable`, for models that were made configurable.
    """

    def __init__(
        self,
        graph: Pregel[Any, Any, Any, Any],
        *,
        name: str | None = None,
        description: str = "",
        config: RunnableConfig | None = None,
        context: Any = None,
        take: Callable[[RunRequest], Any] | None = None,
        answer: Callable[[Decision], Any] = answer,
        timeout: float | None = 600.0,
    ) -> None:
        """Serve a graph.

        Args:
            graph: What `StateGraph.compile` or `create_agent` gave.
            name: The name under which it is registered; by default the graph's own.
            description: One sentence for people who choose an agent.
            config: For each run, with what is set here; `recursion_limit` for example.
            context: The graph's runtime context.
            take: Makes the graph's input of a request; by default the request's `state`, or else
                the conversation as `{"messages": [...]}`.
            answer: Makes what `interrupt()` returns of what a human decided.
            timeout: Seconds that one run may take; None for no limit of its own.
        """
        super().__init__(name or graph.get_name(), description, timeout)
        self._kept = not graph.checkpointer
        self._graph = graph.copy({"checkpointer": InMemorySaver()}) if self._kept else graph
        self._config = config
        self._context = context
        self._take = take or _take
        self._answer = answer

    @property
    def kind(self) -> Literal["graph"]:
        """What it is."""
        return "graph"

    async def _run(self, request: RunRequest, speaker: Speaker) -> Sequence[Event]:
        await speaker.begins()
        config = self._configured(request)
        state = await self._graph.aget_state(config)
        given = self._given(request, state)
        if given is not _DONE:
            ears = Ears(speaker)
            # An async generator, which its type does not say.
            stream = cast(
                "AsyncGenerator[Any, None]",
                self._graph.astream(
                    given,
                    config,
                    context=self._context,
                    stream_mode=["messages", "tasks", "custom"],
                    subgraphs=True,
                ),
            )
            try:
                async with aclosing(stream) as chunks:
                    async for namespace, mode, data in chunks:
                        await ears.hear(namespace, mode, data)
            except GraphRecursionError as error:
                limit = int(config.get("recursion_limit", 25))
                raise StepLimitExceeded(limit, "supersteps") from error
            await ears.ends()
            state = await self._graph.aget_state(config)
        if state.next:
            return [speaker.waits(await _ask(state, speaker), node=state.next[0])]
        values = without_messages(state.values)
        said = speaker.output or _said(state.values)
        return [speaker.completes(said or (result_text(values) if values else ""), state=values)]

    def _given(self, request: RunRequest, state: StateSnapshot) -> Any:
        """Return what the graph is to begin with, or to go on with.

        Raises:
            CheckpointUnknown: If it was answered, and what it had asked is not known any more.
            RuntimeFault: If a human did not want it to go on.
        """
        decisions = request.decisions
        if state.interrupts:
            answered = {
                interrupt.id: self._answer(decisions[_approval_id(interrupt.id)])
                for interrupt in state.interrupts
                if _approval_id(interrupt.id) in decisions
            }
            return Command(resume=answered) if answered else _DONE
        if state.next:
            for decision in decisions.values():
                if decision.kind in {"rejected", "expired"}:
                    raise RuntimeFault(rejection(decision))
            return None
        if state.values:
            return _DONE
        if decisions:
            raise CheckpointUnknown(LOST)
        return self._take(request)

    def _configured(self, request: RunRequest) -> RunnableConfig:
        options = request.options
        configurable: dict[str, Any] = {"thread_id": _thread(request)}
        if options.temperature is not None:
            configurable["temperature"] = options.temperature
        if options.max_tokens is not None:
            configurable["max_tokens"] = options.max_tokens
        if options.stop_sequences:
            configurable["stop"] = list(options.stop_sequences)
        ours = RunnableConfig(configurable=configurable, callbacks=[Callbacks()])
        return merge_configs(self._config, ours)

    async def _forget(self, request: RunRequest) -> None:
        saver = self._graph.checkpointer
        if self._kept and isinstance(saver, InMemorySaver):
            await saver.adelete_thread(_thread(request))


_DONE = object()
"""Given to no graph: there is nothing left to do, or nobody has answered yet."""


def _thread(request: RunRequest) -> str:
    """Return the thread of a run; one below another run has its own."""
    return "/".join((request.run_id, *request.path))


def _approval_id(interrupt_id: str) -> str:
    """Return the approval that stands for an interrupt, also after a restart."""
    return f"apr_{interrupt_id}"


async def _ask(state: StateSnapshot, speaker: Speaker) -> list[str]:
    """Report what the graph waits for, and return the approvals' ids."""
    asked: dict[str, ApprovalRequested] = {}
    report = speaker.report
    for task in state.tasks:
        for interrupt in task.interrupts:
            approval_id = _approval_id(interrupt.id)
            value = plain(interrupt.value, f"node {task.name!r}")
            asked[approval_id] = ApprovalRequested(
                run_id=report.run_id,
                path=report.path,
                approval_id=approval_id,
                node=task.name,
                arguments=json.dumps(value),
                reason=value if isinstance(value, str) else None,
            )
    if not asked:  # a breakpoint of the graph itself
        approval_id = new_id("apr")
        asked[approval_id] = ApprovalRequested(
            run_id=report.run_id,
            path=report.path,
            approval_id=approval_id,
            node=state.next[0],
            reason=f"the graph stops before {', '.join(state.next)}",
        )
    for event in asked.values():
        await report(event)
    return list(asked)


def _take(request: RunRequest) -> Any:
    if request.state is not None:
        return dict(request.state)
    told = [] if request.instructions is None else [SystemMessage(request.instructions)]
    return {"messages": [*told, *(_message(message) for message in legal(request.history))]}


def _message(message: Message) -> AnyMessage:
    match message.role:
        case "system":
            return SystemMessage(message.content)
        case "user":
            return HumanMessage(message.content)
        case "assistant":
            calls = [
                {"id": call.id, "name": call.name, "args": _arguments(call.arguments)}
                for call in message.tool_calls
            ]
            return AIMessage(content=message.content, tool_calls=calls)
        case "tool":
            return ToolMessage(message.content, tool_call_id=message.tool_call_id or "")


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text or "{}")
    except ValueError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _said(values: Any) -> str:
    """Return what the conversation in a state ends with."""
    messages = values.get("messages") if isinstance(values, Mapping) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    return str(last.text) if isinstance(last, AIMessage) else ""
