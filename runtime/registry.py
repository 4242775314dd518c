"""What is served: runnables by name; and talking to one of them in plain text."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from runtime.agent import Agent
from runtime.cancel import CancelToken
from runtime.errors import AgentUnknown, RunFault, RuntimeFault
from runtime.events import Event, MessageDelta, RunInterrupted
from runtime.journal import spoken_below
from runtime.messages import Message
from runtime.models.base import Model, Starts
from runtime.report import new_id
from runtime.run_stream import RunStream
from runtime.runnable import Composite, Runnable, RunRequest
from runtime.streaming import Input, Options, checked_options, conversation

__all__ = ["Registry", "ServedAgent", "get_agent", "set_default_registry"]

_NAME = re.compile(r"(?=.{1,64}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?")
_logger = logging.getLogger(__name__)


class ServedAgent:
    """A registered agent or graph, to talk to in plain text.

    Attributes:
        runnable: What answers.
    """

    def __init__(self, runnable: Runnable, config: Options = None) -> None:
        """Take a runnable, and options that hold unless a chat says otherwise.

        Raises:
            OptionsRefused: If an option is unknown or out of range.
        """
        self.runnable = runnable
        self._config = checked_options(runnable, config)

    @property
    def name(self) -> str:
        """Its name."""
        return self.runnable.name

    def chat_stream(
        self,
        message: Input,
        options: Options = None,
        *,
        history: Sequence[Message] = (),
        cancel: CancelToken | None = None,
        timeout: float | None = None,
        **more: Any,
    ) -> RunStream[str]:
        """Stream the answer: pieces of text, and nothing else.

        Tools, and agents below this one, work in silence. An error is raised after what came before
        it; one that comes before the first piece is raised before it.

        Args:
            message: What the user says.
            options: For this chat: by name, or by camelCase alias.
            history: What was said before.
            cancel: Stops the run.
            timeout: Seconds that it may take.
            more: Options by name; they win over `options`.

        Raises:
            OptionsRefused: At once, if an option is unknown or out of range.
            RunAborted: If it was cancelled.
            RunTimeout: If it was not done in time.
            RunFault: With code `approval_required`, if it waits for a human: nobody can be asked
                here.
            Exception: What made it fail.
        """
        request = RunRequest(
            run_id=new_id("run"),
            history=(*history, *conversation(message)),
            options=checked_options(self.runnable, self._config, options, more),
            timeout=timeout,
            cancel=cancel,
        )
        return RunStream(self.runnable, request, _text, cancel=cancel)

    async def chat(self, message: Input, options: Options = None, **how: Any) -> str:
        """Return the whole answer; arguments and errors are those of `chat_stream`."""
        pieces = [piece async for piece in self.chat_stream(message, options, **how)]
        return "".join(pieces)


def _text(event: Event) -> str | None:
    if isinstance(event, MessageDelta):
        return None if spoken_below(event.path) else event.text
    if isinstance(event, RunInterrupted):
        raise RunFault("approval_required", "the run waits for a human, who cannot be asked here")
    return None


class Registry:
    """Runnables by name, in the order in which they were registered. The first is the default.

    It may change at any time; what changed holds from the next look-up on.
    """

    def __init__(self, *runnables: Runnable) -> None:
        """Register these; see `register`."""
        self._runnables: dict[str, Runnable] = {}
        for runnable in runnables:
            self.register(runnable)

    def register(self, runnable: Runnable) -> None:
        """Add one.

        Raises:
            ValueError: If its name is taken, or is not 1 to 64 letters, digits, `_` and `-`, with at most
                one dot between them: `support.triage`.
        """
        if not _NAME.fullmatch(runnable.name):
            raise ValueError(
                f"name {runnable.name!r}: 1 to 64 letters, digits, '_' and '-' are allowed, "
                "and one dot between them"
            )
        if runnable.name in self._runnables:
            raise ValueError(f"the name {runnable.name!r} is registered already")
        self._runnables[runnable.name] = runnable

    def replace(self, runnable: Runnable) -> Runnable:
        """Put a runnable in the place of the one with its name, and return that one, still open.

        Raises:
            AgentUnknown: If there is none.
        """
        before = self.get(runnable.name)
        self._runnables[runnable.name] = runnable
        return before

    def remove(self, name: str) -> Runnable:
        """Take a runnable out and return it, still open.

        Raises:
            AgentUnknown: If there is none of that name.
        """
        runnable = self.get(name)
        del self._runnables[name]
        return runnable

    def make_default(self) -> None:
        """Make this the registry of the module's `get_agent`."""
        set_default_registry(self)

    async def get_agent(self, name: str | None = None, config: Options = None) -> ServedAgent:
        """Return the agent of that name, ready to talk to; without a name, the default.

        Args:
            name: Its name.
            config: Options that hold unless a chat says otherwise.

        Raises:
            AgentUnknown: If there is none; the text names those that exist.
            OptionsRefused: If an option is unknown or out of range.
        """
        return ServedAgent(self.get(name), config)

    def get(self, name: str | None = None) -> Runnable:
        """Return the runnable of that name; without a name, the default.

        Raises:
            AgentUnknown: If there is none.
        """
        if name is None and self._runnables:
            return next(iter(self._runnables.values()))
        try:
            return self._runnables[name or ""]
        except KeyError:
            raise AgentUnknown(name or "", self._runnables) from None

    def __iter__(self) -> Iterator[Runnable]:
        return iter(self._runnables.values())

    def __len__(self) -> int:
        return len(self._runnables)

    async def start(self) -> None:
        """Let all that can get ready do so, all at once: models, connections, those below too.

        What cannot is logged and does not keep the others back. It can be cancelled.
        """
        owners = [_owner(runnable) for runnable in _reachable(self)]
        async with asyncio.TaskGroup() as group:
            for owner in {id(owner): owner for owner in owners}.values():
                if isinstance(owner, Starts):
                    group.create_task(_start(owner))

    async def aclose(self) -> None:
        """Close all, each once, and once each model that several agents share; those below too.

        What cannot be closed is logged and does not keep the others open. Safe to call twice.
        """
        owners = [_owner(runnable) for runnable in _reachable(self)]
        for owner in {id(owner): owner for owner in owners}.values():
            try:
                await owner.aclose()
            except Exception:
                _logger.exception("something could not be closed")


def _reachable(runnables: Iterable[Runnable]) -> list[Runnable]:
    """Return these and all that may run below them, each once."""
    found = list(runnables)
    for runnable in found:  # which grows meanwhile
        below = runnable.parts if isinstance(runnable, Composite) else ()
        found += [part for part in below if not any(part is known for known in found)]
    return found


def _owner(runnable: Runnable) -> Runnable | Model:
    """Return what holds a runnable's connections: several agents may share a model."""
    return runnable.model if isinstance(runnable, Agent) else runnable


async def _start(owner: Starts) -> None:
    try:
        await owner.start()
    except Exception as error:  # noqa: BLE001 - the first run will fail and say why
        _logger.warning("something could not get ready: %s", error)


_default: Registry | None = None


def set_default_registry(registry: Registry | None) -> None:
    """Say which registry the module's `get_agent` looks in; None for none."""
    global _default  # noqa: PLW0603 - there is one default in a process, and only this sets it
    _default = registry


async def get_agent(name: str | None = None, config: Options = None) -> ServedAgent:
    """Return an agent of the default registry; see `Registry.get_agent`.

    Raises:
        RuntimeFault: If no registry is the default.
        AgentUnknown: If there is no such agent.
        OptionsRefused: If an option is unknown or out of range.
    """
    if _default is None:
        raise RuntimeFault("no registry is the default; call make_default() of one")
    return await _default.get_agent(name, config)
