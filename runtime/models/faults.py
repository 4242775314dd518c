"""What a provider says when it fails, in the runtime's words.

The text of a provider's error may quote the key or the prompt, so it stays in the log, as the cause;
what clients see is made from the status and the provider's own code word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from runtime.errors import ModelError, ModelRefused, ModelSpokeNonsense, ModelUnavailable

__all__ = ["from_status", "from_stream", "unreachable"]

_SERVER_ERROR = 500
_MAY_WORK_LATER = frozenset({408, 409, 429})
"""Timed out, conflict, too many requests; as the SDKs' own retries have it."""

_LATER_WORDS = re.compile(r"server_error|api_error|rate_limit|overloaded|unavailable|timeout")
"""In the code words of errors that come after a good status, where no status tells."""

_CODE_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_SPENT = frozenset({"insufficient_quota", "billing_error"})
"""Waiting does not fill an account."""


def from_status(status: int, body: object, headers: Mapping[str, str]) -> ModelError:
    """Return the fault to raise for an answer with an HTTP status of 400 or more.

    Args:
        status: The status.
        body: The answer's body, decoded where it is JSON.
        headers: Its headers, with names that are looked up in any case.
    """
    word = _code_word(body)
    told = f"HTTP {status}, {word}" if word else f"HTTP {status}"
    later = status in _MAY_WORK_LATER or status >= _SERVER_ERROR
    if later and word not in _SPENT:
        return ModelUnavailable(
            f"the provider is not available: {told}",
            status_code=status,
            retry_after=_retry_after(headers),
        )
    return ModelRefused(f"the provider refused the request: {told}", status_code=status)


def from_stream(body: object) -> ModelError:
    """Return the fault to raise for an error that came as an event, after a good HTTP status."""
    word = _code_word(body)
    told = f": {word}" if word else ""
    status = _inner(body).get("code")
    status = status if isinstance(status, int) else None
    if (status is not None and (status in _MAY_WORK_LATER or status >= _SERVER_ERROR)) or (
        _LATER_WORDS.search(word)
    ):
        return ModelUnavailable(f"the provider failed while answering{told}", status_code=status)
    return ModelRefused(f"the provider stopped answering{told}", status_code=status)


def unreachable(*, begun: bool, in_time: bool = True) -> ModelError:
    """Return the fault to raise when the connection fails.

    Args:
        begun: Whether a delta had come already.
        in_time: False if it was the silence that was too long.
    """
    if begun:
        return ModelSpokeNonsense("the model's answer broke off before its end")
    if in_time:
        return ModelUnavailable("the provider cannot be reached")
    return ModelUnavailable("the provider did not answer in time")


def _inner(body: object) -> Mapping[str, object]:
    """Return the error itself; some providers wrap it in an object."""
    if not isinstance(body, Mapping):
        return {}
    error = body.get("error")
    return error if isinstance(error, Mapping) else body


def _code_word(body: object) -> str:
    """Return the provider's own word for an error, or nothing."""
    error = _inner(body)
    for field in ("code", "type"):
        value = error.get(field)
        if isinstance(value, str) and _CODE_WORD.fullmatch(value):
            return value
    return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the provider asks to wait: a number, or a date (RFC 9110 10.2.3)."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        value = headers.get("retry-after")
        if not value:
            return None
        if value.strip()[:1].isdigit():
            return float(value)
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
