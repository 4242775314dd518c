"""Every exception of the runtime.

    RuntimeFault
    ├── ModelError                 the model call failed
    │   ├── ModelUnavailable       may work when tried again; retried before the first delta only
    │   ├── ModelRefused           the provider will not answer this request as it is
    │   └── ModelSpokeNonsense     the answer broke the provider's own protocol, or was cut short
    ├── ToolFailed                 told to the model; the run goes on
    │   ├── ToolUnknown            the model called a tool that does not exist
    │   ├── ArgumentsInvalid       the arguments are no JSON, or do not fit the tool
    │   └── ToolTimedOut           the tool was not done within its time limit
    ├── StepLimitExceeded          the run called the model too often
    ├── AgentUnknown               no agent of that name is registered
    └── OptionsRefused             a run option is unknown or has a bad value

`code` is the word that clients see; the text of an exception is made from its fields and carries
neither secrets nor stack traces.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AgentUnknown",
    "ArgumentsInvalid",
    "ModelError",
    "ModelRefused",
    "ModelSpokeNonsense",
    "ModelUnavailable",
    "OptionsRefused",
    "RuntimeFault",
    "StepLimitExceeded",
    "ToolFailed",
    "ToolTimedOut",
    "ToolUnknown",
]


class RuntimeFault(Exception):
    """Base of all that the runtime raises on purpose."""

    code = "runtime_fault"
    retryable = False


class ModelError(RuntimeFault):
    """A model call failed.

    Attributes:
        status_code: The provider's HTTP status, where there was one.
        retry_after: Seconds that the provider asked to wait, where it did.
    """

    code = "model_error"

    def __init__(
        self, message: str, *, status_code: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.retry_after = retry_after


class ModelUnavailable(ModelError):
    """The provider could not be reached, was overloaded, or failed on its side."""

    code = "model_unavailable"
    retryable = True


class ModelRefused(ModelError):
    """The provider refused this request: bad key, unknown model, too long, not allowed."""

    code = "model_refused"


class ModelSpokeNonsense(ModelError):
    """The provider's answer broke its own protocol, or ended without saying that it had ended."""

    code = "model_stream_broken"


class ToolFailed(RuntimeFault):
    """A tool reports a failure to the model; raise it from a tool with a text for the model."""

    code = "tool_failed"


class ToolUnknown(ToolFailed):
    """The model called a tool that the agent does not have."""

    code = "tool_unknown"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = sorted(known)
        there_are = (
            f"the tools are: {', '.join(self.known)}" if self.known else "there are no tools"
        )
        super().__init__(f"there is no tool {name!r}; {there_are}")


class ArgumentsInvalid(ToolFailed):
    """The arguments of a call are no JSON object, or do not fit the tool's parameters."""

    code = "tool_arguments_invalid"


class ToolTimedOut(ToolFailed):
    """The tool was not done within its `limit` in seconds."""

    code = "tool_timeout"

    def __init__(self, name: str, limit: float) -> None:
        super().__init__(f"the tool {name!r} was not done within {limit:g} seconds")
        self.name = name
        self.limit = limit


class StepLimitExceeded(RuntimeFault):
    """The run called the model `limit` times and still was not done."""

    code = "step_limit_exceeded"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the run was not done after {limit} model calls")
        self.limit = limit


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
