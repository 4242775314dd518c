"""What a graph's output is in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from runtime.graph.keys import Key
from runtime.messages import Message

__all__ = ["MESSAGES_NAME", "count_of", "text_of", "words_of"]

MESSAGES_NAME = "messages"
"""The key that holds a graph's conversation."""


def words_of(output: Any) -> str:
    """Return what the output says to people: a text, or an answer at the end of a conversation."""
    if isinstance(output, str):
        return output
    if isinstance(output, Sequence) and output and isinstance(output[-1], Message):
        output = output[-1]
    if isinstance(output, Message) and output.role == "assistant":
        return output.content
    return ""


def text_of(output: Any, data: Any) -> str:
    """Return the output as text: its words, or else its plain `data` as JSON."""
    return words_of(output) or ("" if output == "" else to_json(data).decode())


def count_of(keys: Mapping[str, Key[Any]], values: Mapping[str, Any]) -> int:
    """Return how many messages the conversation in the state has."""
    key = keys.get(MESSAGES_NAME)
    return len(values.get(MESSAGES_NAME, ())) if key is not None and key.appends else 0
