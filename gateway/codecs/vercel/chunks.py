"""The chunks of a UI message stream, as JSON. Pure.

Only those are used that both `ai` 6 and `ai` 7 know, because either fails a stream for a type that it
does not know: no `reset-step`, no `tool-approval-response`, no finish reason `interrupted`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from gateway.codecs.codec import Frame
from runtime.plain import parsed

__all__ = ["DONE", "Input", "chunk", "data_part", "finish_reason", "read_input"]

DONE = Frame(b"[DONE]")
"""The end of a stream over HTTP. It is no chunk: other transports have ends of their own."""

_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
}
"""Why a run ended, in the words that clients take; all else is `other`."""


def chunk(kind: str, /, **fields: Any) -> Frame:
    """Return a chunk."""
    return Frame(orjson.dumps({"type": kind, **fields}))


def data_part(name: str, data: Any, *, key: str | None = None, transient: bool = False) -> Frame:
    """Return a data part.

    Args:
        name: What comes after `data-`.
        data: Any JSON value.
        key: The part's id: a later part of the same name and id takes its place.
        transient: Whether it is shown once, and not kept in the message.
    """
    part: dict[str, Any] = {"type": f"data-{name}", "data": data}
    if key is not None:
        part["id"] = key
    if transient:
        part["transient"] = True
    return Frame(orjson.dumps(part))


def finish_reason(reason: str | None) -> str:
    """Return why a model ended in the words of the stream."""
    return "stop" if reason is None else _FINISH_REASONS.get(reason, "other")


class Input(NamedTuple):
    """What a call was given.

    Attributes:
        value: The arguments; the text as it is where that is no JSON.
        whole: Whether it is JSON.
    """

    value: Any
    whole: bool


def read_input(arguments: str) -> Input:
    """Read what a model wrote as the arguments of a call; nothing at all counts as `{}`."""
    if not arguments.strip():
        return Input({}, whole=True)
    try:
        return Input(parsed(arguments.encode()), whole=True)
    except ValueError:
        return Input(arguments, whole=False)
