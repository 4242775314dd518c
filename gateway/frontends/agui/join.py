"""What an AG-UI client that joins is told first: a conversation, and what is open in it. Pure.

AG-UI's streams have no cursor. So whoever comes back gets the conversation as it is; then what is
being said is opened again, with its text so far; and then the stream goes on with the next event.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import orjson
from ag_ui.core import (
    AssistantMessage,
    BaseEvent,
    FunctionCall,
    Message,
    MessagesSnapshotEvent,
    ReasoningMessageContentEvent,
    RunErrorEvent,
    StateSnapshotEvent,
    TextMessageContentEvent,
    ToolCall,
    ToolCallArgsEvent,
    ToolMessage,
    UserMessage,
)

from gateway.codecs.agui import AguiState, Names
from gateway.codecs.agui.ending import interrupt_of
from gateway.codecs.agui.speech import Told, begin_call, begin_message, begin_reasoning
from gateway.codecs.agui.wire import frames_of, ours
from gateway.codecs.agui.work import open_step, progress, result_id, update_node
from gateway.codecs.framing import sse
from gateway.sessions.snapshot import (
    ApprovalView,
    MessageView,
    NodeView,
    OpenCall,
    OpenText,
    RunView,
    Snapshot,
    ToolCallView,
)
from runtime.events import (
    ApprovalRequested,
    MessageStarted,
    NodeUpdate,
    ReasoningStarted,
    ToolCallStarted,
    ToolProgress,
)
from runtime.history import failure_text, result_text

__all__ = ["Joined", "cancelled_before_it_began", "conversation", "join", "nothing_yet"]


@dataclass(frozen=True, slots=True)
class Joined:
    """The beginning of a stream that joins.

    Attributes:
        text: It, framed.
        state: The codec's state after it, if the run is at work; None if it was all.
    """

    text: bytes
    state: AguiState | None


def framed(told: Iterable[BaseEvent]) -> bytes:
    """Return events as server-sent events."""
    return b"".join(sse(frame, None) for frame in frames_of(told))


def cancelled_before_it_began(names: Names) -> bytes:
    """Return the stream of a run that was stopped before it was asked for."""
    return framed([names.started(), names.cancelled("cancel")])


def nothing_yet(names: Names) -> bytes:
    """Return the stream of a conversation that nobody has begun."""
    return framed([names.started(), names.finished()])


def join(snapshot: Snapshot, names: Names, noted: AguiState) -> Joined:
    """Tell a session as it is.

    Args:
        snapshot: The session.
        names: What the client calls the conversation and the run.
        noted: What is known of the state of the graph that runs, or ran last, if it is one.
    """
    told: list[BaseEvent] = [
        names.started(),
        MessagesSnapshotEvent(messages=conversation(snapshot.messages)),
    ]
    if noted.graph is not None:
        told.append(StateSnapshotEvent(snapshot=orjson.loads(noted.graph)))
    run = snapshot.run
    if run is None or snapshot.status != "running":
        told.append(_end(names, run, snapshot.approvals))
        return Joined(framed(told), None)
    state = AguiState(
        phase="on",
        approvals=tuple(_asked(view, run) for view in snapshot.approvals),
        joined=True,
        graph=noted.graph,
        base=noted.base,
    )
    state, opened = _reopen(state, snapshot, run)
    return Joined(framed([*told, *opened]), state)


def _asked(view: ApprovalView, run: RunView) -> ApprovalRequested:
    """Return the question of which a snapshot tells."""
    return ApprovalRequested(
        **view.model_dump(exclude={"path"}, exclude_none=True), path=view.path or (run.agent,)
    )


def _end(names: Names, run: RunView | None, approvals: Iterable[ApprovalView]) -> BaseEvent:
    """Return how the last run stands, of which there is no more to come for now."""
    if run is None or run.status == "completed":
        return names.finished()
    if run.status == "failed" and run.error is not None:
        return RunErrorEvent(message=run.error.message, code=run.error.code)
    if run.status == "cancelled":
        return names.cancelled("cancel")
    asked = [_asked(view, run) for view in approvals]
    return names.paused(
        [interrupt_of(one) for one in asked if one.wants is None],
        [one.call_id for one in asked if one.wants is not None and one.call_id],
        (),
    )


# --- the conversation --------------------------------------------------------------------------


def conversation(messages: Iterable[MessageView]) -> list[Message]:
    """Return messages as AG-UI's; those that were said anew are left out."""
    told: list[Message] = []
    for said in messages:
        if said.superseded:
            continue
        if said.role == "user":
            told.append(UserMessage(id=said.message_id, content=said.text))
            continue
        told.append(
            AssistantMessage(
                id=said.message_id,
                name=said.agent,
                content=said.text or None,
                tool_calls=[_call(call) for call in said.tool_calls] or None,
                metadata=ours(incomplete=said.incomplete),
            )
        )
        told += [answer for call in said.tool_calls if (answer := _answer(call)) is not None]
    return told


def _call(call: ToolCallView) -> ToolCall:
    return ToolCall(
        id=call.call_id, function=FunctionCall(name=call.name, arguments=call.arguments)
    )


def _answer(call: ToolCallView) -> ToolMessage | None:
    if call.status == "completed":
        content, error = result_text(call.result), None
    elif call.error is not None:
        content, error = failure_text(call.error), call.error.message
    else:
        return None
    return ToolMessage(
        id=result_id(call.call_id), tool_call_id=call.call_id, content=content, error=error
    )


# --- what is open ------------------------------------------------------------------------------


class _Opening:
    """Opens again what is open."""

    def __init__(self, state: AguiState, run: RunView) -> None:
        self.state = state
        self.told: list[BaseEvent] = []
        self._run = run

    def _add(self, told: Told, *more: BaseEvent) -> None:
        self.state = told[0]
        self.told += (*told[1], *more)

    def node(self, node: NodeView) -> None:
        self._add(open_step(self.state, node.path, node.node))
        if node.progress is not None:
            run_id = self._run.run_id
            said = NodeUpdate(run_id=run_id, path=node.path, node=node.node, updates=node.progress)
            self._add(update_node(self.state, said, run_id))

    def message(self, text: OpenText) -> None:
        event = MessageStarted(
            run_id=text.run_id,
            path=self._path(text),
            message_id=text.message_id,
            agent=text.agent,
        )
        so_far = TextMessageContentEvent(message_id=text.message_id, delta=text.text)
        self._add(begin_message(self.state, event), *([so_far] if text.text else ()))

    def reasoning(self, text: OpenText) -> None:
        event = ReasoningStarted(
            run_id=text.run_id, path=self._path(text), message_id=text.message_id
        )
        so_far = ReasoningMessageContentEvent(message_id=text.message_id, delta=text.text)
        self._add(begin_reasoning(self.state, event), *([so_far] if text.text else ()))

    def call(self, call: OpenCall, beside: OpenText | None) -> None:
        event = ToolCallStarted(
            run_id=self._run.run_id,
            path=self._path(call),
            call_id=call.call_id,
            name=call.name,
            message_id=None if beside is None else beside.message_id,
        )
        so_far = ToolCallArgsEvent(tool_call_id=call.call_id, delta=call.arguments)
        self._add(begin_call(self.state, event), *([so_far] if call.arguments else ()))

    def tool(self, call: ToolCallView, said: MessageView) -> None:
        if call.status == "running" and call.progress is not None:
            event = ToolProgress(
                run_id=self._run.run_id,
                path=self._path(said),
                call_id=call.call_id,
                data=call.progress,
            )
            self._add(progress(self.state, event))

    def _path(self, of: OpenText | OpenCall | MessageView) -> tuple[str, ...]:
        return of.path or (self._run.agent,)


def _reopen(state: AguiState, snapshot: Snapshot, run: RunView) -> Told:
    opening = _Opening(state, run)
    for node in run.nodes or ():
        if node.status == "running":
            opening.node(node)
    for text in snapshot.open.messages:
        opening.message(text)
    for text in snapshot.open.reasoning:
        opening.reasoning(text)
    for call in snapshot.open.tool_calls:
        beside = (text for text in snapshot.open.messages if text.path == call.path)
        opening.call(call, next(beside, None))
    for said in snapshot.messages:
        for made in said.tool_calls:
            opening.tool(made, said)
    return opening.state, opening.told
