"""The UI message stream of Vercel's AI SDK, and what its chats ask for. Pure."""

from __future__ import annotations

from gateway.codecs.vercel.chunks import DONE
from gateway.codecs.vercel.codec import UiMessageStream, still_waiting
from gateway.codecs.vercel.requests import Answers, ChatRequest, Stop, read_chat, read_stop
from gateway.codecs.vercel.state import StreamState
from gateway.codecs.vercel.superseding import superseded_in
from gateway.codecs.vercel.ui_messages import UiMessage, message_id_for, read_history

__all__ = [
    "DONE",
    "Answers",
    "ChatRequest",
    "Stop",
    "StreamState",
    "UiMessage",
    "UiMessageStream",
    "message_id_for",
    "read_chat",
    "read_history",
    "read_stop",
    "still_waiting",
    "superseded_in",
]
