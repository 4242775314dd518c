"""The head that other people's servers give to a stream, to the byte."""

from __future__ import annotations

from aiohttp import web

__all__ = ["stream_head"]


def stream_head(request: web.Request, content_type: str = "text/event-stream") -> dict[str, str]:
    """Return the headers that go in place of our own."""
    return {
        "Content-Type": content_type,
        "Cache-Control": "no-cache",
        "Connection": "keep-alive" if request.keep_alive else "close",
    }
