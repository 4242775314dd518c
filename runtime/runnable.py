"""What can be served: the seam between the runtime and whoever keeps the log.

An agent and a graph look the same from outside. They are given a `RunRequest` and one function,
`emit`, and report everything through it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, get_args, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from runtime.cancel import CancelToken
from runtime.checkpoint import Checkpoint
from runtime.events import ApprovalRequested, Event
from runtime.messages import ClientTool, Message, Usage

__all__ = [
    "ChecksTools",
    "Composite",
    "Decision",
    "DecisionKind",
    "Emit",
    "RunOptions",
    "RunRequest",
    "Runnable",
    "Steered",
    "ToolInfo",
]

Emit = Callable[[Event], Awaitable[None]]
"""Reports one event. Returns once it is in the log; text deltas may return earlier, and be merged.

Awaiting it is the back-pressure: when the log is slow, the run waits.
"""

Steered = Callable[[], Awaitable[Sequence[Message]]]
"""Takes what the user has said since the run began, each message once. Returns once `input.steered`
is in the log for each; what it raises ends the run at once, as what `emit` raises does."""


class RunOptions(BaseModel):
    """What a caller may set for one run. An agent may take more by using a subclass.

    Each option may be given by its name or in camelCase (`maxTokens`), those of subclasses too.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        loc_by_alias=False,  # errors name an option as we do
    )

    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    stop_sequences: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), max_length=4
    )


DecisionKind = Literal["approved", "rejected", "edited", "expired", "answered"]
_KINDS: tuple[DecisionKind, ...] = get_args(DecisionKind)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a human said to a tool call that needed approval, or to a graph that asked.

    Attributes:
        kind: `edited` runs the tool with `arguments` instead of the model's.
        message: For the model, when the call was rejected.
        arguments: JSON text: a tool's arguments, or what a graph's interrupt was answered with.
        result: For `answered`: what came of a call of the client's own tool.
    """

    kind: DecisionKind
    message: str | None = None
    arguments: str | None = None
    result: Any = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"a decision is one of {', '.join(_KINDS)}, and not {self.kind!r}")

    def check(self, asked: ApprovalRequested) -> None:
        """Return if this settles what was asked.

        Raises:
            ValueError: If a result is wanted and this is none, or it is one and none is wanted.
        """
        wanted = asked.wants == "result"
        if wanted and self.kind in {"approved", "edited"}:
            raise ValueError(
                f"approval {asked.approval_id!r} waits for what came of a call of {asked.tool!r}, "
                f"and not for a decision: it is answered or rejected, and cannot be {self.kind}"
            )
        if not wanted and self.kind == "answered":
            raise ValueError(f"approval {asked.approval_id!r} waits for a decision, not a result")


@dataclass(frozen=True, slots=True)
class ToolInfo:
    """A tool as clients see it."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Everything that a run starts from, or goes on from.

    A run that is continued, or taken over after a crash, is the same call with more in it: the
    history ends in the last finished step, and tool calls in its last assistant message that have
    no answer there are the work to begin with.

    Attributes:
        run_id: The run's id, carried by each of its events.
        history: The conversation so far, legal for a model, the new user message last.
        options: Checked against the runnable's `options_type`.
        attempt: 1, and one more each time that a run is taken over.
        announce: Whether `run.started` is still to be reported.
        parent_run_id: The failed or cancelled run that this one goes on from.
        turns: Model calls that this run has finished already.
        usage: What they took.
        decisions: What humans said: by `call_id` to calls that waited for approval, by
            `approval_id` to a graph's interrupts.
        started: Ids of calls whose `tool.started` is in the log without an outcome.
        timeout: Seconds until the run is cancelled with reason `timeout`; None for the
            runnable's own limit.
        path: The path that its events carry; empty for a root, whose path is its own name.
        state: For a graph: the first values of its keys. Without it, they come from `history`.
        checkpoint: For a graph: where to go on from.
        journal: What the run has reported already (since `checkpoint`, if there is one) and needs
            in order to go on: the events of `runtime.journal.JOURNALED`, at any depth, in order.
        save: For a graph: keeps a checkpoint after each superstep.
        cancel: Where to look whether the run is to stop after its current step.
        steered: Asked by an agent before each of its model calls, and when it would be done: then
            it goes on with what it is given. Nothing else asks: what is said to a graph, or to an
            agent below another run, is not for it.
        instructions: For this run, in addition to those of whoever speaks in its conversation: the
            agent, those that it hands over to, those that are nodes of the graph. Agents that are
            called as tools speak to their callers, and are not told.
        tools: The client's, which the models of the same agents may call; each call pauses the run
            until the client has answered it.
    """

    run_id: str
    history: tuple[Message, ...]
    options: RunOptions = field(default_factory=RunOptions)
    attempt: int = 1
    announce: bool = True
    parent_run_id: str | None = None
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    started: frozenset[str] = frozenset()
    timeout: float | None = None
    path: tuple[str, ...] = ()
    state: Mapping[str, Any] | None = None
    checkpoint: Checkpoint | None = None
    journal: tuple[Event, ...] = ()
    save: Callable[[Checkpoint], Awaitable[None]] | None = None
    cancel: CancelToken | None = None
    steered: Steered | None = None
    instructions: str | None = None
    tools: tuple[ClientTool, ...] = ()


class Runnable(Protocol):
    """An agent or a graph."""

    @property
    def name(self) -> str:
        """The name under which it is registered."""

    @property
    def kind(self) -> Literal["agent", "graph"]:
        """What it is."""

    @property
    def description(self) -> str:
        """One sentence for people who choose an agent."""

    @property
    def options_type(self) -> type[RunOptions]:
        """The options that it takes."""

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        """Return its tools, as clients see them."""

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        """Do the run and report it.

        Emits `run.started` (if `request.announce`), then whatever happens, then exactly one of
        `run.completed`, `run.failed`, `run.cancelled`, `run.interrupted`; whatever was opened is
        closed before the end. Failures of models and tools are reported and not raised.

        Raises:
            asyncio.CancelledError: If its task is cancelled; the boundaries and `run.cancelled`
                are emitted first. This takes at most a moment, whatever the run was doing.
            BaseException: Whatever `emit` raises ends the run at once, without further events.
        """

    async def aclose(self) -> None:
        """Let go of connections and processes. Safe to call twice."""


@runtime_checkable
class Composite(Protocol):
    """An optional power of a runnable: to tell what it may run below itself."""

    @property
    def parts(self) -> tuple[Runnable, ...]:
        """Agents and graphs that may run in its runs; not those that are only below them."""


@runtime_checkable
class ChecksTools(Protocol):
    """An optional power of a runnable: to refuse tools of a client's before a run begins."""

    def check_tools(self, tools: Sequence[ClientTool]) -> None:
        """Return if a run may have these tools.

        Raises:
            ToolsRefused: If it takes none, or a name is that of a tool of its own.
        """
