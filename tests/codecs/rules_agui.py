"""What AG-UI's clients insist on, as a checker: the schemas of its package, and its order rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from ag_ui.core import Event
from pydantic import TypeAdapter

from gateway.codecs.codec import Frame

__all__ = ["SILENT_IN_AGUI", "check_agui", "events_of"]

_EVENT: TypeAdapter[Any] = TypeAdapter(Event)

SILENT_IN_AGUI = frozenset(
    {
        "input.dequeued",
        "run.attempt_released",
        "model.completed",
        "model.failed",
        "model.started",
        "run.resumed",
        "superstep.completed",
        "superstep.started",
        "tool.started",
    }
)
"""What is told by something else: a model call by its messages, a superstep by its nodes."""

_OPENS = {
    "TEXT_MESSAGE_START": ("message", "messageId"),
    "REASONING_START": ("reasoning", "messageId"),
    "REASONING_MESSAGE_START": ("reasoning message", "messageId"),
    "TOOL_CALL_START": ("call", "toolCallId"),
    "STEP_STARTED": ("step", "stepName"),
    "SUBAGENT_STARTED": ("subagent", "subagentRunId"),
}
_NEEDS = {
    "TEXT_MESSAGE_CONTENT": ("message", "messageId"),
    "REASONING_MESSAGE_CONTENT": ("reasoning message", "messageId"),
    "TOOL_CALL_ARGS": ("call", "toolCallId"),
}
_CLOSES = {
    "TEXT_MESSAGE_END": ("message", "messageId"),
    "REASONING_END": ("reasoning", "messageId"),
    "REASONING_MESSAGE_END": ("reasoning message", "messageId"),
    "TOOL_CALL_END": ("call", "toolCallId"),
    "STEP_FINISHED": ("step", "stepName"),
    "SUBAGENT_FINISHED": ("subagent", "subagentRunId"),
}


def events_of(frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Return what the frames say, each valid by the package's own types, and without null."""
    events = []
    for frame in frames:
        assert frame.event is None
        event = orjson.loads(frame.data)
        _EVENT.validate_python(event)
        known = _EVENT.validate_json(frame.data)
        assert not known.model_extra, f"unknown fields: {known.model_extra}"
        nothing = [key for key, value in event.items() if value is None]
        assert nothing in ([], ["value"]), f"null: {event}"
        events.append(event)
    return events


class _Run:
    """What is open in one run."""

    def __init__(self) -> None:
        self.open: set[tuple[str, str]] = set()
        self.subagents: set[str] = set()
        self.owners: dict[tuple[str, str], str | None] = {}

    def take(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind in _OPENS:
            thing = _OPENS[kind][0], event[_OPENS[kind][1]]
            assert thing not in self.open, f"opened twice: {event}"
            self.open.add(thing)
            self._own(thing, event)
        elif kind in _NEEDS:
            thing = _NEEDS[kind][0], event[_NEEDS[kind][1]]
            assert thing in self.open, f"not open: {event}"
        elif kind in _CLOSES:
            thing = _CLOSES[kind][0], event[_CLOSES[kind][1]]
            assert thing in self.open, f"not open: {event}"
            self.open.discard(thing)

    def _own(self, thing: tuple[str, str], event: dict[str, Any]) -> None:
        """Note whose it is: a call is its message's; an id of a subagent is used once."""
        if thing[0] == "subagent":
            assert thing[1] not in self.subagents, f"used again: {event}"
            parent = event.get("parentSubagentRunId")
            assert parent is None or parent in self.subagents, f"no such parent: {event}"
            self.subagents.add(thing[1])
            return
        owner = event.get("subagentRunId")
        assert owner is None or owner in self.subagents, f"no such subagent: {event}"
        self.owners.setdefault(thing, owner)
        parent = ("message", event.get("parentMessageId", ""))
        assert self.owners.get(parent, owner) == owner, f"another's message: {event}"


def check_agui(frames: Sequence[Frame], cut: bool) -> None:
    """Raise AssertionError if a client would not bear these messages in this order."""
    events = events_of(frames)
    run: _Run | None = None
    ended = False
    activities: set[str] = set()  # a client keeps them, as it keeps messages
    for event in events:
        kind = event["type"]
        if kind == "ACTIVITY_SNAPSHOT":
            activities.add(event["messageId"])
        assert kind != "ACTIVITY_DELTA" or event["messageId"] in activities, f"unknown: {event}"
        if kind == "RUN_STARTED":
            assert run is None, "a run within a run"
            run, ended = _Run(), False
        elif kind == "RUN_ERROR":
            assert not ended, "an error after the end"
            run, ended = None, True
        elif kind == "RUN_FINISHED":
            assert run is not None, "an end without a beginning"
            assert run.open == set(), f"left open: {run.open}"
            run, ended = None, True
        else:
            assert run is not None, f"outside of a run: {event}"
            run.take(event)
    assert not events or ended, "the run has not ended"
    if cut:
        assert events, "a stream that was cut looks like one that is over"
