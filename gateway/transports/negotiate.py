"""What a request asks for: which representation, and from where. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.log.position import After, parse_after

__all__ = ["EVENT_STREAM", "JSON", "NDJSON", "after_of", "choose", "names"]

EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"
JSON = "application/json"

_QUALITY = re.compile(r"(0(\.[0-9]{0,3})?|1(\.0{0,3})?)", re.ASCII)


def choose(accept: str | None, offered: Sequence[str]) -> str | None:
    """Return the offered media type that an `Accept` header likes best (RFC 9110, 12.5.1).

    Of those it likes equally, the first offered one; so that is what `*/*` and no header get.
    Returns None if it wants none of them.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    best, best_quality = None, 0.0
    for media_type in offered:
        quality = _quality_of(media_type, ranges)
        if quality > best_quality:
            best, best_quality = media_type, quality
    return best


def names(accept: str | None, media_type: str) -> bool:
    """Whether an `Accept` header names a media type itself, and does not refuse it.

    Wildcards, and no header, name nothing.
    """
    ranges = [_media_range(part) for part in (accept or "").split(",")]
    return any(name == media_type and quality > 0 for name, quality in ranges)


def _media_range(text: str) -> tuple[str, float]:
    """Read one element of the header; a quality that cannot be read counts as 0."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            value = value.strip()
            return name, float(value) if _QUALITY.fullmatch(value) else 0.0
    return name, 1.0


def _quality_of(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the quality that the most specific matching range gives to a media type."""
    family = media_type.partition("/")[0]
    for wanted in (media_type, f"{family}/*", "*/*"):
        for name, quality in ranges:
            if name == wanted:
                return quality
    return 0.0


def after_of(last_event_id: str | None, after: str | None) -> After:
    """Return where a reader wants to start: `Last-Event-ID` wins over `?after=`.

    A browser repeats the first URL when it reconnects, and only the header is up to date.

    Raises:
        CursorMalformed: If the one that counts is neither `0`, `$` nor a cursor.
    """
    return parse_after(last_event_id or after)
