"""Server-sent events out of a handler of one's own: the words of a stream, and who writes them."""

from __future__ import annotations

from runtime.sse.emitter import SseEmitter
from runtime.sse.words import StreamWords, json_line

__all__ = ["SseEmitter", "StreamWords", "json_line"]
