"""What the agents of other frameworks have in common when they are served."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from runtime.adapters.speaking import Speaker
from runtime.conduct import conduct, shortest
from runtime.errors import ToolsRefused
from runtime.events import Event, RunInterrupted
from runtime.messages import ClientTool
from runtime.report import Reporter
from runtime.runnable import Emit, RunOptions, RunRequest, ToolInfo

__all__ = ["Adapter"]


class Adapter(ABC):
    """Something made elsewhere, as a `Runnable`. Its maker closes it."""

    def __init__(self, name: str, description: str, timeout: float | None) -> None:
        """Take what all have.

        Args:
            name: The name under which it is registered.
            description: One sentence for people who choose an agent.
            timeout: Seconds that one run may take.
        """
        self._name = name
        self._description = description
        self._timeout = timeout

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        return self._name

    @property
    @abstractmethod
    def kind(self) -> Literal["agent", "graph"]:
        """What it is."""

    @property
    def description(self) -> str:
        """One sentence for people who choose an agent."""
        return self._description

    @property
    def options_type(self) -> type[RunOptions]:
        """The options that it takes."""
        return RunOptions

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        """Return the tools that are known before it runs."""
        return ()

    def check_tools(self, tools: Sequence[ClientTool]) -> None:
        """Refuse tools of a client's: the other framework decides which tools its agents have.

        Raises:
            ToolsRefused: If there are any.
        """
        if tools:
            raise ToolsRefused(
                f"agent {self.name!r} is of another framework and takes no tools of clients"
            )

    async def aclose(self) -> None:  # noqa: B027 - it is meant to do nothing
        """Do nothing: what is adapted, and its connections, are their maker's to close."""

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        """Do a run and report it; the promises are those of `Runnable.execute`."""
        report = Reporter(emit, run_id=request.run_id, path=request.path or (self.name,))
        limit = shortest(self._timeout, request.timeout)
        speaker = Speaker(report, request, self.name, graph=self.kind == "graph")
        waits = False

        async def work() -> Sequence[Event]:
            nonlocal waits
            self.check_tools(request.tools)
            last = await self._run(request, speaker)
            waits = isinstance(last[-1], RunInterrupted)
            return last

        try:
            await conduct(report, work, limit=limit)
        finally:
            if not waits:
                await self._forget(request)

    @abstractmethod
    async def _run(self, request: RunRequest, speaker: Speaker) -> Sequence[Event]:
        """Do a run, and return what is still to be reported, its end last."""

    async def _forget(self, request: RunRequest) -> None:  # noqa: B027 - most keep nothing
        """Let go of what is kept for going on with a run: it is over."""
