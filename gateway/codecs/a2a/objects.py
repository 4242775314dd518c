"""The objects of A2A 1.0 that a run is told with, as plain JSON. Pure.

They are the messages of `a2a.proto` in their JSON form; the tests parse all that is made here with
the SDK's own types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from gateway.codecs.native import timestamp
from gateway.log.entry import Entry
from runtime.events import ApprovalRequested

__all__ = ["EXTENSION", "TERMINAL", "Json", "Scene", "State", "question", "shallow"]

Json = dict[str, Any]

EXTENSION = "urn:tidegate:log:v1"
"""Names our extension: under this key, metadata say which event of the log was told, and where in
the log it is. Clients need not know it."""

State = Literal[
    "TASK_STATE_SUBMITTED",
    "TASK_STATE_WORKING",
    "TASK_STATE_INPUT_REQUIRED",
    "TASK_STATE_COMPLETED",
    "TASK_STATE_FAILED",
    "TASK_STATE_CANCELED",
]
"""The states that our tasks can be in; nothing here is ever rejected, or waits for credentials."""

TERMINAL: frozenset[State] = frozenset(
    {"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED"}
)

DEPTH = 24
"""Levels of JSON in a value. Parsers of protobuf's JSON give up at 100, in Python and elsewhere,
and each level costs them up to three."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Of which task something is told, and where in the log that is.

    Attributes:
        task_id: The task.
        context_id: The conversation that it is of.
        entry: What happened.
        history: Whether the task shows the messages that it began with.
    """

    task_id: str
    context_id: str
    entry: Entry
    history: bool = True

    def task(self, state: State, history: Sequence[Json] = ()) -> Json:
        """Return a task as it begins."""
        task: Json = {
            "id": self.task_id,
            "contextId": self.context_id,
            "status": {"state": state, "timestamp": timestamp(self.entry.at)},
            "metadata": {EXTENSION: self._place()},
        }
        if history:
            task["history"] = list(history)
        return {"task": task}

    def message(self, message_id: str, parts: Sequence[Json], *, role: str = "ROLE_AGENT") -> Json:
        """Return a message of the task."""
        return {
            "messageId": message_id,
            "contextId": self.context_id,
            "taskId": self.task_id,
            "role": role,
            "parts": list(parts),
        }

    def status(self, state: State, told: Mapping[str, Any], message: Json | None = None) -> Json:
        """Return an update of the task's status.

        Args:
            state: The state that it is in now.
            told: What happened, in our metadata.
            message: What the client is asked or told.
        """
        status: Json = {"state": state, "timestamp": timestamp(self.entry.at)}
        if message is not None:
            status["message"] = message
        update = {
            "taskId": self.task_id,
            "contextId": self.context_id,
            "status": status,
            "metadata": {EXTENSION: self._place() | dict(told)},
        }
        return {"statusUpdate": update}

    def artifact(self, artifact: Json, *, append: bool = False, last: bool = False) -> Json:
        """Return an update of an artifact: a piece to append, or all of it in place of the old."""
        update: Json = {
            "taskId": self.task_id,
            "contextId": self.context_id,
            "artifact": artifact,
        }
        if append:
            update["append"] = True
        if last:
            update["lastChunk"] = True
        update["metadata"] = {EXTENSION: self._place()}
        return {"artifactUpdate": update}

    def _place(self) -> Json:
        return {"cursor": str(self.entry.position), "seq": self.entry.seq}


def shallow(value: Any, depth: int = DEPTH) -> Any:
    """Return JSON data that every parser bears: what is nested too deeply is told as JSON text."""
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if depth == 0:
        return orjson.dumps(value, default=_plain).decode()
    if isinstance(value, Mapping):
        return {str(key): shallow(item, depth - 1) for key, item in value.items()}
    return [shallow(item, depth - 1) for item in value]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def question(asked: Sequence[ApprovalRequested]) -> list[Json]:
    """Return what a client is asked: a sentence for people, and one data part for each approval."""
    parts: list[Json] = [{"text": "\n".join(_sentence(approval) for approval in asked)}]
    parts += [{"data": _asked(approval)} for approval in asked]
    return parts


def _sentence(asked: ApprovalRequested) -> str:
    reason = f" ({asked.reason})" if asked.reason else ""
    given = asked.arguments or ""
    if asked.wants == "result":
        return f"What is the result of {asked.tool} {given}?{reason}"
    if asked.node is not None and asked.tool is None:
        shown = f": {given}." if given else "."
        return (
            f"{asked.node} asks{reason}{shown} "
            'Answer "approve", "reject" and why, or what it goes on with.'
        )
    return (
        f"May {asked.tool} be called with {given}?{reason} "
        'Answer "approve", or "reject" and why, or send a data part with a decision.'
    )


def _asked(asked: ApprovalRequested) -> Json:
    fields = asked.model_dump(
        mode="json", exclude_none=True, exclude={"type", "run_id", "path", "arguments"}
    )
    if asked.arguments is not None:
        fields["arguments"] = _parsed(asked.arguments)
    return fields


def _parsed(arguments: str) -> Any:
    """Return JSON text as data; as it is, if the model wrote no JSON."""
    try:
        return shallow(orjson.loads(arguments))
    except orjson.JSONDecodeError:
        return arguments
