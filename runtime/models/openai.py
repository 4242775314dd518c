"""Hosted models and everything else that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp.

Needs the extra `openai`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from runtime.errors import ModelRefused
from runtime.models.base import ModelRequest
from runtime.models.exchange import AnswerDecoder, OpenAnswer, SdkErrors
from runtime.models.hosted import CONNECT_SECONDS, SILENCE_SECONDS, HostedModel
from runtime.models.openai_wire import ChunkDecoder, request_body

# Here and not in the constructor, because it takes half a second, and models are also made while a
# server runs. That the extra is missing is said by the constructor.
try:
    import openai
except ImportError as error:
    _missing: ImportError | None = error
else:
    _missing = None

__all__ = ["OpenAIModel"]


class OpenAIModel(HostedModel):
    """A model behind the chat completions API, at OpenAI or at any other `base_url`."""

    _path = "/chat/completions"

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = SILENCE_SECONDS,
        keep_alive: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        This reads certificates from the disk: once a server runs, do it in a thread.

        Args:
            model: The model's name, as the provider knows it.
            base_url: Where the API is, `…/v1`; else the environment's `OPENAI_BASE_URL`, else
                OpenAI.
            api_key: Else the environment's `OPENAI_API_KEY`. A server at a `base_url` may need
                none.
            timeout: Longest silence of the provider, in seconds.
            keep_alive: Whether connections are used again. A server that closes them without a
                word loses the request that is on its way then.
            extra: Further fields of every request, as the provider knows them; they win over the
                runtime's own.

        Raises:
            ImportError: If the extra is not installed.
            ModelRefused: If OpenAI is to be asked and there is no key.
        """
        if _missing is not None:
            raise ImportError(
                f"{type(self).__name__} needs the openai package: pip install 'tidegate[openai]'"
            ) from _missing
        base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        api_key = api_key or os.environ.get("OPENAI_API_KEY") or None
        if api_key is None and base_url is None:
            raise ModelRefused("there is no API key: pass api_key, or set OPENAI_API_KEY")
        super().__init__(model, extra)
        self._limit_field = "max_completion_tokens" if base_url is None else "max_tokens"
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none",
            base_url=base_url,
            max_retries=0,
            default_headers=None if keep_alive else {"Connection": "close"},
            timeout=openai.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout)),
        )

    async def aclose(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._client.close()

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        return request_body(self._name, request, limit_field=self._limit_field)

    def _decoder(self) -> AnswerDecoder:
        return ChunkDecoder()

    async def _open(self, body: dict[str, Any]) -> OpenAnswer:
        # The plain `post`, because the SDK's own methods would make each chunk an object,
        # unchecked, only for it to be taken apart again.
        answer: openai.AsyncStream[object] = await self._client.post(
            self._path,
            body=body,
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        return answer

    def _errors(self) -> SdkErrors:
        return SdkErrors(
            base=openai.OpenAIError,
            status=openai.APIStatusError,
            timeout=openai.APITimeoutError,
            connection=openai.APIConnectionError,
        )
