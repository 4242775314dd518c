"""A conversation in this process: no server, no log, gone with the process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from runtime.cancel import CancelToken
from runtime.cli.talk import Heard, Offer
from runtime.errors import RuntimeFault
from runtime.events import ApprovalRequested, Event
from runtime.messages import Message
from runtime.registry import Registry
from runtime.report import new_id
from runtime.runnable import Decision, Runnable, RunRequest
from runtime.streaming import RunHandle

__all__ = ["LocalTalk"]


class LocalTalk:
    """A conversation with what a registry has, in this process. It is a `Talk`.

    Attributes:
        result: What the last run reported, in order.
        approvals: What waits for a human's word.
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
        self.approvals: Sequence[ApprovalRequested] = ()
        self._registry = registry
        self._runnable: Runnable = registry.get(name)
        self._state = state
        self._timeout = timeout
        self._messages: tuple[Message, ...] = ()
        self._handle: RunHandle | None = None
        self._cancel = CancelToken()

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
        return self.run((*self._messages, Message(role="user", content=text)))

    def run(self, history: Sequence[Message]) -> AsyncGenerator[Heard, None]:
        """Start a run with this history, and follow it."""
        self.result = []
        self._cancel = CancelToken()
        self._handle = RunHandle(
            self._runnable,
            RunRequest(
                run_id=new_id("run"),
                history=tuple(history),
                state=self._state,
                timeout=self._timeout,
                cancel=self._cancel,
            ),
        )
        return self._follow(self._handle)

    def decide(self, decisions: Mapping[str, Decision]) -> AsyncGenerator[Heard, None]:
        """Answer all approvals and follow the run that goes on."""
        if self._handle is None:
            raise RuntimeFault("there is no run that waits")
        self._cancel = CancelToken()
        self._handle = self._handle.resume(decisions, cancel=self._cancel, timeout=self._timeout)
        return self._follow(self._handle)

    async def _follow(self, handle: RunHandle) -> AsyncGenerator[Heard, None]:
        self.approvals = ()
        try:
            async with handle:
                async for event in handle.events:
                    self.result.append(event)
                    yield event
            self.approvals = handle.outcome().interrupted
        except Exception:
            if handle.events.end is None:  # else the run's last event has said it
                raise
        finally:
            self._messages = handle.messages

    def stop(self) -> None:
        """Ask the run to end."""
        self._cancel.abort()

    async def renew(self) -> None:
        """Forget what was said."""
        self._messages, self.approvals = (), ()

    async def aclose(self) -> None:
        """Let go of the agents and their models."""
        await self._registry.aclose()
