"""Who answers: the seam between what is shown and what is run.

A talk is a conversation with one agent, or another runnable, at a time. What it says comes as native
events, with a word of its own where the line to it was lost.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.cli.speech import Told
from runtime.events import ApprovalRequested, Event
from runtime.runnable import Decision

__all__ = ["Heard", "Notice", "Offer", "Restated", "Talk"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people should know about the line to whoever answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Restated:
    """The run is told from a snapshot, because its events cannot be had any more.

    Attributes:
        reason: Why.
        messages: What the run has said so far.
        tools: The names of its tool calls, by id.
    """

    reason: str
    messages: tuple[Told, ...]
    tools: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Offer:
    """An agent that can be talked to."""

    name: str
    description: str


Heard = Event | Notice | Restated
"""What comes while a run is followed."""


class Talk(Protocol):
    """A conversation, in this process or on a server."""

    @property
    def agent(self) -> str:
        """Who answers."""

    @property
    def where(self) -> str:
        """Where the conversation is kept, in a few words."""

    @property
    def way_on(self) -> str:
        """How somebody who was not asked can decide later, in a sentence."""

    @property
    def approvals(self) -> Sequence[ApprovalRequested]:
        """What waits for a human's word, after a run was interrupted."""

    def offers(self) -> Sequence[Offer]:
        """Return whom one could talk to; the first is the default."""

    def choose(self, name: str) -> None:
        """Let another agent answer from now on; the conversation stays.

        Raises:
            Exception: If there is none of that name; the text says which there are.
        """

    def say(self, text: str) -> AsyncGenerator[Heard, None]:
        """Say something and follow the run that answers, to its end."""

    def decide(self, decisions: Mapping[str, Decision]) -> AsyncGenerator[Heard, None]:
        """Answer all approvals, by their ids, and follow the run that goes on."""

    def stop(self) -> None:
        """Ask the run that is followed to end as cancelled. Called on the loop; again is harmless."""

    async def renew(self) -> None:
        """Begin a new conversation."""

    async def aclose(self) -> None:
        """Let go of everything. Safe to call twice."""
