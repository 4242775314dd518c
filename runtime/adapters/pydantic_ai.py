"""Agents made with pydantic-ai, served like our own. Needs the extra `pydantic-ai`.

A run that waits for a human goes on from its history alone, so it also does after a restart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

try:
    from pydantic_ai import (
        AbstractToolset,
        Agent,
        DeferredToolRequests,
        DeferredToolResults,
        FunctionToolset,
        ToolApproved,
        ToolDenied,
        UsageLimits,
    )
    from pydantic_ai.agent import AbstractAgent
    from pydantic_ai.capabilities import ReinjectSystemPrompt
    from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior, UsageLimitExceeded
except ImportError as error:
    raise ImportError(
        "agents of pydantic-ai need the extra `pydantic-ai`: pip install 'tidegate[pydantic-ai]'"
    ) from error

from runtime.adapters.adapter import Adapter
from runtime.adapters.pydantic_ai_wire import (
    ToolsStart,
    answered,
    hear_answer,
    message_history,
    model_settings,
    translated,
)
from runtime.adapters.speaking import Speaker, rejection
from runtime.errors import (
    RuntimeFault,
    StepLimitExceeded,
)
from runtime.events import ApprovalRequested, Event, ToolStarted
from runtime.history import UNKNOWN_OUTCOME, failure_text, legal, pending_calls, result_text
from runtime.messages import Message
from runtime.plain import plain
from runtime.runnable import Decision, RunRequest, ToolInfo

__all__ = ["PydanticAIAgent"]


class PydanticAIAgent(Adapter):
    """A pydantic-ai agent as a `Runnable`. It is not closed with the registry: it is yours.

    Tools that need approval make the run wait for a human; the `output_type` that this takes is
    added. Tools that are to be run elsewhere (`CallDeferred`) make it fail.
    """

    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        *,
        name: str | None = None,
        description: str = "",
        deps: Any = None,
        max_turns: int = 10,
        timeout: float | None = 600.0,
        approvals: bool = True,
    ) -> None:
        """Serve an agent.

        Args:
            agent: The agent.
            name: The name under which it is registered; by default the agent's own.
            description: One sentence for people who choose an agent.
            deps: The dependencies that its tools get; shared by all runs.
            max_turns: How often one run may call the model.
            timeout: Seconds that one run may take; None for no limit of its own.
            approvals: Whether runs may wait for humans. False for an agent with output validators,
                which pydantic-ai lets no one else give an output type; put `DeferredToolRequests`
                among the agent's own there.

        Raises:
            ValueError: If neither it nor the agent has a name.
        """
        own_name = name or agent.name
        if not own_name:
            raise ValueError("a pydantic-ai agent without a name; pass one as name=")
        super().__init__(own_name, description, timeout)
        self._agent = agent
        self._deps = deps
        self._max_turns = max_turns
        self._output_type = _with_deferred(agent.output_type) if approvals else None

    @property
    def kind(self) -> Literal["agent"]:
        """What it is."""
        return "agent"

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        """Return the tools that are functions; others are known only while it runs."""
        return tuple(
            ToolInfo(tool.name, tool.description or "", tool.function_schema.json_schema)
            for toolset in self._agent.toolsets
            for tool in _functions(toolset)
        )

    async def _run(self, request: RunRequest, speaker: Speaker) -> Sequence[Event]:
        await speaker.begins()
        history, answers = await _resumed(request, speaker)
        prompt = history.pop().content if history and history[-1].role == "user" else None
        model = str(getattr(self._agent.model, "model_name", self._agent.model or "unknown"))
        try:
            async with self._agent.iter(
                prompt,
                output_type=self._output_type,
                instructions=request.instructions,
                message_history=message_history(history),
                deferred_tool_results=answers,
                deps=self._deps,
                model_settings=model_settings(request.options),
                usage_limits=UsageLimits(request_limit=max(0, self._max_turns - speaker.turns)),
                capabilities=[ReinjectSystemPrompt(), ToolsStart(speaker)],
                infer_name=False,
            ) as run:
                async for node in run:
                    if Agent.is_model_request_node(node):
                        await hear_answer(node.stream(run.ctx), await speaker.asks(model), speaker)
                    elif Agent.is_call_tools_node(node):
                        async with node.stream(run.ctx) as happenings:
                            async for happening in happenings:
                                await answered(happening, speaker)
                        speaker.after_step()
        except UsageLimitExceeded as error:
            raise StepLimitExceeded(self._max_turns) from error
        except (ModelHTTPError, UnexpectedModelBehavior) as error:
            raise translated(error) from error
        assert run.result is not None  # noqa: S101 - so it is once the iteration is over
        return await _ended(run.result.output, speaker)


async def _resumed(
    request: RunRequest, speaker: Speaker
) -> tuple[list[Message], DeferredToolResults | None]:
    """Return the history to begin with, and what humans said about the calls that it ends with.

    Of calls that had started when their run died nobody knows the outcome; the model is told.
    """
    history = list(request.history)
    waiting = pending_calls(history)
    calls = {call.id: call for message in history for call in message.tool_calls}
    decided = {call_id for call_id in waiting if call_id in request.decisions}
    doubtful = _started_last(request.journal, request.started)
    if decided - doubtful:
        # Once a human was asked, all that needed no human was done; what is left had started.
        doubtful |= set(waiting) - decided
    for call_id in (call_id for call_id in waiting if call_id in doubtful):
        await speaker.tool_unknown(calls[call_id])
        text = failure_text(UNKNOWN_OUTCOME)
        history.append(Message(role="tool", content=text, tool_call_id=call_id))
        decided.discard(call_id)
    approvals: dict[str, bool | ToolApproved | ToolDenied] = {
        call_id: _answer(request.decisions[call_id]) for call_id in decided
    }
    answers = DeferredToolResults(approvals=approvals) if approvals else None
    return list(legal(history, keep_pending=True)), answers


def _started_last(journal: Sequence[Event], started: frozenset[str]) -> set[str]:
    """Return the calls that had started, without those that then asked for a human and waited."""
    asked: set[str | None] = set()
    for event in journal:
        if isinstance(event, ApprovalRequested):
            asked.add(event.call_id)
        elif isinstance(event, ToolStarted):
            asked.discard(event.call_id)
    return {call_id for call_id in started if call_id not in asked}


def _answer(decision: Decision) -> ToolApproved | ToolDenied:
    if decision.kind in {"rejected", "expired"}:
        return ToolDenied(rejection(decision))
    if decision.kind == "edited" and decision.arguments is not None:
        return ToolApproved(override_args=json.loads(decision.arguments))
    return ToolApproved()


def _with_deferred(output_type: Any) -> list[Any]:
    types = list(output_type) if isinstance(output_type, list | tuple) else [output_type]
    return types if DeferredToolRequests in types else [*types, DeferredToolRequests]


def _functions(toolset: AbstractToolset[Any]) -> list[Any]:
    return list(toolset.tools.values()) if isinstance(toolset, FunctionToolset) else []


async def _ended(output: Any, speaker: Speaker) -> Sequence[Event]:
    """Return the end of a run whose result is this."""
    if isinstance(output, DeferredToolRequests):
        if output.calls:
            raise RuntimeFault(
                f"the tool {output.calls[0].tool_name!r} is to be run elsewhere, which is not done"
            )
        approvals = [
            await speaker.wants_approval(part.tool_call_id, part.tool_name, part.args_as_json_str())
            for part in output.approvals
        ]
        return [speaker.waits(approvals)]
    if isinstance(output, str):
        return [speaker.completes(output)]
    final = plain(output, "the agent")
    return [speaker.completes(result_text(final), final)]
