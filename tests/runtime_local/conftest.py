"""A real local model for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from runtime.messages import Message
from runtime.models.base import Delta, ModelRequest
from runtime.models.local import LocalModel
from runtime.runnable import RunOptions


@pytest.fixture
async def model() -> AsyncGenerator[LocalModel]:
    local = LocalModel(context=2048)
    yield local
    await local.aclose()


def ask(*texts: str, temperature: float = 0.0, max_tokens: int = 40) -> ModelRequest:
    """Return a request: instructions, then user and assistant in turns."""
    turns = [
        Message(role="assistant" if place % 2 else "user", content=text)
        for place, text in enumerate(texts)
    ]
    return ModelRequest(
        messages=(Message(role="system", content="You are a helpful assistant."), *turns),
        options=RunOptions(temperature=temperature, max_tokens=max_tokens),
    )


async def deltas(model: LocalModel, request: ModelRequest) -> list[Delta]:
    return [delta async for delta in model.stream(request)]


async def until(holds: Callable[[], bool]) -> None:
    """Return once something outside this process is so; nothing tells when, so it is asked."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - another process cannot set an event here
            await asyncio.sleep(0.01)
