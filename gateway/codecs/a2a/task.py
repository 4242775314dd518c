"""A task as it stands: what all that was told of it adds up to. Pure."""

from __future__ import annotations

from typing import Any

from gateway.codecs.a2a.objects import EXTENSION, Json

__all__ = ["TaskSoFar"]


class TaskSoFar:
    """Adds up `StreamResponse` objects, in the way that A2A prescribes to clients."""

    def __init__(self) -> None:
        self._task: Json = {}
        self._artifacts: dict[str, Json] = {}
        self._changed_seq = 0

    @property
    def begun(self) -> bool:
        """Whether anything was told."""
        return bool(self._task)

    @property
    def state(self) -> str:
        """The state of the task."""
        return str(self._task["status"]["state"])

    @property
    def changed_at(self) -> str:
        """When its status was last told: RFC 3339 in UTC, so that texts are in order of time."""
        return str(self._task["status"]["timestamp"])

    @property
    def changed_seq(self) -> int:
        """Where in its session's log that was: several may be told in one millisecond."""
        return self._changed_seq

    def add(self, result: Json) -> None:
        """Take the next one."""
        ((kind, told),) = result.items()
        if kind == "task":
            self._task = dict(told)
            self._changed_seq = int(told["metadata"][EXTENSION]["seq"])
            return
        self._task["metadata"] = {EXTENSION: _place(told["metadata"][EXTENSION])}
        if kind == "statusUpdate":
            self._status(told["status"])
            self._changed_seq = int(told["metadata"][EXTENSION]["seq"])
        else:
            self._artifact(told["artifact"], append=told.get("append", False))

    def _status(self, status: Json) -> None:
        before = self._task["status"].get("message")
        if before is not None:
            self._task["history"] = [*self._task.get("history", []), before]
        self._task["status"] = status

    def _artifact(self, artifact: Json, *, append: bool) -> None:
        if append:
            self._artifacts[artifact["artifactId"]]["parts"] += artifact["parts"]
        else:
            copy = dict(artifact) | {"parts": list(artifact["parts"])}
            self._artifacts[artifact["artifactId"]] = copy

    def as_json(self, *, history: int | None = None, artifacts: bool = True) -> Json:
        """Return the task.

        Args:
            history: The most messages of its history, the latest; default: all.
            artifacts: Whether to show them.
        """
        task = dict(self._task)
        kept = task.pop("history", [])
        if history is not None:
            kept = kept[-history:] if history else []
        if artifacts and self._artifacts:
            task["artifacts"] = [_joined(artifact) for artifact in self._artifacts.values()]
        if kept:
            task["history"] = kept
        return task


def _place(told: Json) -> Json:
    return {"cursor": told["cursor"], "seq": told["seq"]}


def _joined(artifact: Json) -> Json:
    """Return an artifact whose pieces of text are one part."""
    parts: list[dict[str, Any]] = []
    texts: list[str] = []
    for part in artifact["parts"]:
        if "text" in part:
            texts.append(part["text"])
        else:
            parts.append(part)
    text = [{"text": "".join(texts)}] if texts else []
    return artifact | {"parts": [*text, *parts]}
