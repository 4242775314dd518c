"""What a response is at one point of its run: data that never changes once made. Pure.

One response tells one segment of a run: from its input, or from where it went on after a pause, to
its end or next pause. A segment is read from the beginning of its run, because what a run was asked
for, and which calls it had made, is said there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.events import ErrorInfo
from runtime.messages import ClientTool, Usage

__all__ = [
    "NO_USAGE",
    "PREFIXES",
    "Asked",
    "Call",
    "Item",
    "ItemStatus",
    "Kind",
    "Phase",
    "State",
    "Status",
]

Kind = Literal["message", "reasoning", "function_call", "mcp_call", "mcp_approval_request"]
ItemStatus = Literal["in_progress", "completed", "incomplete", "failed"]
Status = Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
Phase = Literal["before", "open", "over"]
"""Whether the segment has begun, and whether it has ended."""

PREFIXES: Mapping[Kind, str] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "mcp_call": "mcp",
    "mcp_approval_request": "mcpr",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a response's output. Its place in the order of opening is its `output_index`.

    Attributes:
        id: Unique among all items of all responses; it names its response and its place there.
        kind: Its `type`.
        key: What the run calls it: a message, a call, an approval.
        path: Who in the run said it.
        status: `in_progress` while it is open.
        name: Of the tool, or of the node that asks.
        text: The whole text, or the arguments; known when it is closed.
        call_id: The call, as the client is told it. It names its response and its place there, too:
            models use the same ids again, and clients that keep nothing else send it back with the
            result.
        approval_id: What the client's answer to it settles.
        request_id: The item that asked for the approval of this call.
        output: What came of the call.
        error: Why the call failed.
        final: The model call that said it is done, so that a take-over does not repeat it.
        void: It no longer counts, because it is said anew: it is left out of the whole output.
    """

    id: str
    kind: Kind
    key: str
    path: tuple[str, ...]
    status: ItemStatus = "in_progress"
    name: str = ""
    text: str = ""
    call_id: str = ""
    approval_id: str | None = None
    request_id: str | None = None
    output: str | None = None
    error: str | None = None
    final: bool = False
    void: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that the model wrote and that has no outcome yet.

    Attributes:
        of_client: The client makes it, and says what came of it.
        request_id: The item that asked for its approval.
    """

    path: tuple[str, ...]
    call_id: str
    name: str
    arguments: str = ""
    of_client: bool = False
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the run was asked for, as far as the log tells it."""

    agent: str = ""
    instructions: str | None = None
    tools: tuple[ClientTool, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class State:
    """A response as its events tell it.

    Attributes:
        segment: Which one of the run is told right now, from 0; -1 before the first.
        number: The next `sequence_number`.
        created_at: When the segment began, in milliseconds since 1970 UTC.
        ended_at: When it ended.
        input: What this segment answers: the input items that began it.
        answers: What was answered since, and will begin the next one.
        items: The output, in the order of opening.
        calls: What the model has called and is not done.
        visits: Where in the items each node began that is at work, by the path below it.
        usage: The tokens of this segment's model calls.
        error: Why it failed.
        why_incomplete: `max_output_tokens` or `content_filter`.
    """

    session_id: str = ""
    run_id: str = ""
    segment: int = -1
    phase: Phase = "before"
    status: Status = "in_progress"
    number: int = 0
    created_at: int = 0
    ended_at: int | None = None
    asked: Asked = Asked()
    input: tuple[Mapping[str, Any], ...] = ()
    answers: tuple[Mapping[str, Any], ...] = ()
    items: tuple[Item, ...] = ()
    calls: tuple[Call, ...] = ()
    visits: tuple[tuple[tuple[str, ...], int], ...] = ()
    usage: Usage = NO_USAGE
    error: ErrorInfo | None = None
    why_incomplete: str | None = None

    def place_of(self, kind: Kind, key: str, path: tuple[str, ...] | None = None) -> int | None:
        """Return the place of the open item that the run calls so; None if there is none.

        Args:
            kind: Its kind.
            key: What the run calls it.
            path: Who said it; models at different paths may give their calls the same ids.
        """
        for place in range(len(self.items) - 1, -1, -1):
            item = self.items[place]
            if item.key == key and item.kind == kind and path in {None, item.path}:
                return place if item.status == "in_progress" else None
        return None

    def call(self, path: tuple[str, ...], call_id: str) -> Call | None:
        """Return the call of that id that is not done."""
        for call in reversed(self.calls):
            if call.call_id == call_id and call.path == path:
                return call
        return None
