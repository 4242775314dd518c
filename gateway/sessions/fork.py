"""Forking a session: a new one whose history is this one's, up to a cursor.

The parent's log gets nothing; only the ledger remembers the answer. The new session is written before
that, so the process may end in between. Then the command is sent again, and finds it: its id and the
fingerprint of what made it come from the command alone, and not from what the parent says by then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gateway.commands import Ack, Fork, digest
from gateway.errors import CommandConflict, CursorMalformed, SessionConflict
from gateway.log.engine import Answer, Engine, NewSession, Write
from gateway.log.position import Position
from gateway.log.serde import dump
from gateway.sessions.appends import title_of
from gateway.sessions.loading import load_state
from gateway.sessions.session import Session
from gateway.sessions.state import SessionState, answers
from runtime.events import ForkedFrom, SessionCreated
from runtime.journal import spoken_below
from runtime.messages import Message, ToolCall

__all__ = ["fork", "history_of"]


async def fork(engine: Engine, session: Session, command: Fork) -> Ack:
    """Make the new session, once however often the command is sent.

    Raises:
        CursorMalformed, CursorInvalid: If there is no such place in the session's log, or not any
            more.
        CommandConflict: If the command was obeyed before, with another body.
        SessionConflict: If `to` is another session.
        SessionGone: If `to`, or the session itself, was deleted.
    """
    at = _at(command)
    to = command.to or _id_of(session.state.epoch, command)
    asked = Answer(command.id, digest(command), run_id=None)
    if await engine.answer(command.session_id, command.id) is None:
        await _make(engine, await _state_at(engine, session, at), command, to)
    answer = await session.remember(asked)
    return Ack(
        id=command.id,
        session_id=command.session_id,
        run_id=None,
        cursor=str(answer.position),
        forked=to,
    )


def _at(command: Fork) -> Position | None:
    if command.at is None:
        return None
    try:
        return Position.parse(command.at)
    except CursorMalformed as error:
        raise CursorMalformed("`fork.at` is no cursor that this server gave") from error


def _id_of(epoch: str, command: Fork) -> str:
    """Return the new session's id: another one for each command, the same one for the same."""
    named = f"{command.session_id}\n{epoch}\n{command.id}"
    return f"ses_{hashlib.sha256(named.encode()).hexdigest()[:24]}"


async def _state_at(engine: Engine, session: Session, at: Position | None) -> SessionState:
    state = await session.settled()
    if at is None or at == state.position:
        return state
    record = await engine.session(state.session_id)
    return (await load_state(engine, record, at)).state


async def _make(engine: Engine, parent: SessionState, command: Fork, to: str) -> None:
    history = history_of(parent)
    created = SessionCreated(
        agent=parent.agent,
        metadata=parent.metadata,
        forked_from=ForkedFrom(session_id=parent.session_id, cursor=str(parent.position)),
        history=history or None,
    )
    said = next((message.content for message in history if message.role == "user"), None)
    made_by = hashlib.sha256(f"{command.id}\n{digest(command)}".encode()).hexdigest()
    try:
        await engine.append(
            Write(
                session_id=to,
                bodies=[dump(created)],
                create=NewSession(parent.agent, parent.metadata, made_by),
                status="idle",
                title=None if said is None else title_of(said),
            )
        )
    except SessionConflict as error:
        if command.to is None:  # the process ended before it could remember the answer
            raise CommandConflict(command.id) from error
        raise


def history_of(state: SessionState) -> tuple[Message, ...]:
    """Return what was said up to a state, as the history of another session.

    What does not count any more is left out, and what agents said that were called as tools. A
    message that is being said is as long as it is; the calls that are being asked for beside it are
    left out, and a call that has no result yet has none.
    """
    messages: list[Message] = []
    for view in state.messages:
        if view.superseded or spoken_below(view.path or ()):
            continue
        calls = (
            ToolCall(id=call.call_id, name=call.name, arguments=call.arguments)
            for call in view.tool_calls
        )
        messages += _said(view.role, view.text, view.message_id, calls)
        messages += answers(view)
    for said in state.open.messages.values():
        if not spoken_below(said.opened.path):
            messages += _said("assistant", said.text, said.opened.message_id, ())
    return tuple(messages)


def _said(role: str, text: str, message_id: str, calls: Iterable[ToolCall]) -> list[Message]:
    message = Message(
        role="user" if role == "user" else "assistant",
        content=text,
        message_id=message_id,
        tool_calls=tuple(calls),
    )
    return [message] if text or message.tool_calls else []
