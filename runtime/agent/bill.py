"""What a run takes: tokens, and money where prices are known. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.errors import BudgetExceeded, StepLimitExceeded
from runtime.events import AgentHandoff, Event, ModelCompleted
from runtime.messages import Usage

if TYPE_CHECKING:
    from runtime.agent.agent import Agent

__all__ = ["Bill", "Prices", "exceeded", "untold"]

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """What an agent's model costs, in USD for a million tokens."""

    prompt_per_million: float
    completion_per_million: float

    def cost(self, usage: Usage) -> float:
        """Return what this usage costs, in USD."""
        return (
            usage.prompt_tokens * self.prompt_per_million
            + usage.completion_tokens * self.completion_per_million
        ) / MILLION


def untold(all_of_it: Usage, told: Usage) -> Usage:
    """Return what is missing from `told`: of model calls that the journal does not have."""
    return Usage(
        prompt_tokens=max(0, all_of_it.prompt_tokens - told.prompt_tokens),
        completion_tokens=max(0, all_of_it.completion_tokens - told.completion_tokens),
    )


def exceeded(
    agent: Agent, turns: int, tokens: int, cost: float
) -> StepLimitExceeded | BudgetExceeded | None:
    """Return which limit of an agent forbids one more model call, if one does.

    Args:
        agent: The run's agent.
        turns: How often the run has called its model.
        tokens: What that took, all told.
        cost: Its price in USD.
    """
    if turns >= agent.max_turns:
        return StepLimitExceeded(agent.max_turns)
    if agent.max_total_tokens is not None and tokens >= agent.max_total_tokens:
        return BudgetExceeded("tokens", agent.max_total_tokens, tokens)
    if agent.max_cost_usd is not None and cost >= agent.max_cost_usd:
        return BudgetExceeded("USD", agent.max_cost_usd, cost)
    return None


class Bill:
    """A fold over the events of one run, at any depth: `note` each `ModelCompleted` and handoff.

    Each model call is paid at the prices of the agent that made it; calls of agents without prices,
    and of agents inside graphs that are tools, count as tokens only.

    Attributes:
        usage: The sum over the model calls.
        cost: Their price in USD; None if no price was known for any of them.
    """

    def __init__(self, agent: Agent, path: tuple[str, ...]) -> None:
        """Begin for a run of `agent` at `path`."""
        self.usage = Usage()
        self.cost: float | None = None
        self._speakers: dict[tuple[str, ...], Agent | None] = {path: agent}

    def note(self, event: Event) -> None:
        """Take one event into account."""
        match event:
            case ModelCompleted(usage=Usage() as usage):
                self.usage += usage
                speaker = self._speaker(event.path)
                if speaker is not None:
                    self.pay(usage, speaker.prices)
            case AgentHandoff(denied=None | False):
                speaker = self._speaker(event.path)
                handoff = speaker.handoff_to(event.target) if speaker is not None else None
                self._speakers[event.path] = handoff.target if handoff is not None else None
            case _:
                pass

    def pay(self, usage: Usage, prices: Prices | None) -> None:
        """Add to the cost what a usage costs."""
        if prices is not None:
            self.cost = (self.cost or 0.0) + prices.cost(usage)

    def _speaker(self, path: tuple[str, ...]) -> Agent | None:
        """Return who speaks at a path, if that is an agent that is known here."""
        if path not in self._speakers:
            above = self._speaker(path[:-1]) if path else None
            _, _, name = path[-1].partition(":") if path else ("", "", "")
            self._speakers[path] = above.agent_below(name) if above is not None else None
        return self._speakers[path]
