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
    ├── StepLimitExceeded          the run made too many steps
    ├── BudgetExceeded             the run took more tokens or money than it may
    ├── GuardrailTripwire          a guardrail said no to the input or the output
    ├── OutputParseError           the answer does not fit the agent's `output_type`
    ├── GraphError
    │   ├── GraphBuildError        the graph's definition has problems; all are listed
    │   ├── UpdateInvalid          a node wrote an undeclared key, or a value of the wrong type
    │   ├── ConflictingWrites      two nodes of one superstep set the same key
    │   ├── RouteInvalid           a node went to a node that it had not declared
    │   ├── NodeError              a node raised; the cause is `__cause__`
    │   └── NodeTimedOut           a node was not done within its time limit
    ├── CheckpointError
    │   ├── CheckpointUnknown      there is no such checkpoint, or none of this session
    │   └── CheckpointUnwritable   a value of the state cannot be written as JSON
    ├── RunAborted                 the run was stopped before it was done
    ├── RunTimeout                 the run was not done in time; also a `TimeoutError`
    ├── RunFault                   a run failed in another process, or below this one
    ├── StreamNotConsumedError     a result was awaited that nobody is streaming
    ├── NoResultError              there is no result yet
    ├── SessionBusy                the session is already streaming a turn
    ├── EmptySequenceError         `last` of nothing
    ├── AgentUnknown               no agent of that name is registered
    └── OptionsRefused             a run option is unknown or has a bad value

`code` is the word that clients see; the text of an exception is made from its fields and carries
neither secrets nor stack traces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = [
    "AgentUnknown",
    "ArgumentsInvalid",
    "BudgetExceeded",
    "CheckpointError",
    "CheckpointUnknown",
    "CheckpointUnwritable",
    "ConflictingWrites",
    "EmptySequenceError",
    "GraphBuildError",
    "GraphError",
    "GuardrailTripwire",
    "ModelError",
    "ModelRefused",
    "ModelSpokeNonsense",
    "ModelUnavailable",
    "NoResultError",
    "NodeError",
    "NodeTimedOut",
    "OptionsRefused",
    "OutputParseError",
    "RouteInvalid",
    "RunAborted",
    "RunFault",
    "RunTimeout",
    "RuntimeFault",
    "SessionBusy",
    "StepLimitExceeded",
    "StreamNotConsumedError",
    "ToolFailed",
    "ToolTimedOut",
    "ToolUnknown",
    "UpdateInvalid",
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


class GraphError(RuntimeFault):
    """Base of what goes wrong with graphs."""

    code = "graph_error"


class GraphBuildError(GraphError):
    """The graph's definition has these `problems`, all of them."""

    code = "graph_invalid"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class UpdateInvalid(GraphError):
    """A node wrote a key that is not declared, or a value that does not fit it."""

    code = "update_invalid"

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"key {key!r}: {problem}")
        self.key = key


class ConflictingWrites(GraphError):
    """Several nodes of one superstep set a key that keeps one value only."""

    code = "conflicting_writes"

    def __init__(self, key: str, nodes: Iterable[str]) -> None:
        self.key = key
        self.nodes = tuple(nodes)
        super().__init__(
            f"key {key!r} was set by {' and '.join(map(repr, self.nodes))} in one superstep; "
            "give it a reducer, or let one of them write it"
        )


class RouteInvalid(GraphError):
    """A node went to a node that it had not declared as a target."""

    code = "route_invalid"

    def __init__(self, node: str, target: str, declared: Iterable[str]) -> None:
        self.node = node
        self.target = target
        known = ", ".join(map(repr, declared)) or "none"
        super().__init__(f"node {node!r} went to {target!r}; its declared targets are: {known}")


class NodeError(GraphError):
    """A node raised. `node` names it, with the subgraphs it is in; `__cause__` is what it raised.

    What the cause says is part of the text only if it is a fault of the runtime: any other text is
    not known to be fit for clients.
    """

    code = "node_failed"

    def __init__(self, node: str, error: BaseException) -> None:
        said = str(error) if isinstance(error, RuntimeFault) else type(error).__name__
        super().__init__(f"node {node!r} failed: {said}")
        self.node = node


class NodeTimedOut(GraphError):
    """The node was not done within its `limit` in seconds."""

    code = "node_timeout"
    retryable = True

    def __init__(self, limit: float) -> None:
        super().__init__(f"it was not done within {limit:g} seconds")
        self.limit = limit


class CheckpointError(RuntimeFault):
    """Base of what goes wrong with checkpoints."""

    code = "checkpoint_error"


class CheckpointUnknown(CheckpointError):
    """There is no such checkpoint, or the session has none."""

    code = "checkpoint_unknown"


class CheckpointUnwritable(CheckpointError):
    """The value of `key` cannot be written as JSON, so the state cannot be kept."""

    code = "checkpoint_unwritable"

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"the value of key {key!r} cannot be written: {problem}")
        self.key = key


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
