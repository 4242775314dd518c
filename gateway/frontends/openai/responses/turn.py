"""From a request for a response to a turn in a session.

A request goes on in the session of the response that it names, or whose items or calls it brings
along: clients that keep the conversation themselves send all of it each time. Where that response is
not the last of its session any more, or was asked for differently, such a client's conversation is
taken as its own and begins another session; a client that named the response is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from gateway.codecs.openai.responses import Item, Whole
from gateway.commands import ApprovalDecision
from gateway.frontends.names import RunName
from gateway.frontends.openai.errors import InvalidRequest
from gateway.frontends.openai.responses.input import (
    Answered,
    Called,
    Decided,
    Piece,
    Referred,
    Said,
    Wanted,
)
from gateway.frontends.openai.responses.log import (
    Located,
    Outlines,
    ResponseUnknown,
    named,
    owner_of,
)
from gateway.frontends.turns import Turn, new_command_id
from gateway.sessions.ids import new_session_id
from gateway.transports.services import Services
from runtime.messages import ClientTool, Message, ToolCall

__all__ = ["turn_for"]


async def turn_for(
    services: Services, outlines: Outlines, wanted: Wanted, key: str | None
) -> tuple[Turn, bool]:
    """Return the turn that a request asks for, and whether it begins a session.

    Args:
        services: The server's parts.
        outlines: Where responses are found.
        wanted: The request.
        key: Its `Idempotency-Key`: the same request under the same key is the same turn.

    Raises:
        InvalidRequest: If it cannot be done; it names the field.
        GatewayError: If the log cannot be read.
    """
    system = [piece.text for piece in wanted.pieces if isinstance(piece, Said) and _rules(piece)]
    instructions = "\n\n".join(text for text in (wanted.instructions, *system) if text) or None
    told = replace(
        wanted,
        instructions=instructions,
        pieces=tuple(p for p in wanted.pieces if not (isinstance(p, Said) and _rules(p))),
    )
    going_on = _GoingOn(services, outlines, told, key)
    if wanted.previous is not None:
        return await going_on.after(wanted.previous), False
    if (turn := await going_on.where_it_was()) is not None:
        return turn, False
    return _new(told, await _spelled_out(outlines, told.pieces), key), True


def _rules(piece: Said) -> bool:
    return piece.role == "system"


# --- going on in a session -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _GoingOn:
    services: Services
    outlines: Outlines
    wanted: Wanted
    key: str | None

    async def after(self, previous: str) -> Turn:
        """Go on from the response that the client names."""
        try:
            located = await self.outlines.locate(named(previous))
        except ResponseUnknown as error:
            raise InvalidRequest(
                f"Previous response with id {previous!r} not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            ) from error
        return await self._turn(located, self.wanted.pieces)

    async def where_it_was(self) -> Turn | None:
        """Go on where the items that the client brings are from; None if that is not possible."""
        last = max(
            (at for at, piece in enumerate(self.wanted.pieces) if _source(piece) is not None),
            default=None,
        )
        if last is None:
            return None
        source = _source(self.wanted.pieces[last])
        assert source is not None  # noqa: S101 - it was looked for
        try:
            located = await self.outlines.locate(source)
            answers = [piece for piece in self.wanted.pieces[:last] if _answers(piece, source)]
            return await self._turn(located, [*answers, *self.wanted.pieces[last + 1 :]])
        except (ResponseUnknown, InvalidRequest):
            return None

    async def _turn(self, located: Located, fresh: Sequence[Piece]) -> Turn:
        """Return the turn that follows a response.

        Raises:
            InvalidRequest: If it cannot follow it.
        """
        again = self.key is not None and self.key in located.commands
        if not (located.is_latest or again):
            raise InvalidRequest(
                f"response 'resp_{located.name}' is not the last of its conversation any more, "
                "and a conversation cannot be forked",
                param="previous_response_id",
                code="previous_response_not_latest",
            )
        answers = [piece for piece in fresh if isinstance(piece, Answered | Decided)]
        said = [piece for piece in fresh if isinstance(piece, Said)]
        if len(answers) + len(said) < len(fresh) or any(p.role != "user" for p in said):
            _refuse("only what is new can be added: user messages, and answers to calls")
        pending = await self._pending(located)
        if not answers and not pending:
            return self._send(located, said)
        whole = await self.outlines.whole(located)
        decisions = _decisions(whole.state.items, answers)
        settled = {decision.approval_id for decision in decisions}
        for item in whole.state.items:
            if item.approval_id in pending - settled:
                missing = f"No tool output found for function call {item.call_id}."
                asks = f"No approval response found for approval request {item.id}."
                _refuse(missing if item.kind == "function_call" else asks)
        if said:
            _refuse("answer the calls first, and say more with the response after that")
        self._check_unchanged(whole)
        return Turn(
            session_id=located.name.session_id,
            command_id=self.key or new_command_id(),
            decisions=decisions,
            run_id=located.name.run_id,
        )

    async def _pending(self, located: Located) -> set[str]:
        """Return the approvals that the response's run waits for."""
        snapshot = await self.services.manager.snapshot(located.name.session_id)
        return {a.approval_id for a in snapshot.approvals if a.run_id == located.name.run_id}

    def _send(self, located: Located, said: Sequence[Said]) -> Turn:
        wanted = self.wanted
        if not said:
            _refuse("there is nothing new in `input`")
        known = dict(located.codec.metadata)
        if wanted.metadata and dict(wanted.metadata) != known:
            raise InvalidRequest(
                "`metadata` is kept with a conversation: give it with its first response",
                param="metadata",
            )
        return Turn(
            session_id=located.name.session_id,
            agent=wanted.model,
            command_id=self.key or new_command_id(),
            text="\n\n".join(piece.text for piece in said),
            instructions=wanted.instructions,
            tools=wanted.tools,
            options=wanted.options,
        )

    def _check_unchanged(self, whole: Whole) -> None:
        """Refuse to go on with a run in another way than it was begun.

        What is left out stays as it was.
        """
        asked, wanted = whole.state.asked, self.wanted
        differs = {
            "model": wanted.model not in {None, asked.agent},
            "instructions": wanted.instructions not in {None, asked.instructions},
            "tools": bool(wanted.tools) and _by_name(wanted.tools) != _by_name(asked.tools),
            "temperature": _other(wanted, whole, "temperature"),
            "max_output_tokens": _other(wanted, whole, "max_tokens"),
        }
        for name, is_other in differs.items():
            if is_other:
                message = f"`{name}` cannot change while a run waits for answers"
                raise InvalidRequest(message, param=name)


def _by_name(tools: Sequence[ClientTool]) -> dict[str, ClientTool]:
    return {tool.name: tool for tool in tools}


def _other(wanted: Wanted, whole: Whole, option: str) -> bool:
    given = wanted.options.get(option)
    return given is not None and given != whole.state.asked.options.get(option)


def _refuse(message: str) -> NoReturn:
    raise InvalidRequest(message, param="input")


def _source(piece: Piece) -> RunName | None:
    """Return the response that an item of the model's side is from, if it is one of ours."""
    match piece:
        case Said(role="assistant", item_id=item_id) | Referred(item_id=item_id):
            owner = owner_of(item_id)
        case Called(call_id=call_id, item_id=item_id):
            owner = owner_of(item_id) or owner_of(call_id)
        case _:
            owner = None
    return None if owner is None else owner[0]


def _answers(piece: Piece, source: RunName) -> bool:
    """Whether a piece answers a call or a question of a response."""
    match piece:
        case Answered(call_id=identifier) | Decided(request_id=identifier):
            owner = owner_of(identifier)
            return owner is not None and owner[0] == source
        case _:
            return False


def _decisions(
    items: Sequence[Item], answers: Sequence[Answered | Decided]
) -> tuple[ApprovalDecision, ...]:
    """Return what is decided, once for each; the last word counts."""
    decisions: dict[str, ApprovalDecision] = {}
    for answer in answers:
        if isinstance(answer, Answered):
            approval_id = _asked_by(items, "function_call", answer.call_id)
            if approval_id is None:
                _refuse(
                    f"No tool call found for function call output with call_id {answer.call_id}."
                )
            decisions[approval_id] = ApprovalDecision(
                approval_id=approval_id, decision="answer", result=answer.output
            )
        else:
            approval_id = _asked_by(items, "mcp_approval_request", answer.request_id)
            if approval_id is None:
                _refuse(f"No approval request found with id {answer.request_id}.")
            decisions[approval_id] = ApprovalDecision(
                approval_id=approval_id,
                decision="approve" if answer.approve else "reject",
                message=answer.reason,
            )
    return tuple(decisions.values())


def _asked_by(items: Sequence[Item], kind: str, identifier: str) -> str | None:
    """Return the approval that an item asks for: by the item's id, or by the call's."""
    for item in items:
        if item.kind == kind and identifier in {item.id, item.call_id}:
            return item.approval_id
    return None


# --- a session of its own --------------------------------------------------------------------


async def _spelled_out(
    outlines: Outlines, pieces: Sequence[Piece]
) -> list[Said | Called | Answered]:
    """Return what was said and called, with what the references stand for in their place."""
    spelled: list[Said | Called | Answered] = []
    for place, piece in enumerate(pieces):
        match piece:
            case Referred(must_be_found=True):
                found = await _found(outlines, piece, f"input[{place}].id")
                spelled += [found] if found is not None else []
            case Said() | Called() | Answered():
                spelled.append(piece)
            case _:
                pass
    return spelled


async def _found(outlines: Outlines, piece: Referred, param: str) -> Said | Called | None:
    """Return what a reference stands for; None if that is nothing that a model is told."""
    owner = owner_of(piece.item_id)
    try:
        if owner is None:
            raise ResponseUnknown(piece.item_id or "")
        items = (await outlines.whole(await outlines.locate(owner[0]))).state.items
        item = items[owner[1]]
    except (ResponseUnknown, IndexError) as error:
        raise InvalidRequest(f"Item with id {piece.item_id!r} not found.", param=param) from error
    match item.kind:
        case "message":
            return Said("assistant", item.text, item.id)
        case "function_call":
            return Called(item.call_id, item.name, item.text, item.id)
        case "mcp_call":
            output = item.output if item.output is not None else f"error: {item.error}"
            return Called(item.id, item.name, item.text, item.id, output=output)
        case _:
            return None


def _new(wanted: Wanted, spelled: Sequence[Said | Called | Answered], key: str | None) -> Turn:
    """Return the first turn of a new session, which begins with what was said before."""
    if not spelled:
        _refuse("there is nothing in `input` to answer")
    *before, last = spelled
    history = _history(before)
    if not isinstance(last, Answered) and not (isinstance(last, Said) and last.role == "user"):
        _refuse("`input` must end with what the user says, or with the output of a call")
    digest = None if key is None else hashlib.sha256(key.encode(errors="replace")).hexdigest()
    return Turn(
        session_id=new_session_id() if digest is None else f"resp_{digest[:40]}",
        agent=wanted.model,
        command_id=key or new_command_id(),
        text=last.text if isinstance(last, Said) else None,
        result=None
        if isinstance(last, Said)
        else {"call_id": last.call_id, "content": last.output},
        history=history,
        instructions=wanted.instructions,
        tools=wanted.tools,
        options=wanted.options,
        metadata=wanted.metadata,
    )


def _history(pieces: Sequence[Said | Called | Answered]) -> tuple[Message, ...]:
    """Return a conversation as messages: what a model says and calls in one go is one of them."""
    messages: list[Message] = []
    for piece in pieces:
        match piece:
            case Said():
                messages.append(Message(role=piece.role, content=piece.text))
            case Called():
                call = ToolCall(id=piece.call_id, name=piece.name, arguments=piece.arguments)
                _add_call(messages, call)
                if piece.output is not None:
                    messages.append(
                        Message(role="tool", content=piece.output, tool_call_id=call.id)
                    )
            case Answered():
                messages.append(
                    Message(role="tool", content=piece.output, tool_call_id=piece.call_id)
                )
    return tuple(messages)


def _add_call(messages: list[Message], call: ToolCall) -> None:
    last = messages[-1] if messages else None
    if last is not None and last.role == "assistant":
        messages[-1] = last.model_copy(update={"tool_calls": (*last.tool_calls, call)})
    else:
        messages.append(Message(role="assistant", tool_calls=(call,)))
