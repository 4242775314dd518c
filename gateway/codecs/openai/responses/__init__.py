"""OpenAI's Responses: a segment of a run as one response, its events and its object. Pure."""

from __future__ import annotations

from gateway.codecs.openai.responses.codec import Responses
from gateway.codecs.openai.responses.objects import input_objects, response_id
from gateway.codecs.openai.responses.state import Item, State
from gateway.codecs.openai.responses.whole import Whole

__all__ = ["Item", "Responses", "State", "Whole", "input_objects", "response_id"]
