"""The state that a log leads to, as far as a snapshot shows it. Pure, and made from PROTOCOL.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.conformance.events import ENDS, Event, Log

__all__ = ["State", "folded", "of_snapshot"]


@dataclass(slots=True)
class State:
    """What can be compared: the fold of a log, or a snapshot.

    Attributes:
        messages: Id, role, text, and whether it is incomplete.
        run: Id and status of the active run, or the last one.
        queue: The runs that wait.
        approvals: The questions that wait.
        open_texts: What is being said, by message.
        tools: The calls that work.
        tokens: How many the models counted.
    """

    messages: list[tuple[str, str, str, bool]] = field(default_factory=list)
    run: tuple[str, str] | None = None
    queue: list[str] = field(default_factory=list)
    approvals: list[str] = field(default_factory=list)
    open_texts: dict[str, str] = field(default_factory=dict)
    tools: list[str] = field(default_factory=list)
    tokens: int = 0

    def difference(self, other: State) -> str:
        """Name the first part in which another state differs; empty if none does."""
        for name in self.__slots__:
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                return f"{name} {others!r} instead of {mine!r}"
        return ""


def folded(log: Log) -> State:
    """Return the state that a log leads to."""
    state = State()
    for event in log:
        _apply(state, event)
    return state


def _apply(state: State, event: Event) -> None:  # noqa: C901, PLR0912 - one branch for each type
    run_id, message_id = str(event.get("run_id")), str(event.get("message_id"))
    match event.type:
        case "session.created":
            for message in event.get("history") or []:
                _hear(state, message)
        case "input.accepted" | "input.steered":
            _hear(state, event.get("message"))
        case "input.queued":
            state.queue.append(run_id)
        case "input.dequeued":
            state.queue.remove(run_id)
        case "input.reordered":
            state.queue = list(event.get("run_ids") or [])
        case "history.rolled_back":
            gone = set(event.get("message_ids"))
            state.messages = [each for each in state.messages if each[0] not in gone]
        case "run.started" | "run.resumed" | "run.attempt_started":
            state.run = (run_id, "running")
        case "run.interrupted":
            state.run = (run_id, "interrupted")
        case kind if kind in ENDS:
            if state.run and state.run[0] == run_id:
                state.run = (run_id, kind.removeprefix("run."))
        case "message.started":
            state.open_texts[message_id] = ""
        case "message.delta":
            state.open_texts[message_id] += str(event.get("text"))
        case "message.completed":
            state.open_texts.pop(message_id, None)
            incomplete = bool(event.get("incomplete"))
            state.messages.append((message_id, "assistant", str(event.get("text")), incomplete))
        case "model.completed":
            state.tokens += int((event.get("usage") or {}).get("total_tokens", 0))
            said = {each[0] for each in state.messages}
            if event.get("tool_calls") and message_id not in said:  # a step without words
                text = str(event.get("content") or "")
                state.messages.append((message_id, "assistant", text, False))
        case "tool.started":
            state.tools.append(str(event.get("call_id")))
        case "tool.completed" | "tool.failed" | "tool.unknown_outcome":
            if not event.get("will_retry") and event.get("call_id") in state.tools:
                state.tools.remove(str(event.get("call_id")))
        case "approval.requested":
            state.approvals.append(str(event.get("approval_id")))
        case "approval.resolved":
            state.approvals.remove(str(event.get("approval_id")))
        case _:
            pass


def _hear(state: State, message: dict[str, Any]) -> None:
    if message.get("role") != "tool":  # a result is shown with its call
        said = (str(message.get("message_id")), str(message["role"]), str(message["content"]))
        state.messages.append((*said, False))


def of_snapshot(snapshot: dict[str, Any]) -> State:
    """Return what a snapshot says of the same."""
    run, opened = snapshot.get("run"), snapshot.get("open") or {}
    texts = opened.get("messages", [])
    return State(
        messages=[
            (
                str(each.get("message_id")),
                str(each.get("role")),
                str(each.get("text")),
                bool(each.get("incomplete")),
            )
            for each in snapshot.get("messages", [])
        ],
        run=(str(run.get("run_id")), str(run.get("status"))) if run else None,
        queue=[str(item.get("run_id")) for item in snapshot.get("queue", [])],
        approvals=[str(each.get("approval_id")) for each in snapshot.get("approvals", [])],
        open_texts={str(each.get("message_id")): str(each.get("text")) for each in texts},
        tools=[str(call_id) for call_id in opened.get("tools", [])],
        tokens=int((snapshot.get("usage") or {}).get("total_tokens", 0)),
    )
