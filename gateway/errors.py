"""Every exception of the gateway, with the words and numbers that clients see.

    GatewayError                  code                  HTTP  WS close
    ├── SessionUnknown            session_unknown       404   4404
    ├── SessionGone               session_gone          410   4410
    ├── SessionClosed             session_closed        409   4409
    ├── SessionConflict           session_conflict      409   4409
    ├── CursorMalformed           cursor_malformed      400   4400
    ├── CursorInvalid             (its reason)          410   4410   answered by `stream.reset`
    ├── EngineUnavailable         engine_unavailable    503   1013   retryable
    │   └── EngineClosed                                              the server itself let go of it
    ├── Fenced                    fenced                409   4409   internal: the run has a new owner
    ├── LogMoved                  log_moved             409   4409   internal: decide again
    ├── ShuttingDown              shutting_down         503   1012   retryable
    ├── SlowClient                slow_client           503   4008   retryable
    ├── SlowBody                  request_timeout       408   4408   the body did not come in time
    ├── ServerFull                server_full           503   1013   retryable
    ├── TooManySubscriptions      too_many_subscriptions  409  4409
    ├── CommandRefused
    │   ├── CommandMalformed      command_malformed     422   4400
    │   ├── CommandConflict       command_conflict      409   4409
    │   ├── CommandTooLarge       command_too_large     413   4413
    │   ├── RunActive             run_active            409   4409
    │   ├── RunWaits              approval_required     409   4409
    │   ├── RunUnknown            run_unknown           404   4404
    │   ├── NotQueued             not_queued            409   4409
    │   ├── RunNotResumable       run_not_resumable     409   4409
    │   ├── ApprovalUnknown       approval_unknown      404   4404
    │   ├── ApprovalAlreadyResolved  approval_resolved  409   4409
    │   └── AgentNotFound         agent_unknown         404   4404
    ├── NotPermitted              not_permitted         403   4403
    └── StartupRefused            startup_refused       (exit code 2 of the command line)

Codes 4000-4399 mean "reconnect with your cursors", 4400-4999 "do not retry as you are".
The text of an exception is made for the client: it never holds another exception's text.
"""

from __future__ import annotations

from typing import ClassVar, Literal

__all__ = [
    "AgentNotFound",
    "ApprovalAlreadyResolved",
    "ApprovalUnknown",
    "CommandConflict",
    "CommandMalformed",
    "CommandRefused",
    "CommandTooLarge",
    "CursorInvalid",
    "CursorMalformed",
    "EngineClosed",
    "EngineUnavailable",
    "Fenced",
    "GatewayError",
    "LogMoved",
    "NotPermitted",
    "NotQueued",
    "ResetReason",
    "RunActive",
    "RunNotResumable",
    "RunUnknown",
    "RunWaits",
    "ServerFull",
    "SessionClosed",
    "SessionConflict",
    "SessionGone",
    "SessionUnknown",
    "ShuttingDown",
    "SlowBody",
    "SlowClient",
    "StartupRefused",
    "TooManySubscriptions",
]

ResetReason = Literal["epoch_changed", "trimmed", "cursor_ahead", "fork"]
"""Why a cursor cannot be served (PROTOCOL.md, section 7)."""


class GatewayError(Exception):
    """Base of all that the gateway raises on purpose."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    close_code: ClassVar[int] = 1011
    retryable: ClassVar[bool] = False


class SessionUnknown(GatewayError):
    """There is no such session, or the caller may not know of it."""

    code = "session_unknown"
    http_status = 404
    close_code = 4404

    def __init__(self, session_id: str) -> None:
        super().__init__(f"there is no session {session_id!r}")
        self.session_id = session_id


class SessionGone(GatewayError):
    """The session was deleted."""

    code = "session_gone"
    http_status = 410
    close_code = 4410

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} was deleted")
        self.session_id = session_id


class SessionClosed(GatewayError):
    """The session is closed: it can be read, and takes no more commands."""

    code = "session_closed"
    http_status = 409
    close_code = 4409

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} is closed")
        self.session_id = session_id


class SessionConflict(GatewayError):
    """A session of this id exists and was created with another body."""

    code = "session_conflict"
    http_status = 409
    close_code = 4409

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} exists and was created differently")
        self.session_id = session_id


class CursorMalformed(GatewayError):
    """A cursor cannot be parsed."""

    code = "cursor_malformed"
    http_status = 400
    close_code = 4400

    def __init__(
        self, said: str = "the cursor is neither `0`, `$` nor a cursor that this server gave"
    ) -> None:
        super().__init__(said)


class CursorInvalid(GatewayError):
    """A well-formed cursor points at nothing in this log; the reader needs a snapshot."""

    code = "cursor_invalid"
    http_status = 410
    close_code = 4410

    def __init__(self, reason: ResetReason) -> None:
        super().__init__(f"the cursor cannot be served: {reason}")
        self.reason = reason


class EngineUnavailable(GatewayError):
    """The store failed; nothing was acknowledged."""

    code = "engine_unavailable"
    http_status = 503
    close_code = 1013
    retryable = True

    def __init__(self, message: str = "the store is not available") -> None:
        super().__init__(message)


class EngineClosed(EngineUnavailable):
    """The store was closed, because the server stops: it does not come back."""

    def __init__(self) -> None:
        super().__init__("the store is closed")


class Fenced(GatewayError):
    """The writer no longer owns the run that it writes for; nothing was written."""

    code = "fenced"
    http_status = 409
    close_code = 4409


class LogMoved(GatewayError):
    """The log has entries that the writer did not know of when it decided; nothing was written."""

    code = "log_moved"
    http_status = 409
    close_code = 4409

    def __init__(self) -> None:
        super().__init__("the session has changed in the meantime")


class ShuttingDown(GatewayError):
    """The server is stopping and takes no more work."""

    code = "shutting_down"
    http_status = 503
    close_code = 1012
    retryable = True

    def __init__(self) -> None:
        super().__init__("the server is shutting down")


class SlowClient(GatewayError):
    """The client took no bytes for the write time limit."""

    code = "slow_client"
    http_status = 503
    close_code = 4008
    retryable = True

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the client took no bytes for {seconds:g} s")


class SlowBody(GatewayError):
    """The body of a request did not come within the time limit."""

    code = "request_timeout"
    http_status = 408
    close_code = 4408

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the body did not come within {seconds:g} s")


class ServerFull(GatewayError):
    """The server has taken on as much as it may; later there may be room."""

    code = "server_full"
    http_status = 503
    close_code = 1013
    retryable = True

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"this server has its {limit} {what}; come back later")


class TooManySubscriptions(GatewayError):
    """A client listens to as many sessions as one connection may carry."""

    code = "too_many_subscriptions"
    http_status = 409
    close_code = 4409

    def __init__(self, limit: int) -> None:
        super().__init__(f"one client may listen to {limit} sessions at once")
        self.limit = limit


class CommandRefused(GatewayError):
    """Base of the reasons not to obey a command. It had no effect."""

    http_status = 409
    close_code = 4409


class CommandMalformed(CommandRefused):
    """The command cannot be read: bad JSON, unknown type, unknown field, bad value."""

    code = "command_malformed"
    http_status = 422
    close_code = 4400


class CommandConflict(CommandRefused):
    """A command of this id was accepted before, with another body."""

    code = "command_conflict"

    def __init__(self, command_id: str) -> None:
        super().__init__(f"command {command_id!r} was accepted before with another body")


class CommandTooLarge(CommandRefused):
    """The command is larger than the server takes."""

    code = "command_too_large"
    http_status = 413
    close_code = 4413

    def __init__(self, limit: int) -> None:
        super().__init__(f"a command may have {limit} bytes")


class RunActive(CommandRefused):
    """The session is busy, and the policy was to be refused then."""

    code = "run_active"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id!r} is active")
        self.run_id = run_id


class RunWaits(CommandRefused):
    """The session's run waits for a human, and this client could not answer."""

    code = "approval_required"


class RunUnknown(CommandRefused):
    """The session has no such run."""

    code = "run_unknown"
    http_status = 404
    close_code = 4404

    def __init__(self, run_id: str) -> None:
        super().__init__(f"this session has no run {run_id!r}")


class NotQueued(CommandRefused):
    """The run waits in the queue no more: it was started, handed over, cancelled or dropped."""

    code = "not_queued"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id!r} does not wait in the queue any more")
        self.run_id = run_id


class RunNotResumable(CommandRefused):
    """There is nothing to continue."""

    code = "run_not_resumable"


class ApprovalUnknown(CommandRefused):
    """The session has no such approval."""

    code = "approval_unknown"
    http_status = 404
    close_code = 4404

    def __init__(self, approval_id: str) -> None:
        super().__init__(f"this session has no approval {approval_id!r}")


class ApprovalAlreadyResolved(CommandRefused):
    """Somebody else's decision was first."""

    code = "approval_resolved"

    def __init__(self, approval_id: str, decision: str, by: str | None) -> None:
        super().__init__(f"approval {approval_id!r} was {decision} by {by or 'the server'}")
        self.decision = decision
        self.by = by


class AgentNotFound(CommandRefused):
    """No agent of that name is registered; the text names those that are."""

    code = "agent_unknown"
    http_status = 404
    close_code = 4404


class NotPermitted(GatewayError):
    """The request comes from an origin or names a host that is not allowed."""

    code = "not_permitted"
    http_status = 403
    close_code = 4403


class StartupRefused(GatewayError):
    """The server cannot start as it was asked to; the text is one clear line."""

    code = "startup_refused"
