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
    │   ├── NodeTimedOut           a node was not done within its time limit
    │   └── ApprovalRejected       a human did not let a node run
    ├── CheckpointError
    │   ├── CheckpointUnknown      no such checkpoint, or the session has none to go on from
    │   └── CheckpointUnwritable   a value of the state cannot be written as JSON
    ├── RunAborted                 the run was stopped before it was done
    ├── RunTimeout                 the run was not done in time; also a `TimeoutError`
    ├── RunFault                   a run failed in another process, or below this one
    ├── StreamNotConsumedError     a result was awaited that nobody is streaming
    ├── NoResultError              there is no result yet
    ├── SessionBusy                the session is already streaming a turn
    ├── ApprovalUnknown            no such approval is waited for
    ├── ApprovalSettled            the approval was answered already
    ├── EmptySequenceError         `last` of nothing
    ├── AgentUnknown               no agent of that name is registered
    ├── OptionsRefused             a run option is unknown or has a bad value
    └── ToolsRefused               the client's tools cannot be taken

`code` is the word that clients see; the text of an exception is made from its fields and carries
neither secrets nor stack traces.
"""

from __future__ import annotations

from runtime.errors.base import RuntimeFault
from runtime.errors.graph import (
    ApprovalRejected,
    CheckpointError,
    CheckpointUnknown,
    CheckpointUnwritable,
    ConflictingWrites,
    GraphBuildError,
    GraphError,
    NodeError,
    NodeTimedOut,
    RouteInvalid,
    UpdateInvalid,
)
from runtime.errors.model import ModelError, ModelRefused, ModelSpokeNonsense, ModelUnavailable
from runtime.errors.run import (
    AgentUnknown,
    ApprovalSettled,
    ApprovalUnknown,
    BudgetExceeded,
    EmptySequenceError,
    GuardrailTripwire,
    NoResultError,
    OptionsRefused,
    OutputParseError,
    RunAborted,
    RunFault,
    RunTimeout,
    SessionBusy,
    StepLimitExceeded,
    StreamNotConsumedError,
    ToolsRefused,
)
from runtime.errors.tool import ArgumentsInvalid, ToolFailed, ToolTimedOut, ToolUnknown

__all__ = [
    "AgentUnknown",
    "ApprovalRejected",
    "ApprovalSettled",
    "ApprovalUnknown",
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
    "ToolsRefused",
    "UpdateInvalid",
]
