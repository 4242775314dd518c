"""Graphs that hold a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.graph.keys import ListKey
from runtime.graph.speech import MESSAGES_NAME
from runtime.graph.view import Viewed
from runtime.messages import Message

__all__ = ["MESSAGES", "assistant", "get_messages", "user"]

MESSAGES = ListKey(MESSAGES_NAME, Message)
"""The conversation. A graph that declares it begins with the messages that it is given."""


def get_messages(state: Viewed) -> list[Message]:
    """Return the conversation so far."""
    return state.get(MESSAGES)


def assistant(text: str) -> Message:
    """Return what a model says."""
    return Message(role="assistant", content=text)


def user(text: str) -> Message:
    """Return what a user says."""
    return Message(role="user", content=text)


def first_of(messages: Sequence[Message]) -> str:
    """Return what the user said last; empty if nobody did."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")
