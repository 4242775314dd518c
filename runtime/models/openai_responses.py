"""Hosted models behind OpenAI's Responses API.

Needs the extra `openai`.
"""

from __future__ import annotations

from typing import Any

from runtime.models.base import ModelRequest
from runtime.models.exchange import AnswerDecoder
from runtime.models.openai import OpenAIModel
from runtime.models.responses_wire import ResponseDecoder, request_body

__all__ = ["OpenAIResponsesModel"]


class OpenAIResponsesModel(OpenAIModel):
    """A model behind the Responses API, at OpenAI or at any other `base_url`.

    It is made as an `OpenAIModel` is. The conversation is sent whole each time and the provider is
    asked to keep nothing (`store` is false): the log has it. What the model has reasoned is not sent
    back to it.

    The API knows no stop sequences; they are cut here, and what the model says after one is not
    paid for beyond what was on its way. To be shown what the model thinks, pass
    `extra={"reasoning": {"summary": "auto"}}`.
    """

    _path = "/responses"

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        return request_body(self._name, request)

    def _decoder(self) -> AnswerDecoder:
        return ResponseDecoder()
