"""A conversation of several turns with one agent, in the process of the program that has it.

    session = create_session(agent)
    session.send("What is the weather in Paris?")
    async for event in session.stream():
        ...
    print(session.result.output)

A turn that was stopped keeps what was said until then; the next turn's model sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from runtime.agent import Agent
from runtime.cancel import CancelToken
from runtime.errors import NoResultError, RuntimeFault, SessionBusy
from runtime.events import Event
from runtime.messages import ClientTool, Frozen, Message
from runtime.models.base import Model
from runtime.report import new_id
from runtime.run_stream import RunStream
from runtime.runnable import Decision, Runnable, RunRequest
from runtime.streaming import (
    Input,
    ModelEvent,
    Options,
    RunHandle,
    RunResult,
    checked_options,
    checked_tools,
    conversation,
)
from runtime.tools import Tool

__all__ = [
    "MemorySessionStore",
    "SavedSession",
    "Session",
    "SessionStore",
    "create_session",
    "fork_session",
    "resume_session",
]


class SavedSession(Frozen):
    """A session as it was at a moment. It never changes, and is plain JSON (`model_dump_json`)."""

    session_id: str
    messages: tuple[Message, ...]


class SessionStore(Protocol):
    """Where sessions are kept."""

    async def save(self, saved: SavedSession) -> None:
        """Keep a session; what was kept under its id is replaced."""

    async def load(self, session_id: str) -> SavedSession:
        """Return what was kept last.

        Raises:
            KeyError: If nothing was.
        """

    async def delete(self, session_id: str) -> None:
        """Forget a session; one that is not there is no error."""

    async def session_ids(self) -> tuple[str, ...]:
        """Return the ids of all that are kept, the oldest first."""


class MemorySessionStore:
    """A store that lives as long as the process."""

    def __init__(self) -> None:
        self._saved: dict[str, SavedSession] = {}

    async def save(self, saved: SavedSession) -> None:
        """See `SessionStore`."""
        self._saved[saved.session_id] = saved

    async def load(self, session_id: str) -> SavedSession:
        """See `SessionStore`."""
        return self._saved[session_id]

    async def delete(self, session_id: str) -> None:
        """See `SessionStore`."""
        self._saved.pop(session_id, None)

    async def session_ids(self) -> tuple[str, ...]:
        """See `SessionStore`."""
        return tuple(self._saved)


class Session:
    """A conversation. Made by `create_session`, `resume_session`, `fork_session`.

    Attributes:
        session_id: Its id.
        agent: Who answers.
    """

    def __init__(self, saved: SavedSession, agent: Runnable, store: SessionStore | None) -> None:
        self.session_id = saved.session_id
        self.agent = agent
        self._store = store
        self._loaded = saved.messages
        self._queued: tuple[Message, ...] = ()
        self._turn: RunHandle | None = None  # the newest, maybe only prepared
        self._spoken: RunHandle | None = None  # the newest that has begun; it knows all before it
        self._closed = False

    # --- talking -------------------------------------------------------------------------------

    def send(self, input: Input) -> None:
        """Queue what the user says; the next turn answers it.

        Raises:
            RuntimeFault: If the session is closed.
            TypeError, ValueError: If it is no message.
        """
        self._check_open()
        self._queued += conversation(input)

    def steer(self, input: Input) -> None:
        """Say something to the agent in the middle of its turn; see `RunHandle.steer`.

        What this turn does not hear is queued for the next one.

        Raises:
            RuntimeFault: If no turn is under way, or its agent does not listen while it works.
            TypeError, ValueError: If it is no message.
        """
        if self._turn is None:
            raise RuntimeFault("no turn is under way")
        self._turn.steer(input)

    def stream(
        self,
        *,
        options: Options = None,
        cancel: CancelToken | None = None,
        timeout: float | None = None,
        instructions: str | None = None,
        tools: Sequence[ClientTool] = (),
    ) -> RunStream[ModelEvent]:
        """Prepare the next turn, which begins when it is consumed; see `runtime.streaming`.

        Args:
            options: For this turn.
            cancel: Stops it.
            timeout: Seconds that it may take.
            instructions: For this turn, in addition to the agent's own.
            tools: Tools whose calls the program carries out itself in this turn.

        Raises:
            SessionBusy: If a turn is under way, or was prepared and is neither consumed nor closed.
            RuntimeFault: If nothing was sent, or the session is closed.
            OptionsRefused: If an option is unknown or out of range.
            ToolsRefused: If the agent takes no such tools, or has a tool of such a name.
        """
        return self._next(options, cancel, timeout, instructions, tools).stream

    def events(
        self,
        *,
        options: Options = None,
        cancel: CancelToken | None = None,
        timeout: float | None = None,
        instructions: str | None = None,
        tools: Sequence[ClientTool] = (),
    ) -> RunStream[Event]:
        """Prepare the next turn as `stream` does, to see all that happens in it."""
        return self._next(options, cancel, timeout, instructions, tools).events

    async def prompt(
        self,
        input: Input,
        *,
        options: Options = None,
        cancel: CancelToken | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the turn, not of this call
        instructions: str | None = None,
        tools: Sequence[ClientTool] = (),
    ) -> RunResult:
        """Send something, do the turn, and return its result; see `stream`."""
        self._check_free()
        self.send(input)
        return await self._next(options, cancel, timeout, instructions, tools).drain()

    def resume(
        self,
        decisions: Mapping[str, Decision],
        *,
        cancel: CancelToken | None = None,
        timeout: float | None = None,
    ) -> RunStream[ModelEvent]:
        """Prepare to go on with a turn that waits for a human; see `RunHandle.resume`.

        Raises:
            RuntimeFault: If no turn does.
            ValueError: If an approval is none of those that it waits for.
        """
        self._check_free()
        if self._turn is None:
            raise RuntimeFault("no turn waits for a human")
        self._turn = self._spoken = self._turn.resume(decisions, cancel=cancel, timeout=timeout)
        return self._turn.stream

    # --- what became of it ---------------------------------------------------------------------

    @property
    def result(self) -> RunResult:
        """The result of the newest turn.

        Raises:
            NoResultError: If that turn is not over, or was not completed (the cause says why), or
                there was none.
        """
        if self._turn is None or not self._turn.over:
            raise NoResultError("the turn was not streamed to its end yet")
        try:
            return self._turn.outcome()
        except Exception as error:
            raise NoResultError(f"the turn has no result: {error}") from error

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, without instructions and without what is only queued."""
        return self._loaded if self._spoken is None else self._spoken.messages

    def saved(self) -> SavedSession:
        """Return the session as it is now; what comes later does not change it."""
        return SavedSession(session_id=self.session_id, messages=self.messages)

    async def save(self) -> SavedSession:
        """Keep the session in its store, if it has one, and return what was kept.

        With a store this happens by itself after each turn, before the turn's stream ends.
        """
        saved = self.saved()
        if self._store is not None:
            await self._store.save(saved)
        return saved

    async def wait(self) -> None:
        """Return when no turn is under way. It does not consume: somebody else must."""
        if self._spoken is not None and self._spoken.began:
            await self._spoken.wait()

    async def close(self) -> None:
        """Stop the turn that is under way, and refuse what comes later. Safe to call twice."""
        self._closed = True
        if self._turn is not None:
            await self._turn.aclose()
        await self.wait()

    # --- turns ---------------------------------------------------------------------------------

    def _next(
        self,
        options: Options,
        cancel: CancelToken | None,
        timeout: float | None,
        instructions: str | None,
        tools: Sequence[ClientTool],
    ) -> RunHandle:
        self._check_free()
        unheard = () if self._turn is None else self._turn.unheard
        queued = (*unheard, *self._queued)
        if not queued:
            raise RuntimeFault("there is nothing to answer: send something first")
        request = RunRequest(
            run_id=new_id("run"),
            history=queued,
            options=checked_options(self.agent, options),
            timeout=timeout,
            cancel=cancel,
            instructions=instructions,
            tools=checked_tools(self.agent, tools),
        )
        turn: RunHandle = RunHandle(
            self.agent, request, before=lambda asked: self._begin(turn, asked), after=self._after
        )
        self._turn, self._queued = turn, queued
        return turn

    async def _begin(self, turn: RunHandle, request: RunRequest) -> RunRequest:
        """Return what the turn is asked, once the one before is really over."""
        await self.wait()
        request = replace(request, history=(*self.messages, *self._queued))
        self._queued = ()
        self._spoken = turn
        return request

    async def _after(self) -> None:
        if self._store is not None:
            await self.save()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeFault("the session is closed")

    def _check_free(self) -> None:
        self._check_open()
        if self._turn is not None and not self._turn.leaving:
            raise SessionBusy("the session is streaming a turn already")


def create_session(
    agent: Runnable | None = None,
    *,
    model: Model | None = None,
    instructions: str | None = None,
    tools: Sequence[Tool] = (),
    store: SessionStore | None = None,
) -> Session:
    """Return a new session with an agent, or with one made of a model, instructions and tools.

    Raises:
        ValueError: If there is neither an agent nor a model, or both an agent and parts of one.
    """
    saved = SavedSession(session_id=new_id("ses"), messages=())
    return Session(saved, _agent(agent, model, instructions, tools), store)


def resume_session(
    saved: SavedSession,
    agent: Runnable | None = None,
    *,
    model: Model | None = None,
    instructions: str | None = None,
    tools: Sequence[Tool] = (),
    store: SessionStore | None = None,
) -> Session:
    """Return a session that goes on where it was saved, under its id; see `create_session`."""
    return Session(saved, _agent(agent, model, instructions, tools), store)


def fork_session(
    saved: SavedSession,
    agent: Runnable | None = None,
    *,
    model: Model | None = None,
    instructions: str | None = None,
    tools: Sequence[Tool] = (),
    store: SessionStore | None = None,
) -> Session:
    """Return a session with an id of its own that begins as the saved one was."""
    copy = saved.model_copy(update={"session_id": new_id("ses")})
    return Session(copy, _agent(agent, model, instructions, tools), store)


def _agent(
    agent: Runnable | None, model: Model | None, instructions: str | None, tools: Sequence[Tool]
) -> Runnable:
    if agent is not None:
        if model is not None or instructions is not None or tools:
            raise ValueError("give an agent, or what to make one of: model, instructions, tools")
        return agent
    if model is None:
        raise ValueError("a session needs an agent or a model; pass one as agent= or model=")
    return Agent("assistant", model, instructions=instructions, tools=tools)
