"""What all frontends do with a session: take a turn in it, and stop it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.codecs.waiting import waits_for_human
from gateway.commands import Ack, ApprovalDecision, Cancel, parse_command, parse_create
from gateway.errors import CommandRefused, RunUnknown, RunWaits, SessionConflict, SessionUnknown
from gateway.sessions.manager import RunPlace
from gateway.transports.following import run_of
from gateway.transports.services import Services
from runtime.messages import ClientTool, Message

__all__ = ["Turn", "new_command_id", "stop", "take_first_turn", "take_turn"]


def new_command_id() -> str:
    """Return an id for a command of a client that gave none."""
    return f"cmd_{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a request asks of a session: to answer an input, or to go on after a pause.

    Attributes:
        session_id: Which session; it is made if there is none.
        agent: Who answers; default: the session's agent, or the server's first.
        command_id: The same again is the same turn, and is not taken twice.
        text: What the user says now.
        result: Or what came of a tool call: `{"call_id", "content"}`.
        decisions: Or what was decided on approvals; then nothing else is looked at but `run_id`.
        run_id: The run that the decisions are for, if the client said so.
        message_id: The client's id of what the user says.
        history: What was said before; a session that is made begins with it.
        instructions: In addition to the agent's own.
        tools: The client's.
        options: Run options.
        rewind_to: The message that, with all after it, no longer counts.
        metadata: Of a session that is made.
        cancels: Whether its run is cancelled when nobody who controls the session is there. Whoever
            takes such a turn attends the session from before until the client has its answer.
        is_nameless: Whether nobody but this turn knows the session: it goes if the turn is refused.
        can_answer: Whether the client can decide what is asked of a human. If not, it is refused
            while a run waits for that: it would wait behind that run, and not know why.
    """

    session_id: str
    agent: str | None = None
    command_id: str = field(default_factory=new_command_id)
    text: str | None = None
    result: Mapping[str, str] | None = None
    decisions: tuple[ApprovalDecision, ...] = ()
    run_id: str | None = None
    message_id: str | None = None
    history: tuple[Message, ...] = ()
    instructions: str | None = None
    tools: tuple[ClientTool, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    rewind_to: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cancels: bool = False
    is_nameless: bool = False
    can_answer: bool = True


async def take_turn(services: Services, turn: Turn) -> RunPlace:
    """Do what a turn asks for, once however often it is sent; its run goes on by itself.

    If the caller is cancelled, the turn is taken all the same.

    Raises:
        GatewayError: If it is refused; it had no effect then, though a session may have been made.
    """
    return await _whole(_take(services, turn, _ensure_session))


async def _whole(taking: Coroutine[Any, Any, RunPlace]) -> RunPlace:
    """Take a turn to its end, and hold up a caller that is cancelled until then."""
    task = asyncio.create_task(taking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _take(
    services: Services, turn: Turn, make: Callable[[Services, Turn], Awaitable[None]]
) -> RunPlace:
    services.streams.check()
    command = parse_command(_command(turn))  # first: what cannot be read makes no session
    if not turn.decisions:
        await make(services, turn)
    if not turn.can_answer:
        await _refuse_while_a_run_waits(services, turn)
    try:
        ack = await services.manager.obey(command)
    except CommandRefused:
        if turn.is_nameless:
            await services.manager.delete(turn.session_id)
        raise
    assert isinstance(ack, Ack)  # noqa: S101 - only a ping gets a pong
    return await run_of(services, ack)


async def _refuse_while_a_run_waits(services: Services, turn: Turn) -> None:
    manager = services.manager
    if await manager.engine.answer(turn.session_id, turn.command_id) is not None:
        return  # it was taken before, and finds its run
    with suppress(RunUnknown):
        if (await manager.run(turn.session_id)).status == "interrupted":
            raise RunWaits(waits_for_human(turn.session_id))


def _command(turn: Turn) -> dict[str, Any]:
    """Return the command as a client would send it: it is checked as any client's is."""
    command: dict[str, Any] = {
        "id": turn.command_id,
        "session_id": turn.session_id,
        "on_disconnect": {"cancel_after": 0} if turn.cancels else "continue",
    }
    if turn.decisions:
        command |= {"type": "continue", "run_id": turn.run_id, "decisions": turn.decisions}
        return command
    command |= {
        "type": "send",
        "text": turn.text,
        "result": turn.result,
        "agent": turn.agent,
        "message_id": turn.message_id,
        "instructions": turn.instructions,
        "rewind_to": turn.rewind_to,
        "tools": turn.tools,
        "options": turn.options,
    }
    return command


async def take_first_turn(services: Services, turn: Turn, *, is_keyed: bool) -> RunPlace:
    """Make a session for a turn alone, and take the turn in it.

    Args:
        services: The server's parts.
        turn: The turn.
        is_keyed: Whether the client's key names the session: the same request again finds it then.
            Without a key nobody could find it, and it goes if the turn is refused.

    Raises:
        SessionConflict: If the key made a session of another conversation before.
        GatewayError: As `take_turn`.
    """
    return await _whole(_take(services, replace(turn, is_nameless=not is_keyed), _make_session))


async def _ensure_session(services: Services, turn: Turn) -> None:
    try:
        await services.manager.engine.session(turn.session_id)
    except SessionUnknown:
        with suppress(SessionConflict):  # somebody else has just made it
            await _make_session(services, turn)


async def _make_session(services: Services, turn: Turn) -> None:
    asked = {
        "session_id": turn.session_id,
        "agent": turn.agent,
        "metadata": turn.metadata,
        "history": turn.history,
    }
    await services.manager.create(parse_create(asked))


async def stop(services: Services, session_id: str, run_id: str | None = None) -> None:
    """Cancel a session's run, or the named one; of no effect if nothing runs.

    Raises:
        SessionUnknown, SessionGone: If there is no such session.
        RunUnknown: If it never had the named run.
    """
    await services.manager.obey(
        Cancel(type="cancel", id=new_command_id(), session_id=session_id, run_id=run_id)
    )
