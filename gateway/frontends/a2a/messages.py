"""What a client says: text for an agent, or its decision on what the agent has asked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from a2a.types import Message, Role
from a2a.utils.errors import ContentTypeNotSupportedError, InvalidParamsError
from pydantic import ValidationError

from gateway.commands import ApprovalDecision, explain
from gateway.sessions.snapshot import ApprovalView

__all__ = ["Said", "decisions_of", "read_message"]

_ID = re.compile(r"[\x21-\x7e]{1,100}", re.ASCII)
_APPROVES = re.compile(r"\s*approved?[\s.!]*", re.IGNORECASE)
_REJECTS = re.compile(r"\s*reject(?:ed)?(?![\w-])[\s,.:;!-]*(?P<why>.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a client's.

    Attributes:
        message_id: The client's; in a form that our log takes, and still the same for the same.
        context_id: The conversation, if the client named one.
        task_id: The task that it is about, if the client named one.
        text: The text parts, joined by line breaks.
        data: The data parts.
    """

    message_id: str
    context_id: str
    task_id: str
    text: str
    data: tuple[Any, ...]

    @property
    def input(self) -> str:
        """All that it says, as text for an agent."""
        given = [self.text] if self.text else []
        return "\n".join([*given, *(orjson.dumps(data).decode() for data in self.data)])

    @property
    def command_id(self) -> str:
        """The id of the command that it becomes: the same message again is not obeyed twice."""
        return f"a2a-answer:{self.message_id}" if self.task_id else f"a2a:{self.message_id}"

    def session_name(self, agent: str) -> str:
        """Return the conversation's name; one that was not named gets its name from the message.

        So the same message, sent again because its answer was lost, finds what came of it.
        """
        if self.context_id:
            return self.context_id
        whole = f"{agent}\0{self.message_id}\0{self.input}"
        return f"a2a_{hashlib.sha256(whole.encode()).hexdigest()[:32]}"


def read_message(message: Message, raw: dict[str, Any]) -> Said:
    """Read a message.

    Args:
        message: It.
        raw: The same as it came: protobuf makes a float of each number.

    Raises:
        ContentTypeNotSupportedError: If it has a file.
        InvalidParamsError: If it is not from a client.
    """
    if message.role != Role.ROLE_USER:
        raise InvalidParamsError("a message to an agent has the role ROLE_USER")
    texts: list[str] = []
    data: list[Any] = []
    for part, came in zip(message.parts, raw["parts"], strict=True):
        kind = part.WhichOneof("content")
        if kind == "text":
            texts.append(part.text)
        elif kind == "data":
            data.append(came["data"])
        else:
            raise ContentTypeNotSupportedError("parts are text or data here, and not files")
    message_id = message.message_id
    if _ID.fullmatch(message_id) is None:
        message_id = hashlib.sha256(message_id.encode()).hexdigest()
    return Said(message_id, message.context_id, message.task_id, "\n".join(texts), tuple(data))


def decisions_of(said: Said, asked: Sequence[ApprovalView]) -> tuple[ApprovalDecision, ...]:
    """Return what a client decides on the approvals that wait.

    A data part is a decision as native clients send it, `{"decision": "approve" | "reject" |
    "edit" | "answer", "approval_id"?, "message"?, "arguments"?, "result"?}`; `approval_id` may be
    left out where only one waits. Without a data part, the text decides on all: `approve`, or
    `reject` and why. Other text answers the one question that wants an answer: of a graph's node,
    or for the result of a tool of the client's.

    Raises:
        InvalidParamsError: If it says none of that.
    """
    if said.data:
        return tuple(_decision(data, asked) for data in said.data)
    rejects = _REJECTS.fullmatch(said.text)
    if rejects is None and _APPROVES.fullmatch(said.text) is None:
        return (_answer(said.text, asked),)
    return tuple(
        ApprovalDecision(
            approval_id=approval.approval_id,
            decision="approve" if rejects is None else "reject",
            message=(rejects["why"] if rejects else None) or None,
        )
        for approval in asked
    )


def _decision(data: Any, asked: Sequence[ApprovalView]) -> ApprovalDecision:
    if not isinstance(data, dict):
        raise InvalidParamsError("a decision is an object")
    if len(asked) == 1:
        data = {"approval_id": asked[0].approval_id} | data
    try:
        return ApprovalDecision.model_validate(data)
    except ValidationError as error:
        raise InvalidParamsError(f"the decision: {explain(error)}") from error


def _answer(text: str, asked: Sequence[ApprovalView]) -> ApprovalDecision:
    """Return an answer in free words to the one question that takes such."""
    if len(asked) == 1:
        approval_id = asked[0].approval_id
        if asked[0].wants == "result":
            return ApprovalDecision(approval_id=approval_id, decision="answer", result=text)
        if asked[0].node is not None and asked[0].tool is None:
            arguments = orjson.dumps(text).decode()
            return ApprovalDecision(approval_id=approval_id, decision="edit", arguments=arguments)
    raise InvalidParamsError(
        'the task waits for a decision: say "approve", or "reject" and why, or send a data part '
        'with {"approval_id": …, "decision": "approve" | "reject" | "edit"}'
    )
