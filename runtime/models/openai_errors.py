"""What the OpenAI SDK raises, in the runtime's words.

The text of a provider's error may quote the key or the prompt, so it stays in the log, as the cause;
what clients see is made from the status and the provider's own code word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import openai

from runtime.errors import ModelError, ModelRefused, ModelSpokeNonsense, ModelUnavailable

__all__ = ["translate"]

_SERVER_ERROR = 500
_MAY_WORK_LATER = frozenset({408, 409, 429})
"""Timed out, conflict, too many requests; as the SDK's own retries have it."""

_LATER_WORDS = re.compile(r"server_error|rate_limit|overloaded|unavailable|timeout")
_CODE_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def translate(error: Exception, *, begun: bool) -> ModelError:
    """Return the fault to raise from an error of the SDK.

    Args:
        error: An `openai.OpenAIError`, or a `ValueError` for an answer that is no JSON or no UTF-8.
        begun: Whether a delta had come already.
    """
    fault: ModelError
    match error:
        case openai.APIStatusError():
            fault = _from_status(error)
        case openai.APIConnectionError() if begun:
            fault = ModelSpokeNonsense("the model's answer broke off before its end")
        case openai.APITimeoutError():
            fault = ModelUnavailable("the provider did not answer in time")
        case openai.APIConnectionError():
            fault = ModelUnavailable("the provider cannot be reached")
        case openai.APIResponseValidationError() | ValueError():
            fault = ModelSpokeNonsense("the provider's answer cannot be read")
        case openai.APIError():
            fault = _from_stream(error)
        case _:
            fault = ModelRefused("the provider's client refused the request")
    return fault


def _from_status(error: openai.APIStatusError) -> ModelError:
    """Translate an answer with an HTTP status of 400 or more."""
    status, word = error.status_code, _code_word(error.body)
    told = f"HTTP {status}, {word}" if word else f"HTTP {status}"
    later = status in _MAY_WORK_LATER or status >= _SERVER_ERROR
    if later and word != "insufficient_quota":  # waiting does not fill an account
        return ModelUnavailable(
            f"the provider is not available: {told}",
            status_code=status,
            retry_after=_retry_after(error.response.headers),
        )
    return ModelRefused(f"the provider refused the request: {told}", status_code=status)


def _from_stream(error: openai.APIError) -> ModelError:
    """Translate an error that came as an event of the stream, after a good HTTP status."""
    word = _code_word(error.body)
    told = f": {word}" if word else ""
    status = error.body.get("code") if isinstance(error.body, Mapping) else None
    status = status if isinstance(status, int) else None
    if (status is not None and (status in _MAY_WORK_LATER or status >= _SERVER_ERROR)) or (
        _LATER_WORDS.search(word)
    ):
        return ModelUnavailable(f"the provider failed while answering{told}", status_code=status)
    return ModelRefused(f"the provider stopped answering{told}", status_code=status)


def _code_word(body: object) -> str:
    """Return the provider's own word for an error, or nothing."""
    if isinstance(body, Mapping):
        for field in ("code", "type"):
            value = body.get(field)
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
