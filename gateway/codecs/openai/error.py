"""Errors as OpenAI's clients read them: `{message, type, param, code}`. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from gateway.errors import CommandMalformed

__all__ = ["InvalidRequest", "error_object"]

_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
_CODES = {"agent_unknown": "model_not_found", "command_malformed": "invalid_request"}
"""The words that these clients know, for ours."""


class InvalidRequest(CommandMalformed):
    """A request that cannot be taken: answered with 400 (`BadRequestError` in the SDKs).

    Attributes:
        param: The field that is wrong, such as `messages[0].content`.
        word: The `code`, for programs.
    """

    def __init__(self, message: str, *, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.word = code


def error_object(
    status: int, code: str, message: str, *, param: str | None = None
) -> dict[str, Any]:
    """Return the inner object of an error.

    Args:
        status: The HTTP status that it has, or would have: the `type` goes by it.
        code: Ours; those for which these clients have a word of their own are translated.
        message: A sentence for people.
        param: The field of the request that is wrong.
    """
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    else:
        kind = _TYPES.get(HTTPStatus(status), "invalid_request_error")
    return {"message": message, "type": kind, "param": param, "code": _CODES.get(code, code)}
