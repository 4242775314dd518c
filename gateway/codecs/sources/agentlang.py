"""Agentlang: what a flow, its agents and its models do, as named events, and the result last. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.codecs.codec import Frame
from gateway.codecs.native import event_json
from gateway.codecs.waiting import waits_for_human
from gateway.log.entry import Entry
from runtime.events import (
    AgentCompleted,
    AgentStarted,
    Custom,
    Event,
    ModelCompleted,
    ModelFailed,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from runtime.sse.words import json_line

__all__ = ["AgentlangCodec", "Outcome", "outcome"]

CLIENT_CLOSED = 499
"""The status of what was cancelled: nginx's, for a client that did not wait."""

WAITS = 409
FAILED = 500
UNAVAILABLE = 503
_ERRORS = range(400, 600)

_OWN_WORDS = frozenset({"result"})
"""Names that say how the stream ends: nothing that code in a run reports can be taken for them."""

_BREAKS = ("\r", "\n", "\0")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, as a plain answer says it.

    Attributes:
        status: The HTTP status.
        body: JSON on one line; the stream's last event carries the same.
    """

    status: int
    body: bytes


def outcome(event: Event, session_id: str) -> Outcome | None:
    """Return the outcome of a run from the event that ends it, or that lets it wait for a human.

    Returns None for all other events.
    """
    match event:
        case RunCompleted():
            answer = event.output if event.final_output is None else event.final_output
            return Outcome(200, json_line(answer))
        case RunFailed():
            status = event.error.status_code
            return _failure(event.error.message, status if status in _ERRORS else None)
        case RunCancelled():
            return _failure(f"cancelled: {event.reason}", CLIENT_CLOSED)
        case RunInterrupted():
            return _failure(waits_for_human(session_id), WAITS)
        case _:
            return None


def _failure(message: str, status: int | None) -> Outcome:
    status = FAILED if status is None else status
    return Outcome(status, json_line({"error": message, "statusCode": status}))


@dataclass(frozen=True, slots=True)
class AgentlangCodec:
    """The words of `POST /{module}/{event}`. The state is the name of what runs.

    Attributes:
        everything: Whether all other events are told too, under their own types.
    """

    everything: bool = False

    def begin(self) -> str:
        """Return the state before the first event: nothing is known yet."""
        return ""

    def encode(self, state: str, event: Event, entry: Entry) -> tuple[str, Sequence[Frame]]:
        """Say an event."""
        if isinstance(event, RunStarted):
            state = event.agent or event.graph or state
        if (end := outcome(event, entry.session_id)) is not None:
            name = "result" if isinstance(event, RunCompleted) else "error"
            return state, (Frame(end.body, name),)
        if (frame := _progress(state, event)) is not None:
            return state, (frame,)
        if self.everything:
            return state, (Frame(event_json(entry), event.type),)
        return state, ()

    def cut(self, state: str, reason: str) -> Sequence[Frame]:
        """Say that the server cannot go on with this answer."""
        message = f"the server cannot go on with this answer: {reason}"
        return (Frame(_failure(message, UNAVAILABLE).body, "error"),)


def _progress(root: str, event: Event) -> Frame | None:
    frame: Frame | None = None
    match event:
        case NodeStarted(kind="flow_step"):
            frame = _frame("flow_step_start", {"step": event.node, "agent": event.agent})
        case NodeCompleted(kind="flow_step"):
            frame = _frame("flow_step_complete", {"step": event.node, "result": event.result})
        case AgentStarted():
            frame = _frame("agent_start", _agent(event))
        case AgentCompleted():
            frame = _frame("agent_complete", _agent(event))
        case ModelCompleted():
            frame = _frame("llm_response", _response(root, event))
        case ModelFailed():
            frame = _frame("error", {"agent": _speaker(root, event), **_error(event)})
        case NodeFailed():
            frame = _frame("error", {"step": event.node, **_error(event)})
        case Custom():
            frame = _reported(event)
        case _:
            pass
    return frame


def _frame(name: str, data: Mapping[str, Any]) -> Frame:
    return Frame(json_line(data), name)


def _agent(event: AgentStarted | AgentCompleted) -> dict[str, Any]:
    return {"agent": event.agent} if event.step is None else {"step": event.step}


def _response(root: str, event: ModelCompleted) -> dict[str, Any]:
    response: dict[str, Any] = {"agent": _speaker(root, event), "content": event.content or ""}
    if (usage := event.usage) is not None:
        response["tokens"] = {
            "input": usage.prompt_tokens,
            "output": usage.completion_tokens,
            "total": usage.total_tokens,
        }
    return response


def _error(event: ModelFailed | NodeFailed) -> dict[str, Any]:
    """Return a failure that is not the run's own end; it may not even be the step's."""
    error: dict[str, Any] = {"error": event.error.message}
    return error | {"willRetry": True} if event.will_retry else error


def _speaker(root: str, event: ModelCompleted | ModelFailed) -> str:
    """Return the agent that a model works for: the last of the path, without its call's id."""
    return event.path[-1].rpartition(":")[2] if event.path else root


def _reported(event: Custom) -> Frame:
    """Return what code in the run reported, under its own name if that can be one."""
    if not event.name or event.name in _OWN_WORDS or any(mark in event.name for mark in _BREAKS):
        return _frame("custom", {"name": event.name, "payload": event.payload})
    return Frame(json_line(event.payload), event.name)
