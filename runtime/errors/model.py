"""What goes wrong with model calls."""

from __future__ import annotations

from runtime.errors.base import RuntimeFault

__all__ = ["ModelError", "ModelRefused", "ModelSpokeNonsense", "ModelUnavailable"]


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
