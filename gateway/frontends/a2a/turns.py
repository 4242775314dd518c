"""From a client's message to the run that it is about."""

from __future__ import annotations

from dataclasses import dataclass

from a2a.types import SendMessageRequest
from a2a.utils.errors import (
    InvalidParamsError,
    PushNotificationNotSupportedError,
    UnsupportedOperationError,
)

from gateway.commands import Ack
from gateway.errors import CommandConflict, SessionGone
from gateway.frontends.a2a.messages import Said, decisions_of, read_message
from gateway.frontends.a2a.params import history_of, params_of
from gateway.frontends.a2a.rpc import Asked
from gateway.frontends.names import RunName, session_id_for
from gateway.frontends.turns import Turn, take_turn
from gateway.sessions.manager import RunPlace
from gateway.transports.following import run_of
from gateway.transports.services import Services

__all__ = ["OVER", "Taken", "context_of", "turn_of"]

OVER = frozenset({"completed", "failed", "cancelled"})
"""How runs stand that say nothing more."""

_CONTEXT = "a2a_context_id"
"""In a session's metadata: what the client calls it, where that cannot be its id."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a message.

    Attributes:
        place: The run.
        context_id: The conversation, as the client calls it.
        is_answer: Whether the message went to a task that there was already.
        history: How many messages the client wants to see; None for all.
        at_once: Whether it does not want to wait.
    """

    place: RunPlace
    context_id: str
    is_answer: bool
    history: int | None
    at_once: bool


async def context_of(services: Services, session_id: str) -> str:
    """Return what the client calls a session.

    Raises:
        SessionUnknown, SessionGone: If there is no such session.
    """
    record = await services.manager.engine.session(session_id)
    return str(record.metadata.get(_CONTEXT, session_id))


async def turn_of(services: Services, asked: Asked) -> Taken:
    """Give a message to an agent, once however often it is sent; its run goes on by itself.

    Raises:
        A2AError, GatewayError: If it is refused.
    """
    request = params_of(asked.params, SendMessageRequest)
    configuration = request.configuration
    if configuration.HasField("task_push_notification_config"):
        raise PushNotificationNotSupportedError("nothing is pushed from here")
    history = history_of(configuration)
    said = read_message(request.message, asked.params["message"])
    if said.task_id:
        name = RunName.parse(said.task_id)
        if said.context_id and session_id_for(said.context_id) != name.session_id:
            raise InvalidParamsError("the task is of another context")
        place = await _answer(services, name, said)
        context_id = await context_of(services, name.session_id)
    else:
        context_id = said.session_name(asked.agent)
        place = await _begin(services, asked, said, context_id)
    at_once = configuration.return_immediately
    return Taken(place, context_id, bool(said.task_id), history, at_once)


async def _begin(services: Services, asked: Asked, said: Said, context_id: str) -> RunPlace:
    """Begin a task."""
    session_id = session_id_for(context_id)
    turn = Turn(
        session_id=session_id,
        agent=asked.agent,
        command_id=said.command_id,
        message_id=said.message_id,
        text=said.input,
        metadata={} if session_id == context_id else {_CONTEXT: context_id},
    )
    try:
        return await take_turn(services, turn)
    except SessionGone as error:
        raise InvalidParamsError(str(error)) from error


async def _answer(services: Services, name: RunName, said: Said) -> RunPlace:
    """Give a task what it waits for."""
    place = await services.manager.run(name.session_id, name.run_id)
    known = await services.manager.engine.answer(name.session_id, said.command_id)
    if known is not None and known.position is not None:  # it was sent before, and is settled
        if known.run_id != name.run_id:
            raise CommandConflict(said.message_id)
        cursor = str(known.position)
        session_id, run_id = name.session_id, known.run_id
        ack = Ack(id=said.command_id, session_id=session_id, run_id=run_id, cursor=cursor)
        return await run_of(services, ack)
    snapshot = await services.manager.snapshot(name.session_id)
    waiting = [approval for approval in snapshot.approvals if approval.run_id == name.run_id]
    if not waiting:
        state = "over" if place.status in OVER else "at work"
        raise UnsupportedOperationError(
            f"the task is {state} and waits for nothing; a message without a task id begins a new "
            "task in its context"
        )
    turn = Turn(
        session_id=name.session_id,
        run_id=name.run_id,
        command_id=said.command_id,
        decisions=decisions_of(said, waiting),
    )
    return await take_turn(services, turn)
