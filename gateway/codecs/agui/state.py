"""What an AG-UI stream has said so far, as far as it decides what comes next. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.events import ApprovalRequested
from runtime.messages import Usage

__all__ = ["AguiState", "Invocation", "Said", "Step"]


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a step that may yet be done anew.

    Attributes:
        message_id: Which.
        path: Who said it.
        finished: Whether its model call is done: a crash does not repeat it, its node may.
    """

    message_id: str
    path: tuple[str, ...]
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A node at work. `name` is unique among those that are open."""

    path: tuple[str, ...]
    node: str
    name: str


@dataclass(frozen=True, slots=True)
class Invocation:
    """An agent at work inside a graph, or below another agent."""

    path: tuple[str, ...]
    subagent_run_id: str


@dataclass(frozen=True, slots=True)
class AguiState:
    """The state of a stream. Hashable, so that a codec can begin with any.

    Attributes:
        phase: `before` its first message; `on`; or `over`: the run has ended, or paused.
        messages: Open text messages.
        reasoning: Open pieces of reasoning.
        calls: Tool calls whose arguments are being written.
        told_calls: All tool calls that the client knows.
        steps: Open steps.
        invocations: Open invocations of agents.
        invoked: The ids of all invocations of this run, which are never used again.
        activities: Activities that the client has, so that deltas can change them.
        said: Messages that may be superseded.
        approvals: Questions that nobody has answered.
        usage: What the model calls of this stream took, by model.
        joined: The stream began in the middle of the run: `usage` is not all of it.
        graph: The graph's state as the client has it, as JSON.
        base: The graph's state when the current nodes began, as JSON.
    """

    phase: Literal["before", "on", "over"] = "before"
    messages: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    told_calls: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    invocations: tuple[Invocation, ...] = ()
    invoked: tuple[str, ...] = ()
    activities: tuple[str, ...] = ()
    said: tuple[Said, ...] = ()
    approvals: tuple[ApprovalRequested, ...] = ()
    usage: tuple[tuple[str | None, Usage], ...] = ()
    joined: bool = False
    graph: bytes | None = None
    base: bytes | None = None
