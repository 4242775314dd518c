"""What a chat of the AI SDK asks for. Pure.

`useChat` sends all of its messages each time. What is asked is in the last one: something the user
says, or answers that were put into the parts of an assistant message. The earlier ones are read only
when the server does not know the chat yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.codecs.vercel.ui_messages import UiMessage
from gateway.commands import explain
from gateway.errors import CommandMalformed
from runtime.messages import ClientTool

__all__ = ["Answers", "ChatRequest", "Stop", "read_chat", "read_stop"]

Trigger = Literal["submit-message", "regenerate-message"]


class ChatRequest(BaseModel):
    """The body of `POST /api/chat`; fields that are not known are for others.

    Attributes:
        id: The chat.
        messages: All that was said, as the client has it.
        message: Or only the last of it.
        trigger: What the client does.
        message_id: The message that is edited, answered in, or regenerated.
        agent: Who answers; an extension of ours, as are the next two.
        options: Run options.
        tools: The tools that the client has.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(min_length=1, max_length=1024)
    messages: tuple[UiMessage, ...] = ()
    message: UiMessage | None = None
    trigger: Trigger = "submit-message"
    message_id: str | None = Field(default=None, alias="messageId")
    agent: str | None = None
    options: Mapping[str, Any] = Field(default_factory=dict)
    tools: tuple[ClientTool, ...] = ()

    @property
    def said(self) -> tuple[UiMessage, ...]:
        """All messages that the request has."""
        return self.messages if self.message is None else (*self.messages, self.message)

    @property
    def answered(self) -> UiMessage | None:
        """The assistant message whose parts hold the answers, if the request is about answers."""
        if self.trigger == "regenerate-message":
            return None
        named = next((m for m in self.said if m.id == self.message_id), None)
        target = named or self.said[-1]
        return target if target.role == "assistant" else None

    @property
    def newest(self) -> int:
        """The place of what the user said last.

        Raises:
            CommandMalformed: If the user said nothing.
        """
        for place in reversed(range(len(self.said))):
            if self.said[place].role == "user":
                return place
        raise CommandMalformed("`messages`: there is none of the user's")

    @property
    def goes_back(self) -> bool:
        """Whether what the user said is said again, in place of what was made of it."""
        if self.trigger == "regenerate-message":
            return True
        return self.message_id is not None and self.message_id == self.said[self.newest].id

    @property
    def instructions(self) -> str | None:
        """What the chat's system messages say."""
        texts = [message.text() for message in self.said if message.role == "system"]
        return "\n\n".join(text for text in texts if text) or None


@dataclass(frozen=True, slots=True)
class Answers:
    """What the parts of a message answer.

    Attributes:
        approvals: By approval: whether it was approved, and why.
        outputs: By call: what came of it.
        failures: By call: how it failed.
    """

    approvals: Mapping[str, tuple[bool, str | None]] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, message: UiMessage) -> Answers:
        """Read the parts of a message."""
        approvals: dict[str, tuple[bool, str | None]] = {}
        outputs: dict[str, Any] = {}
        failures: dict[str, str] = {}
        for call in message.calls():
            if call.state == "approval-responded" and call.approval is not None:
                approvals[call.approval.id] = (bool(call.approval.approved), call.approval.reason)
            elif call.state == "output-available":
                outputs[call.call_id] = call.output
            elif call.state == "output-error":
                failures[call.call_id] = call.error_text or "the client's tool failed"
        return cls(approvals, outputs, failures)


class Stop(BaseModel):
    """The body of a stop, as the AI SDK's guide has it; all of it may be absent.

    Attributes:
        assistant_message: The message that is being made; its id is that of its run.
        active_stream_id: The same id, by itself.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    assistant_message: UiMessage | None = Field(default=None, alias="assistantMessage")
    active_stream_id: str | None = Field(default=None, alias="activeStreamId")

    @property
    def run_id(self) -> str | None:
        """The run that is to be stopped, if the client said so."""
        if self.active_stream_id is not None:
            return self.active_stream_id
        return None if self.assistant_message is None else self.assistant_message.id


def read_chat(body: Mapping[str, Any]) -> ChatRequest:
    """Read what a chat asks for.

    Raises:
        CommandMalformed: If it is wrong; the text names every field that is.
    """
    try:
        asked = ChatRequest.model_validate(body)
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error
    if not asked.said:
        raise CommandMalformed("`messages`: there is none")
    return asked


def read_stop(body: Mapping[str, Any]) -> Stop:
    """Read what is to be stopped.

    Raises:
        CommandMalformed: If it is wrong.
    """
    try:
        return Stop.model_validate(body)
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error
