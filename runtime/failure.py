"""How failures are told in events: in words that a client may see."""

from __future__ import annotations

from runtime.errors import ModelError, NodeError, RuntimeFault
from runtime.events import ErrorInfo

__all__ = ["CANCELLED", "error_info", "timed_out"]

CANCELLED = ErrorInfo(code="cancelled", message="the run was cancelled")
"""Why things were closed when a run is cancelled."""


def timed_out(limit: float | None) -> ErrorInfo:
    """Return why things were closed when a run was not done within `limit` seconds."""
    return ErrorInfo(code="timeout", message=f"the run was not done within {limit or 0:g} seconds")


def error_info(error: BaseException) -> ErrorInfo:
    """Return the public form of an error.

    Faults of the runtime speak for themselves. Of any other error only the class is told: its text
    is for the log.
    """
    if isinstance(error, NodeError) and error.__cause__ is not None:
        return _node_info(error, error.__cause__)
    if isinstance(error, ModelError):
        return ErrorInfo(
            code=error.code,
            message=str(error),
            status_code=error.status_code,
            retryable=error.retryable,
            retry_after=error.retry_after,
        )
    if isinstance(error, RuntimeFault):
        return ErrorInfo(code=error.code, message=str(error), retryable=error.retryable)
    return ErrorInfo(
        code="internal_error", message=f"the agent failed unexpectedly: {type(error).__name__}"
    )


def _node_info(error: NodeError, cause: BaseException) -> ErrorInfo:
    """Return a node's failure, with what is known of its cause."""
    why = error_info(cause)
    return ErrorInfo(
        code=error.code,
        message=str(error),
        status_code=why.status_code,
        retryable=why.retryable,
        retry_after=why.retry_after,
        node=error.node,
        cause=(why.code if isinstance(cause, RuntimeFault) else type(cause).__name__,),
    )
