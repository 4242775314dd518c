"""A graph as it was built: what `plan`, `replay` and the execution read. Immutable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.graph.command import END
from runtime.graph.keys import Key
from runtime.graph.view import View
from runtime.messages import Message
from runtime.retry import RetryPolicy

__all__ = ["Branch", "Definition", "Guard", "NodeSpec"]

Guard = bool | str | Callable[[View], bool | str]
"""Whether a human must agree before a node runs; a text is the reason, a function is asked."""

NodeKind = Literal["node", "flow_step"]


@dataclass(frozen=True, slots=True)
class Branch:
    """A conditional edge: `choose` names one or more of `targets`."""

    choose: Callable[[View], str | Sequence[str]]
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node.

    Attributes:
        name: Its name.
        function: What it does: given a context and a view, or only a view.
        targets: Where it goes when it chooses nothing; `END` stands for the end.
        declared: Where it may go, those of its branch included.
        branch: Its conditional edge.
        retry: When it is run again; None for never.
        timeout: Seconds that one attempt may take.
        guard: Whether a human must agree first.
        kind: How it is called on the wire.
        agent: The agent's name, if it is one.
        nested: Whether it is an agent or a graph.
        context: Whether its function is given the context.
        is_async: Whether its function runs on the loop; otherwise in a thread.
        place: Its place among the nodes.
        following: Its targets without the end, in the order of their declaration.
    """

    name: str
    function: Callable[..., Any] | Callable[..., Awaitable[Any]]
    targets: tuple[str, ...]
    declared: tuple[str, ...]
    place: int
    branch: Branch | None = None
    retry: RetryPolicy | None = None
    timeout: float | None = None
    guard: Guard = False
    kind: NodeKind = "node"
    agent: str | None = None
    nested: bool = False
    context: bool = True
    is_async: bool = True
    following: tuple[str, ...] = ()
    plain: bool = field(init=False)
    """Whether nothing but the function is to be looked after."""
    bare: bool = field(init=False)
    """Whether, moreover, it is given nothing but the view."""
    edges: tuple[tuple[str, str], ...] = field(init=False)
    """The transitions when it chooses nothing."""

    def __post_init__(self) -> None:
        plain = self.is_async and self.timeout is None
        object.__setattr__(self, "plain", plain)
        object.__setattr__(self, "bare", plain and not self.context)
        targets = dict.fromkeys(target for target in self.targets if target != END)
        object.__setattr__(self, "edges", tuple((self.name, target) for target in targets))


@dataclass(frozen=True, slots=True)
class Definition:
    """A graph.

    Attributes:
        name: Its name.
        keys: Its keys by name.
        nodes: Its nodes by name, in the order of their declaration.
        start: The nodes of the first superstep.
        output: The key whose value is the result.
        first: Makes the first values of the keys of a conversation.
        max_steps: How many supersteps a run may take.
        timeout: Seconds that a run may take.
        show_state: Whether nodes report the state before and after them.
    """

    name: str
    keys: Mapping[str, Key[Any]]
    nodes: Mapping[str, NodeSpec]
    start: tuple[str, ...]
    output: Key[Any]
    first: Callable[[tuple[Message, ...]], Mapping[Any, Any]]
    max_steps: int = 100
    timeout: float | None = 600.0
    show_state: bool = False
    guarded: bool = field(init=False)
    """Whether a human may have to agree before some node."""

    def __post_init__(self) -> None:
        guarded = any(spec.guard is not False for spec in self.nodes.values())
        object.__setattr__(self, "guarded", guarded)
