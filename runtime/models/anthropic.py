"""Anthropic's hosted models, through their Messages API.

Needs the extra `anthropic`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from runtime.errors import ModelRefused
from runtime.models.anthropic_wire import MessageDecoder, request_body
from runtime.models.base import ModelRequest
from runtime.models.exchange import OpenAnswer, SdkErrors
from runtime.models.hosted import CONNECT_SECONDS, SILENCE_SECONDS, HostedModel

# Here and not in the constructor, because it takes half a second, and models are also made while a
# server runs. That the extra is missing is said by the constructor.
try:
    import anthropic
except ImportError as error:
    _missing: ImportError | None = error
else:
    _missing = None

__all__ = ["AnthropicModel"]

MAX_TOKENS = 4096
"""Of an answer, unless a run says otherwise: the API wants a limit, and every model takes this one
(older ones take no more). About six pages."""


class AnthropicModel(HostedModel):
    """A model behind the Messages API.

    It takes a temperature from 0 to 1 and refuses a higher one.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = SILENCE_SECONDS,
        max_tokens: int = MAX_TOKENS,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        This reads certificates from the disk: once a server runs, do it in a thread.

        Args:
            model: The model's name, as the provider knows it.
            base_url: Where the API is, without `/v1`; else the environment's
                `ANTHROPIC_BASE_URL`, else Anthropic.
            api_key: Else the environment's `ANTHROPIC_API_KEY`. A server at a `base_url` may need
                none.
            timeout: Longest silence of the provider, in seconds.
            max_tokens: The limit of an answer where a run sets none.
            extra: Further fields of every request, as the provider knows them; they win over the
                runtime's own.

        Raises:
            ImportError: If the extra is not installed.
            ModelRefused: If Anthropic is to be asked and there is no key.
        """
        if _missing is not None:
            raise ImportError(
                "AnthropicModel needs the anthropic package: pip install 'tidegate[anthropic]'"
            ) from _missing
        base_url = base_url or os.environ.get("ANTHROPIC_BASE_URL") or None
        api_key = api_key or os.environ.get("ANTHROPIC_API_KEY") or None
        if api_key is None and base_url is None:
            raise ModelRefused("there is no API key: pass api_key, or set ANTHROPIC_API_KEY")
        super().__init__(model, extra)
        self._max_tokens = max_tokens
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key or "none",
            base_url=base_url,
            max_retries=0,
            timeout=anthropic.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout)),
        )

    async def aclose(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._client.close()

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        return request_body(self._name, request, max_tokens=self._max_tokens)

    def _decoder(self) -> MessageDecoder:
        return MessageDecoder()

    async def _open(self, body: dict[str, Any]) -> OpenAnswer:
        # The plain `post`, because the SDK's own methods would make each event an object, only for
        # it to be taken apart again.
        answer: anthropic.AsyncStream[object] = await self._client.post(
            "/v1/messages",
            body=body,
            cast_to=object,
            stream=True,
            stream_cls=anthropic.AsyncStream[object],
        )
        return answer

    def _errors(self) -> SdkErrors:
        return SdkErrors(
            base=anthropic.AnthropicError,
            status=anthropic.APIStatusError,
            timeout=anthropic.APITimeoutError,
            connection=anthropic.APIConnectionError,
        )
