"""Agents made with the OpenAI Agents SDK, served like our own. Needs the extra `openai-agents`.

The SDK sends traces to OpenAI by itself. Here it does not, unless a `run_config` of yours says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, MutableMapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, cast

try:
    from agents import (
        Agent,
        FunctionTool,
        RunConfig,
        Runner,
        RunResultStreaming,
        RunState,
        TResponseInputItem,
    )
    from agents.exceptions import AgentsException
    from agents.tracing import get_trace_provider
    from openai import OpenAIError
except ImportError as error:
    raise ImportError(
        "agents of the OpenAI Agents SDK need the extra `openai-agents`: "
        "pip install 'tidegate[openai-agents]'"
    ) from error

from runtime.abandon import finish
from runtime.adapters.adapter import Adapter
from runtime.adapters.openai_agents_ears import Ears
from runtime.adapters.openai_agents_wire import input_items, model_settings, translated, with_edited
from runtime.adapters.speaking import Speaker, rejection
from runtime.conduct import StoppedAfterStep
from runtime.errors import CheckpointUnknown, GuardrailTripwire
from runtime.events import Event, GuardrailTripped
from runtime.history import UNKNOWN_OUTCOME, failure_text, pending_calls, result_text
from runtime.messages import Message
from runtime.plain import plain
from runtime.runnable import RunRequest, ToolInfo

__all__ = ["OpenAIAgentsAgent"]

# The SDK makes its exporter at the first run, even if that traces nothing, and reads certificates
# from the disk for it: better now than while a server runs. Nothing is sent by this.
get_trace_provider()

KEPT = 1000
"""Waiting runs that are kept in memory; the oldest is forgotten then. Each is some 10 KB."""

LOST = (
    "the run cannot go on: what it waited for was kept in the memory of a process that has ended; "
    "give the agent a durable mapping as states="
)

State = dict[str, Any]


class OpenAIAgentsAgent(Adapter):
    """An agent of the OpenAI Agents SDK, and those it hands over to, as a `Runnable`.

    Tools with `needs_approval` make the run wait for a human. The SDK's state of such a run is kept
    until then: in memory, or wherever `states` keeps it.
    """

    def __init__(
        self,
        agent: Agent[Any],
        *,
        name: str | None = None,
        description: str = "",
        context: Any = None,
        run_config: RunConfig | None = None,
        max_turns: int = 10,
        timeout: float | None = 600.0,
        states: MutableMapping[str, State] | None = None,
    ) -> None:
        """Serve an agent.

        Args:
            agent: The agent.
            name: The name under which it is registered; by default the agent's own.
            description: One sentence for people who choose an agent.
            context: The context that its tools and hooks get; shared by all runs.
            run_config: Instead of the default one, which traces nothing.
            max_turns: How often one run may call the model.
            timeout: Seconds that one run may take; None for no limit of its own.
            states: Keeps the states of runs that wait for a human, as JSON data, by their ids. A
                durable one lets them go on after a restart.
        """
        super().__init__(name or agent.name, description, timeout)
        self._agent = agent
        self._context = context
        self._config = run_config or RunConfig(tracing_disabled=True)
        self._max_turns = max_turns
        self._states: MutableMapping[str, State] = {} if states is None else states
        self._limited = states is None

    @property
    def kind(self) -> Literal["agent"]:
        """What it is."""
        return "agent"

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        """Return the tools that are functions."""
        return tuple(
            ToolInfo(tool.name, tool.description, tool.params_json_schema)
            for tool in self._agent.tools
            if isinstance(tool, FunctionTool)
        )

    async def _forget(self, request: RunRequest) -> None:
        self._states.pop(_key(request), None)

    async def _run(self, request: RunRequest, speaker: Speaker) -> Sequence[Event]:
        await speaker.begins()
        given = await self._given(request, speaker)
        ears = Ears(speaker, self._agent, request)
        settings = model_settings(request.options)
        result = Runner.run_streamed(
            self._agent,
            given,
            context=self._context if isinstance(given, list) else None,
            max_turns=max(0, self._max_turns - speaker.turns),
            hooks=ears.hooks,
            run_config=dataclasses.replace(
                self._config,
                model_settings=settings
                if self._config.model_settings is None
                else self._config.model_settings.resolve(settings),
            ),
        )
        try:
            await self._listen(result, ears, request)
        except (AgentsException, OpenAIError) as error:
            await self._fail(error, ears, speaker)
        finally:
            await _stop(result)
        return await self._ended(result, request, speaker)

    async def _listen(self, result: RunResultStreaming, ears: Ears, request: RunRequest) -> None:
        asked_to_stop = False
        # An async generator, which its type does not say.
        stream = cast("AsyncGenerator[Any, None]", result.stream_events())
        async with aclosing(stream) as events:
            async for event in events:
                await ears.hear(event)
                if request.cancel is not None and request.cancel.stopping and not asked_to_stop:
                    asked_to_stop = True
                    result.cancel(mode="after_turn")
        if asked_to_stop and result.final_output is None and not result.interruptions:
            raise StoppedAfterStep

    async def _fail(
        self, error: AgentsException | OpenAIError, ears: Ears, speaker: Speaker
    ) -> None:
        """Raise an error of theirs as one of ours, in words that a client may see."""
        speaker.report.check()
        fault = translated(error, self._max_turns)
        await ears.fails(fault)
        if isinstance(fault, GuardrailTripwire):
            await speaker.report(
                GuardrailTripped(
                    run_id=speaker.report.run_id,
                    path=speaker.report.path,
                    name=fault.name,
                    stage=fault.stage,
                )
            )
        raise fault from error

    async def _ended(
        self, result: RunResultStreaming, request: RunRequest, speaker: Speaker
    ) -> Sequence[Event]:
        """Return the end of a run that did not fail."""
        if result.interruptions:
            self._keep(request, result.to_state())
            approvals = [
                await speaker.wants_approval(
                    item.call_id or "", item.name or "", item.arguments or ""
                )
                for item in result.interruptions
            ]
            return [speaker.waits(approvals)]
        output = result.final_output
        if isinstance(output, str):
            return [speaker.completes(output)]
        final = plain(output, "the agent")
        return [speaker.completes(result_text(final), final)]

    # --- going on --------------------------------------------------------------------------------

    async def _given(
        self, request: RunRequest, speaker: Speaker
    ) -> list[TResponseInputItem] | RunState[Any]:
        """Return what the run is to begin with, or to go on with.

        Raises:
            CheckpointUnknown: If a human has answered, and what was asked is not known any more.
        """
        waiting = pending_calls(request.history)
        answered = any(call_id in request.decisions for call_id in waiting)
        if answered and not set(waiting) & request.started:
            return await self._resumed(request)
        told = await _doubted(request, waiting, speaker)
        if request.instructions is not None:
            told.insert(0, Message(role="system", content=request.instructions))
        return input_items(told)

    async def _resumed(self, request: RunRequest) -> RunState[Any]:
        kept = self._states.get(_key(request))
        if kept is None:
            raise CheckpointUnknown(LOST)
        decisions = request.decisions
        state = await RunState.from_json(
            self._agent,
            with_edited(kept, decisions),
            context_override=self._context,
        )
        for item in state.get_interruptions():
            decision = decisions.get(item.call_id or "")
            if decision is None:
                continue
            if decision.kind in {"rejected", "expired"}:
                state.reject(item, rejection_message=f"error: {rejection(decision)}")
            else:
                state.approve(item)
        return state

    def _keep(self, request: RunRequest, state: RunState[Any]) -> None:
        self._states[_key(request)] = state.to_json()
        while self._limited and len(self._states) > KEPT:
            del self._states[next(iter(self._states))]


def _key(request: RunRequest) -> str:
    return "/".join((request.run_id, *request.path))


async def _doubted(request: RunRequest, waiting: Sequence[str], speaker: Speaker) -> list[Message]:
    """Return the history; of calls in it that had started, it says that nobody knows the outcome."""
    history = list(request.history)
    calls = {call.id: call for message in history for call in message.tool_calls}
    for call_id in waiting:
        if call_id in request.started:
            await speaker.tool_unknown(calls[call_id])
            text = failure_text(UNKNOWN_OUTCOME)
            history.append(Message(role="tool", content=text, tool_call_id=call_id))
    return history


async def _stop(result: RunResultStreaming) -> None:
    """Stop what still runs of a run, and wait until it is gone, also if cancelled meanwhile."""
    if not result.is_complete:
        result.cancel()
    if result.run_loop_task is not None:
        await finish(result.run_loop_task)
