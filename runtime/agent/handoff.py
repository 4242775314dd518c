"""Handing a conversation over to another agent."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from runtime.errors import RuntimeFault
from runtime.events import AgentHandoff, Event, ToolCompleted
from runtime.messages import Message
from runtime.runnable import ToolInfo

if TYPE_CHECKING:
    from runtime.agent.agent import Agent

__all__ = ["Handoff", "Recalled", "recall"]


@dataclass(frozen=True, eq=False)
class Handoff:
    """An agent to which another one may hand the conversation.

    The model is offered it as a tool `transfer_to_<name>`. After it, the run goes on with the
    target's model, instructions, tools, handoffs, hooks, output guardrails and output type; the
    limits stay those of the run's agent.

    Attributes:
        agent: The target; or a function that returns it, for agents that hand over to each other.
        description: What the model is told; by default made of the target's own.
        input_filter: Makes what the target sees of the conversation so far; it must give the same
            each time, since a run that goes on asks it again.
        allow: Asked with the conversation before each handoff, async or sync. If it says False, or
            fails, the conversation stays where it is and the model is told.
    """

    agent: Agent | Callable[[], Agent]
    description: str | None = None
    input_filter: Callable[[Sequence[Message]], Sequence[Message]] | None = None
    allow: Callable[[Sequence[Message]], bool | Awaitable[bool]] | None = None

    @cached_property
    def target(self) -> Agent:
        """The agent that takes over."""
        return self.agent() if callable(self.agent) else self.agent

    @cached_property
    def info(self) -> ToolInfo:
        """The handoff as models and clients see it."""
        target = self.target
        name = re.sub(r"[^A-Za-z0-9_-]", "_", f"transfer_to_{target.name}")[:64]
        by_default = f"Hand the conversation over to {target.name}. {target.description}".strip()
        parameters = {"type": "object", "properties": {}, "additionalProperties": False}
        return ToolInfo(name, self.description or by_default, parameters)

    def seen(self, messages: Sequence[Message]) -> list[Message]:
        """Return what the target sees of the conversation so far."""
        return list(messages if self.input_filter is None else self.input_filter(messages))


@dataclass(frozen=True, slots=True)
class Recalled:
    """Where a run stands that goes on.

    Attributes:
        agent: Who has the conversation.
        seen: What that agent sees of it.
        owed: The handoff whose call was not answered yet.
    """

    agent: Agent
    seen: list[Message]
    owed: Handoff | None = None


def recall(agent: Agent, messages: Sequence[Message], journal: Sequence[Event]) -> Recalled:
    """Return who has the conversation, and what they see of it.

    Args:
        agent: The run's agent.
        messages: The whole conversation.
        journal: The run's own events so far.

    Raises:
        RuntimeFault: If the conversation was handed to an agent that cannot be found any more.
    """
    answered = {event.call_id for event in journal if isinstance(event, ToolCompleted)}
    seen: list[Message] = []
    kept = 0  # messages that `seen` was made of
    owed: Handoff | None = None
    for event in journal:
        if not isinstance(event, AgentHandoff) or event.denied:
            continue
        handoff = agent.handoff_to(event.target)
        if handoff is None:
            raise RuntimeFault(
                f"agent {agent.name!r} cannot hand over to {event.target!r} any more"
            )
        cut = _after_call(messages, handoff.info.name, answered, kept)
        if cut is None:
            owed = handoff
        else:
            seen, kept = handoff.seen([*seen, *messages[kept:cut]]), cut
        agent = handoff.target
    return Recalled(agent, [*seen, *messages[kept:]], owed)


def _after_call(
    messages: Sequence[Message], name: str, answered: set[str], start: int
) -> int | None:
    """Return the place after the answers of the next message with an answered call of a tool."""
    for place in range(start, len(messages)):
        calls = messages[place].tool_calls
        if any(call.name == name and call.id in answered for call in calls):
            end = place + 1
            while end < len(messages) and messages[end].role == "tool":
                end += 1
            return end
    return None
