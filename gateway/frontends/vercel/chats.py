"""Chats of the AI SDK as sessions: what they ask for, and which stream answers it.

A chat is a session, and a run of it is one assistant message, however often the run pauses.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from gateway.codecs.vercel import (
    Answers,
    ChatRequest,
    UiMessage,
    UiMessageStream,
    message_id_for,
    read_history,
)
from gateway.errors import RunNotResumable, RunUnknown, SessionGone, SessionUnknown
from gateway.frontends.names import session_id_for
from gateway.frontends.turns import Turn, new_command_id, stop, take_turn
from gateway.frontends.vercel.answers import decisions_of
from gateway.frontends.vercel.streams import Stream, Streams
from gateway.log.position import Position
from gateway.sessions.manager import RunPlace
from gateway.sessions.snapshot import Snapshot
from gateway.transports.following import despite_outage
from gateway.transports.services import Services

__all__ = ["Chats"]

RUN_PREFIX = "run_"
"""How the ids of runs begin, and with them those of assistant messages. Before a client has heard
of the message that it waits for, it gives it an id of its own."""

LONGEST_ID = 100
"""Characters of a client's id that stay as they are in the id of a command."""


class Chats:
    """Does what chats ask for. One for a server."""

    def __init__(self, services: Services) -> None:
        """Make it.

        Args:
            services: The server's parts.
        """
        self._services = services
        self._manager = services.manager
        self._streams = Streams(services.manager.engine)
        self._beginning: dict[str, set[asyncio.Task[Stream]]] = {}

    async def begin(self, asked: ChatRequest, command_id: str | None = None) -> Stream:
        """Do what a request asks for, also if the client goes away meanwhile.

        Args:
            asked: The request.
            command_id: The client's; the same again is the same request.

        Raises:
            GatewayError: If it is refused.
        """
        self._services.streams.check()
        session_id = session_id_for(asked.id)
        answered = asked.answered
        if answered is not None:
            work = self._answer(session_id, answered, command_id)
        else:
            work = self._say(session_id, asked, command_id)
        return await self._shielded(session_id, work)

    async def resume(self, chat_id: str, *, finished: bool) -> Stream | None:
        """Return the stream of the message that is being made, from its beginning.

        A run that waits for a human counts: whoever comes back has to see the question.

        Args:
            chat_id: The chat.
            finished: Whether a message that is finished will do, too.
        """
        session_id = session_id_for(chat_id)
        await self._begun(session_id)
        try:
            place = await self._manager.run(session_id)
        except (SessionUnknown, SessionGone, RunUnknown):
            return None
        if place.status in {"completed", "failed", "cancelled"} and not finished:
            return None
        return await self._streams.whole(place)

    async def stop(self, chat_id: str, run_id: str | None) -> None:
        """Stop what a chat does; of no effect if it does nothing, or if there is no such chat.

        Args:
            chat_id: The chat.
            run_id: The run that is meant, so that a stop that comes late does not hit the next one.
                A client that has not heard of the run yet may give any other id, or none.
        """
        session_id = session_id_for(chat_id)
        await self._begun(session_id)
        if run_id is not None and not run_id.startswith(RUN_PREFIX):
            run_id = None
        await self._stop(session_id, run_id)

    async def stop_stream(self, stream: Stream) -> None:
        """Stop the run of a stream."""
        await self._stop(stream.place.session_id, stream.place.run_id)

    async def _stop(self, session_id: str, run_id: str | None = None) -> None:
        try:
            await stop(self._services, session_id, run_id)
        except (SessionUnknown, SessionGone, RunUnknown):
            return

    async def since_pause(self, stream: Stream) -> Stream:
        """Return the stream of what was said since the last pause: see `Streams.since_pause`."""
        return await self._streams.since_pause(stream)

    # --- what is begun right now ---------------------------------------------------------------

    async def _shielded(self, session_id: str, work: Coroutine[Any, Any, Stream]) -> Stream:
        task = asyncio.create_task(work)
        tasks = self._beginning.setdefault(session_id, set())
        tasks.add(task)

        def done(task: asyncio.Task[Stream]) -> None:
            tasks.discard(task)
            if not tasks and self._beginning.get(session_id) is tasks:
                del self._beginning[session_id]
            if not task.cancelled():
                task.exception()  # whoever asked may be gone

        task.add_done_callback(done)
        return await asyncio.shield(task)

    async def _begun(self, session_id: str) -> None:
        """Wait until all that was asked of a chat so far has begun: a stop must not overtake it."""
        if tasks := self._beginning.get(session_id):
            await asyncio.wait(tasks)

    # --- something is said ---------------------------------------------------------------------

    async def _say(self, session_id: str, asked: ChatRequest, command_id: str | None) -> Stream:
        place_of_input = asked.newest
        said = asked.said[place_of_input]
        text = said.input_text()
        turn = Turn(
            session_id=session_id,
            agent=asked.agent,
            text=text,
            message_id=message_id_for(said.id) if said.id else None,
            history=read_history(asked.said[:place_of_input]),
            instructions=asked.instructions,
            tools=asked.tools,
            options=asked.options,
            metadata={"chat_id": asked.id},
            command_id=_command_id(command_id, said, asked),
        )
        snapshot = await self._snapshot(session_id)
        if snapshot is not None:
            turn = await self._make_way(snapshot, turn, asked)
        taken = await take_turn(self._services, turn)
        return await despite_outage(self._services, partial(self._stream_of, taken))

    async def _stream_of(self, taken: RunPlace) -> Stream:
        """Return the stream of a turn that was taken."""
        try:
            place = await self._manager.run(taken.session_id, taken.run_id)
        except RunUnknown:  # the turn was taken long ago, or was cancelled in the queue
            place = taken
        return await self._streams.whole(place)

    async def _make_way(self, snapshot: Snapshot, turn: Turn, asked: ChatRequest) -> Turn:
        """Stop what the new input makes pointless; return the turn, which may go back."""
        said = [view.message_id for view in snapshot.messages if view.role == "user"]
        known = {*said, *(item.message.message_id for item in snapshot.queue)}
        if not asked.goes_back:
            is_new = turn.message_id is None or turn.message_id not in known
            if snapshot.status == "interrupted" and is_new:
                # Whoever says something else does not answer. In the queue it would wait for ever:
                # the clients send no answers for a message that is not the last one.
                await self._stop(turn.session_id)
            return turn
        if _is_meant(snapshot, asked):
            await self._stop(turn.session_id)
        last = said[-1] if said else None
        rewind_to = turn.message_id if turn.message_id in known else last
        return replace(turn, rewind_to=rewind_to)

    # --- something is answered -----------------------------------------------------------------

    async def _answer(self, session_id: str, message: UiMessage, command_id: str | None) -> Stream:
        snapshot = await self._snapshot(session_id)
        if snapshot is None or snapshot.run is None:
            raise RunNotResumable("nothing in this chat waits for an answer")
        answers = Answers.of(message)
        decisions = decisions_of(answers, snapshot.approvals)
        if not decisions:
            return await self._answered_before(snapshot, message, answers)
        command = (
            command_id or f"ui-answer-{_digest([d.model_dump(mode='json') for d in decisions])}"
        )
        turn = Turn(session_id=session_id, decisions=decisions, command_id=command)
        taken = await take_turn(self._services, turn)
        place = await self._manager.run(session_id, taken.run_id)
        if place.status == "interrupted" and len(decisions) < len(snapshot.approvals):
            return Stream(place, UiMessageStream(), waits=True)
        paused = snapshot.status == "interrupted"
        known = None if paused else Position.parse(snapshot.cursor).seq
        return await self._streams.since(place, known)

    async def _answered_before(
        self, snapshot: Snapshot, message: UiMessage, answers: Answers
    ) -> Stream:
        """Return the stream for answers that were given already, so that it can be sent again.

        Raises:
            RunNotResumable: If the client has what came of them; an empty stream would make some
                clients send the same again, and again.
        """
        run = snapshot.run
        assert run is not None  # noqa: S101 - looked at by the caller
        waits_to_hear = bool(answers.approvals) and message.id == run.run_id
        if snapshot.status != "running" and (snapshot.status == "interrupted" or not waits_to_hear):
            asked = ", ".join(view.tool or view.node or "?" for view in snapshot.approvals)
            raise RunNotResumable(
                f"this chat waits for an answer about: {asked}"
                if asked
                else "nothing in this chat waits for an answer"
            )
        place = await self._manager.run(snapshot.session_id, run.run_id)
        return await self._streams.since(place)

    # --- streams -------------------------------------------------------------------------------

    async def _snapshot(self, session_id: str) -> Snapshot | None:
        try:
            return await self._manager.snapshot(session_id)
        except SessionUnknown:
            return None


def _is_meant(snapshot: Snapshot, asked: ChatRequest) -> bool:
    """Whether what runs now is what is to be said again; if not, it may be that already."""
    run = snapshot.run
    if asked.trigger != "regenerate-message" or asked.message_id is None or run is None:
        return True
    return asked.message_id == run.run_id


def _command_id(key: str | None, said: UiMessage, asked: ChatRequest) -> str:
    """Return the command's id; where the request has one, the same again is the same command.

    What is said again is meant to be answered again. A client that goes back may name the message
    that it wants anew; that one can be asked for once.
    """
    if key is not None:
        return key
    if not asked.goes_back and said.id:
        return f"ui-{_named(said.id)}"
    is_again = asked.goes_back and asked.trigger == "regenerate-message"
    if is_again and asked.message_id not in {None, said.id}:
        return f"ui-again-{_named(asked.message_id or '')}"
    return new_command_id()


def _named(ui_id: str) -> str:
    name = message_id_for(ui_id)
    return name if len(name) <= LONGEST_ID else _digest(ui_id)


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value)).hexdigest()[:40]
