"""A conversation in this process: no server, no log, gone with the process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runtime.cancel import CancelToken
from runtime.cli.talk import Heard, Offer
from runtime.events import ApprovalRequested, Event
from runtime.journal import JOURNALED
from runtime.messages import Message
from runtime.registry import Registry
from runtime.report import new_id
from runtime.run_stream import RunStream
from runtime.runnable import Decision, Runnable, RunRequest
from runtime.transcript import Transcript

__all__ = ["LocalTalk"]


class LocalTalk:
    """A conversation with what a registry has, in this process. It is a `Talk`.

    Attributes:
        result: What the last run reported, in order.
    """

    def __init__(
        self,
        registry: Registry,
        name: str | None = None,
        *,
        state: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Prepare a conversation.

        Args:
            registry: Who can answer.
            name: Who does; None for the default.
            state: For a graph: the first values of its keys, in every run.
            timeout: Seconds that one run may take.

        Raises:
            AgentUnknown: If there is nobody of that name.
        """
        self.result: list[Event] = []
        self._registry = registry
        self._runnable: Runnable = registry.get(name)
        self._state = state
        self._timeout = timeout
        self._history: tuple[Message, ...] = ()
        self._transcript = Transcript()
        self._run_id = ""
        self._cancel: CancelToken | None = None

    @property
    def agent(self) -> str:
        """Who answers."""
        return self._runnable.name

    @property
    def where(self) -> str:
        """Where the conversation is kept."""
        return "in this process"

    @property
    def way_on(self) -> str:
        """How to decide later."""
        return "run it again from a terminal, where you will be asked"

    @property
    def approvals(self) -> Sequence[ApprovalRequested]:
        """What waits for a human's word."""
        return tuple(self._transcript.approvals.values())

    def offers(self) -> Sequence[Offer]:
        """Return whom one could talk to."""
        return tuple(Offer(each.name, each.description) for each in self._registry)

    def choose(self, name: str) -> None:
        """Let another agent answer.

        Raises:
            AgentUnknown: If there is none of that name.
        """
        self._runnable = self._registry.get(name)

    def say(self, text: str) -> AsyncGenerator[Heard, None]:
        """Say something and follow the run that answers."""
        return self.run((*self._transcript.messages, Message(role="user", content=text)))

    def run(self, history: Sequence[Message]) -> AsyncGenerator[Heard, None]:
        """Start a run with this history, and follow it."""
        self._run_id = new_id("run")
        self._history = tuple(history)
        self.result = []
        self._transcript = Transcript(self._history)
        return self._follow(
            RunRequest(
                run_id=self._run_id,
                history=self._history,
                state=self._state,
                timeout=self._timeout,
            )
        )

    def decide(self, decisions: Mapping[str, Decision]) -> AsyncGenerator[Heard, None]:
        """Answer all approvals and follow the run that goes on."""
        asked = self._transcript.approvals
        by_call = {
            event.call_id: decisions[approval_id]
            for approval_id, event in asked.items()
            if event.call_id is not None
        }
        so_far = self._transcript
        request = RunRequest(
            run_id=self._run_id,
            history=tuple(so_far.messages),
            announce=False,
            turns=so_far.turns,
            usage=so_far.usage,
            decisions={**by_call, **decisions},
            started=frozenset(so_far.started),
            state=self._state,
            timeout=self._timeout,
            journal=tuple(event for event in self.result if isinstance(event, JOURNALED)),
        )
        asked.clear()
        return self._follow(request)

    async def _follow(self, request: RunRequest) -> AsyncGenerator[Heard, None]:
        self._cancel = CancelToken()
        stream: RunStream[Event] = RunStream(
            self._runnable,
            replace(request, cancel=self._cancel),
            lambda event: event,
            cancel=self._cancel,
        )
        try:
            async with stream:
                async for event in stream:
                    self.result.append(event)
                    self._transcript.note(event)
                    yield event
        except Exception:
            if stream.end is None:  # else the run's last event has said it
                raise
        finally:
            self._cancel = None

    def stop(self) -> None:
        """Ask the run to end."""
        if self._cancel is not None:
            self._cancel.abort()

    async def renew(self) -> None:
        """Forget what was said."""
        self._transcript = Transcript()

    async def aclose(self) -> None:
        """Let go of the agents and their models."""
        await self._registry.aclose()
