"""OpenAI's chat completions: requests, streams of chunks, and answers made of them. Pure."""

from __future__ import annotations

from gateway.codecs.openai.chat_completions.answer import completion
from gateway.codecs.openai.chat_completions.codec import ChatCompletions, ChatState
from gateway.codecs.openai.chat_completions.failure import Failure
from gateway.codecs.openai.chat_completions.request import ChatRequest, read_request

__all__ = [
    "ChatCompletions",
    "ChatRequest",
    "ChatState",
    "Failure",
    "completion",
    "read_request",
]
