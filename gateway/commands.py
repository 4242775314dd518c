"""What a client may ask of a session: a closed union, the same over HTTP and WebSocket. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from gateway.errors import CommandMalformed
from runtime.history import check_imported
from runtime.messages import ClientTool, Message

__all__ = [
    "COMMAND_TYPES",
    "Ack",
    "ApprovalDecision",
    "Cancel",
    "CancelAfter",
    "Command",
    "CommandId",
    "Continue",
    "CreateSession",
    "EditQueue",
    "Fork",
    "Ping",
    "Policy",
    "Pong",
    "Role",
    "Send",
    "SessionCommand",
    "SessionId",
    "TextPart",
    "ToolResult",
    "digest",
    "explain",
    "parse_command",
    "parse_create",
]

SessionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
MessageId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
CommandId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
Policy = Literal["enqueue", "reject", "interrupt", "rollback", "steer"]
"""What `send` does while a run is active, or waits for a human.

`enqueue` waits for its turn, `reject` is refused. `interrupt` ends the run and starts at once, and
`rollback` also takes the run's turn out of the conversation. `steer` is handed to the run, which
sees it before its next model call.
"""
Role = Literal["controller", "observer"]
"""Whether whoever follows a session keeps its runs going, or only watches."""


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextPart(_Asked):
    """A piece of text in a message."""

    type: Literal["text"]
    text: str


class ToolResult(_Asked):
    """What came of a tool call that the session's history ends with."""

    call_id: str
    content: str


class CancelAfter(_Asked):
    """Cancel the run when nobody who controls the session was there for so many seconds."""

    cancel_after: float = Field(ge=0, allow_inf_nan=False)


def _kind_of_wish(wish: object) -> str | None:
    if wish == "continue":
        return "text"
    return "object" if isinstance(wish, Mapping | CancelAfter) else None


# Told apart by hand, since a union's own refusal names each way and the names of our classes.
OnDisconnect = Annotated[
    Annotated[Literal["continue"], Tag("text")] | Annotated[CancelAfter, Tag("object")],
    Discriminator(
        _kind_of_wish,
        custom_error_type="on_disconnect",
        custom_error_message="it is 'continue', or an object with `cancel_after` in seconds",
    ),
]
"""What becomes of a run when nobody who controls its session is there."""


class _Command(_Asked):
    id: CommandId
    session_id: SessionId


class _Beginning(_Command):
    """What lets a run begin, or go on."""

    on_disconnect: OnDisconnect = "continue"

    @property
    def cancel_after(self) -> float | None:
        """Seconds alone after which the run is cancelled; None: it goes on."""
        policy = self.on_disconnect
        return policy.cancel_after if isinstance(policy, CancelAfter) else None


class Send(_Beginning):
    """Say something to the agent; it starts a run, or waits in the queue for its turn.

    Attributes:
        text: The message; or `content`, the same in parts; or `result`, which answers a tool call.
        message_id: The client's own id of the message, unknown to the session so far.
        agent: The agent that answers; default: the session's.
        policy: What to do while a run is active.
        options: Run options, as the agent takes them.
        on_disconnect: Whether the run goes on when nobody who controls the session is there.
        timeout: Seconds after which the run is cancelled.
        instructions: For this run, in addition to the agent's own.
        tools: Tools of the client's that the model may call in this run.
        rewind_to: That message, and all after it, no longer count.
    """

    type: Literal["send"]
    text: str | None = None
    content: tuple[TextPart, ...] | None = None
    result: ToolResult | None = None
    message_id: MessageId | None = None
    agent: str | None = None
    policy: Policy = "enqueue"
    options: Mapping[str, Any] = Field(default_factory=dict)
    timeout: float | None = Field(default=None, gt=0)
    instructions: str | None = None
    tools: tuple[ClientTool, ...] = ()
    rewind_to: str | None = None

    @model_validator(mode="after")
    def _one_input(self) -> Send:
        given = [self.text, self.content, self.result]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give one of `text`, `content` and `result`")
        if self.result is None and not self.message_text.strip():
            raise ValueError("the message is empty")
        if self.policy == "steer" and self.rewind_to is not None:
            raise ValueError("`rewind_to`: what is handed to a run that works cannot go back")
        return self

    @property
    def message_text(self) -> str:
        """The whole text of the message."""
        if self.text is not None:
            return self.text
        return "".join(part.text for part in self.content or ())


class Cancel(_Command):
    """End the active run, or the named one; queued ones too.

    Attributes:
        mode: `after_step` lets the run finish its current step first.
    """

    type: Literal["cancel"]
    run_id: str | None = None
    mode: Literal["now", "after_step"] = "now"


class ApprovalDecision(_Asked):
    """What a human says to one approval. `arguments` (an object or JSON text) is for `edit`.

    `answer`, with a `result` that is any JSON value, is for calls of the client's own tools.
    """

    approval_id: str
    decision: Literal["approve", "reject", "edit", "answer"]
    message: str | None = None
    arguments: Mapping[str, Any] | str | None = None
    result: Any = None

    @model_validator(mode="after")
    def _what_goes_with_it(self) -> ApprovalDecision:
        if (self.decision == "edit") != (self.arguments is not None):
            raise ValueError("`arguments` goes with `edit`, and only with it")
        if (self.decision == "answer") != ("result" in self.model_fields_set):
            raise ValueError("`result` goes with `answer`, and only with it")
        return self

    @property
    def arguments_text(self) -> str | None:
        """The edited arguments as JSON text."""
        if self.arguments is None or isinstance(self.arguments, str):
            return self.arguments
        return orjson.dumps(dict(self.arguments)).decode()


class Continue(_Beginning):
    """Resume an interrupted run; or go on after a cancelled or failed one.

    Attributes:
        on_disconnect: As with `send`, from now on.
    """

    type: Literal["continue"]
    run_id: str | None = None
    decisions: tuple[ApprovalDecision, ...] = ()


class EditQueue(_Command):
    """Change what waits: drop inputs, and put others first.

    Attributes:
        drop: Runs that will not be.
        order: Runs that come first, in this order; those that are not named come after them.
    """

    type: Literal["edit_queue"]
    drop: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> EditQueue:
        named = (*self.drop, *self.order)
        if twice := [run_id for run_id in named if named.count(run_id) > 1]:
            raise ValueError(f"run {twice[0]!r} is named twice")
        return self


class Fork(_Command):
    """Make a new session whose history is this one's.

    Attributes:
        at: Up to this cursor; default: up to now.
        to: The new session's id; default: the server chooses.
    """

    type: Literal["fork"]
    at: str | None = None
    to: SessionId | None = None


class Ping(_Asked):
    """Ask for a sign of life; needs no session."""

    type: Literal["ping"]
    id: CommandId
    session_id: SessionId | None = None


SessionCommand = Send | Cancel | Continue | EditQueue | Fork
"""What is asked of one session."""

Command = Annotated[SessionCommand | Ping, Field(discriminator="type")]
COMMAND_TYPES = ("send", "cancel", "continue", "edit_queue", "fork", "ping")
"""What a client may write as `type`."""

_COMMAND: TypeAdapter[SessionCommand | Ping] = TypeAdapter(Command)


class CreateSession(_Asked):
    """Make a session. The same id and body again gives the same session.

    Attributes:
        history: What had been said before, elsewhere; calls in it that have no answer may be
            answered by the `result` of the first `send`.
    """

    session_id: SessionId | None = None
    agent: str | None = None
    metadata: Mapping[str, Any] = Field(default_factory=dict)
    history: tuple[Message, ...] = ()

    @field_validator("history")
    @classmethod
    def _well_formed(cls, history: tuple[Message, ...]) -> tuple[Message, ...]:
        check_imported(history)
        return history


class Ack(BaseModel):
    """A command was obeyed.

    Attributes:
        cursor: Where its first event was committed.
        forked: The session that a `fork` has made.
    """

    model_config = ConfigDict(frozen=True)

    type: Literal["ack"] = "ack"
    id: str
    session_id: str
    run_id: str | None
    cursor: str
    forked: str | None = Field(default=None, exclude_if=lambda forked: forked is None)


class Pong(BaseModel):
    """The answer to `ping`."""

    model_config = ConfigDict(frozen=True)

    type: Literal["pong"] = "pong"
    id: str


def explain(error: ValidationError) -> str:
    """Say what is wrong with client input: each problem with the name of its field."""
    problems = []
    items = error.errors(include_url=False, include_input=False)
    for item in items:
        names = [str(part) for part in item["loc"]]
        if item["type"] == "too_short":  # items that are wrong are not counted
            if not any(_is_below(other["loc"], item["loc"]) for other in items):
                least = item["ctx"]["min_length"]
                problems.append(f"`{'.'.join(names)}`: there must be at least {least}")
        elif item["type"] == "extra_forbidden":
            problems.append(f"unknown field `{names[-1]}`")
        elif item["type"] == "missing":
            problems.append(f"missing field `{names[-1]}`")
        elif item["type"] == "union_tag_invalid":
            problems.append(f"unknown `type`; known: {', '.join(COMMAND_TYPES)}")
        elif item["type"] == "union_tag_not_found":
            problems.append("missing field `type`")
        elif item["type"] == "tuple_type":
            problems.append(f"`{'.'.join(names)}`: it is a list")
        else:
            message = item["msg"].removeprefix("Value error, ")
            is_whole = names in ([], ["send"])  # other protocols have no word `send`
            problems.append(message if is_whole else f"`{'.'.join(names)}`: {message}")
    return "; ".join(problems)


def _is_below(place: tuple[int | str, ...], above: tuple[int | str, ...]) -> bool:
    return len(place) > len(above) and place[: len(above)] == above


def parse_command(data: object) -> SessionCommand | Ping:
    """Read a command from decoded JSON.

    Raises:
        CommandMalformed: If it is not one; the text names every field that is wrong.
    """
    try:
        return _COMMAND.validate_python(data)
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error


def parse_create(data: object) -> CreateSession:
    """Read the body that makes a session.

    Raises:
        CommandMalformed: As `parse_command`.
    """
    try:
        return CreateSession.model_validate(data)
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error


def digest(asked: BaseModel) -> str:
    """Return a fingerprint of a request's body, its `id` apart: equal bodies, equal fingerprints."""
    body = asked.model_dump(mode="json", exclude={"id"}, exclude_defaults=True)
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
