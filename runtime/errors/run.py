"""What ends a run, and what is refused to those who use one."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.errors.base import RuntimeFault

__all__ = [
    "AgentUnknown",
    "ApprovalSettled",
    "ApprovalUnknown",
    "BudgetExceeded",
    "EmptySequenceError",
    "GuardrailTripwire",
    "NoResultError",
    "OptionsRefused",
    "OutputParseError",
    "RunAborted",
    "RunFault",
    "RunTimeout",
    "SessionBusy",
    "StepLimitExceeded",
    "StreamNotConsumedError",
    "ToolsRefused",
]


class StepLimitExceeded(RuntimeFault):
    """The run made `limit` steps (model calls, or supersteps) and still was not done."""

    code = "step_limit_exceeded"

    def __init__(self, limit: int, steps: str = "model calls") -> None:
        super().__init__(f"the run was not done after {limit} {steps}")
        self.limit = limit


class BudgetExceeded(RuntimeFault):
    """The run took more than its limit of `what` ("tokens", "USD") allows."""

    code = "budget_exceeded"

    def __init__(self, what: str, limit: float, used: float) -> None:
        super().__init__(f"the run took {used:g} {what}; its limit is {limit:g}")
        self.what = what
        self.limit = limit
        self.used = used


class GuardrailTripwire(RuntimeFault):
    """A guardrail said no; `stage` is where: `input`, `output`, `tool_input`, `tool_output`."""

    code = "guardrail_tripped"

    def __init__(self, name: str, stage: str, message: str | None = None) -> None:
        super().__init__(message or f"the guardrail {name!r} refused this {stage}")
        self.name = name
        self.stage = stage


class OutputParseError(RuntimeFault):
    """The answer does not fit the agent's `output_type`; `text` is the raw answer."""

    code = "output_unparsable"

    def __init__(self, output_type: str, problem: str, text: str) -> None:
        super().__init__(f"the answer is no {output_type}: {problem}")
        self.text = text


class RunAborted(RuntimeFault):
    """The run was stopped before it was done: by a token, by a consumer that left, by a client."""

    code = "cancelled"

    def __init__(self, reason: str | None = None) -> None:
        super().__init__("the run was cancelled" + (f": {reason}" if reason else ""))
        self.reason = reason


class RunTimeout(RuntimeFault, TimeoutError):
    """The run was not done within its time limit."""

    code = "timeout"


class RunFault(RuntimeFault):
    """A run failed where its exception cannot be had; `code` and text are those of its event."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class StreamNotConsumedError(RuntimeFault):
    """A result was awaited, but nobody has begun to consume the stream that produces it."""

    code = "stream_not_consumed"


class NoResultError(RuntimeFault):
    """There is no result: no turn was streamed to its end yet."""

    code = "no_result"


class SessionBusy(RuntimeFault):
    """The session is already streaming a turn."""

    code = "session_busy"


class ApprovalUnknown(RuntimeFault):
    """The session never asked for this approval."""

    code = "approval_unknown"


class ApprovalSettled(RuntimeFault):
    """The approval was answered, or had expired; the first answer counts."""

    code = "approval_settled"


class EmptySequenceError(RuntimeFault):
    """The last element was wanted of a sequence that had none."""

    code = "empty_sequence"


class AgentUnknown(RuntimeFault):
    """No agent of that name is registered."""

    code = "agent_unknown"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = sorted(known)
        super().__init__(f"there is no agent {name!r}; registered: {', '.join(self.known)}")


class OptionsRefused(RuntimeFault):
    """A run option is unknown or has a value that the agent does not take."""

    code = "options_invalid"


class ToolsRefused(RuntimeFault):
    """Tools of a client's that the agent cannot take, or whose names are taken."""

    code = "tools_refused"
