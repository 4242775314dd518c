"""From what the OpenAI Agents SDK streams to events."""

from __future__ import annotations

import asyncio
from typing import Any

from agents import Agent, RunHooks, Tool
from agents.items import HandoffOutputItem, ToolCallOutputItem, TResponseStreamEvent
from agents.run_context import RunContextWrapper
from agents.stream_events import (
    AgentUpdatedStreamEvent,
    RawResponsesStreamEvent,
    RunItemStreamEvent,
    StreamEvent,
)
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseFunctionToolCall,
    ResponseIncompleteEvent,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseReasoningTextDeltaEvent,
    ResponseRefusalDeltaEvent,
    ResponseTextDeltaEvent,
)

from runtime.adapters.answer import Answer
from runtime.adapters.openai_agents_wire import usage_of
from runtime.adapters.speaking import Speaker, rejection
from runtime.events import AgentHandoff, ErrorInfo
from runtime.failure import error_info
from runtime.runnable import RunRequest

__all__ = ["Ears"]


class Ears:
    """Hears one run. `hear` each event of the stream, in order; `hooks` hear its tools.

    Attributes:
        hooks: To be given to the SDK.
    """

    def __init__(self, speaker: Speaker, agent: Agent[Any], request: RunRequest) -> None:
        self.hooks = _Hooks(self)
        self._speaker = speaker
        self._first = agent
        self._decisions = request.decisions
        self._names = {call.id: call.name for m in request.history for call in m.tool_calls}
        self._agent = agent
        self._answer: Answer | None = None
        self._quiet = asyncio.Event()  # no answer is open
        self._quiet.set()
        self._calls: dict[int, ResponseFunctionToolCall] = {}
        self._ended: set[str] = set()

    async def hear(self, event: StreamEvent) -> None:
        """Report one event."""
        match event:
            case RawResponsesStreamEvent():
                await self._raw(event.data)
            case RunItemStreamEvent(item=HandoffOutputItem() as item):
                await self._handed_over(item)
            case RunItemStreamEvent(item=ToolCallOutputItem() as item):
                await self._tool_output(item)
            case AgentUpdatedStreamEvent(new_agent=agent):
                self._agent = agent
                first = agent is self._first
                self._speaker.agent = self._speaker.report.path[-1] if first else agent.name
            case _:
                pass

    async def fails(self, error: Exception) -> None:
        """Report that the model call failed, if one was being made."""
        if self._answer is not None:
            await self._answer.fails(error_info(error))

    # --- the model -----------------------------------------------------------------------------

    async def _raw(self, event: TResponseStreamEvent) -> None:
        match event:
            case ResponseCreatedEvent():
                await self._open()
            case ResponseTextDeltaEvent() | ResponseRefusalDeltaEvent():
                await (await self._open()).says(event.delta)
            case ResponseReasoningTextDeltaEvent() | ResponseReasoningSummaryTextDeltaEvent():
                await (await self._open()).thinks(event.delta)
            case ResponseOutputItemAddedEvent(item=ResponseFunctionToolCall() as call):
                self._calls[event.output_index] = call
                await (await self._open()).calls(call.call_id, call.name)
            case ResponseFunctionCallArgumentsDeltaEvent():
                if (begun := self._calls.get(event.output_index)) is not None:
                    await (await self._open()).calls(begun.call_id, begun.name, event.delta)
            case ResponseOutputItemDoneEvent(item=ResponseFunctionToolCall() as call):
                await (await self._open()).ready(call.call_id, call.name, call.arguments)
            case ResponseCompletedEvent() | ResponseIncompleteEvent():
                await self._whole(event.response)
            case _:
                pass

    async def _open(self) -> Answer:
        if self._answer is None:
            self._quiet.clear()
            self._answer = await self._speaker.asks(_model_name(self._agent))
        return self._answer

    async def _whole(self, response: Response) -> None:
        """Report the end of an answer, and what of it was not streamed."""
        answer = await self._open()
        for item in response.output:
            if isinstance(item, ResponseFunctionToolCall):
                self._names[item.call_id] = item.name
                await answer.ready(item.call_id, item.name, item.arguments)
            elif isinstance(item, ResponseOutputMessage) and not answer.text:
                for part in item.content:
                    await answer.says(part.text if part.type == "output_text" else part.refusal)
        cut = response.incomplete_details
        await answer.ends(
            usage_of(response.usage),
            finish_reason="length" if cut and cut.reason == "max_output_tokens" else None,
            model=str(response.model) or None,
            response_id=response.id or None,
        )
        self._answer = None
        self._calls.clear()
        self._quiet.set()

    # --- tools ---------------------------------------------------------------------------------

    async def tool_starts(self, context: RunContextWrapper[Any], tool: Tool) -> None:
        """Report a tool before it has any effect, and after the answer that called it."""
        if (call_id := getattr(context, "tool_call_id", None)) is not None:
            await self._quiet.wait()
            arguments = str(getattr(context, "tool_arguments", ""))
            await self._speaker.tool_starts(call_id, tool.name, arguments)

    async def tool_ends(self, context: RunContextWrapper[Any], tool: Tool, result: Any) -> None:
        """Report what a tool gave."""
        if (call_id := getattr(context, "tool_call_id", None)) is not None:
            self._ended.add(call_id)
            await self._speaker.tool_ends(call_id, tool.name, result)

    async def _tool_output(self, item: ToolCallOutputItem) -> None:
        """Report the answer to a call whose tool did not run here: it was refused, or is theirs."""
        call_id = str(_of(item.raw_item, "call_id") or "")
        if not call_id or call_id in self._ended:
            return
        self._ended.add(call_id)
        name = self._names.get(call_id, "tool")
        decision = self._decisions.get(call_id)
        if decision is not None and decision.kind in {"rejected", "expired"}:
            error = ErrorInfo(code="rejected", message=rejection(decision))
            await self._speaker.tool_ends(call_id, name, error=error)
        else:
            await self._speaker.tool_ends(call_id, name, item.output)

    async def _handed_over(self, item: HandoffOutputItem) -> None:
        call_id = str(_of(item.raw_item, "call_id") or "")
        output = _of(item.raw_item, "output")
        await self._speaker.tool_ends(call_id, self._names.get(call_id, "handoff"), output)
        report = self._speaker.report
        await report(
            AgentHandoff(
                run_id=report.run_id,
                path=report.path,
                source=item.source_agent.name,
                target=item.target_agent.name,
            )
        )


class _Hooks(RunHooks[Any]):
    """Tells when tools start and end, which the stream does not."""

    def __init__(self, ears: Ears) -> None:
        self._ears = ears

    async def on_tool_start(self, context: RunContextWrapper[Any], agent: Any, tool: Tool) -> None:
        await self._ears.tool_starts(context, tool)

    async def on_tool_end(
        self, context: RunContextWrapper[Any], agent: Any, tool: Tool, result: Any
    ) -> None:
        await self._ears.tool_ends(context, tool, result)


def _of(raw: Any, field: str) -> Any:
    """Return a field of an item, which is a dictionary or an object."""
    return raw.get(field) if isinstance(raw, dict) else getattr(raw, field, None)


def _model_name(agent: Agent[Any]) -> str:
    model = agent.model
    if isinstance(model, str):
        return model
    return str(getattr(model, "model", None) or type(model).__name__)
