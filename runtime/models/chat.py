"""A model without an agent: one question, one answer, whole or in chunks.

For programs that have no tools to run and no log to keep, and for nodes of a graph.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Self

from runtime.cancel import CancelToken
from runtime.errors import ModelSpokeNonsense, RunAborted
from runtime.messages import ToolCall
from runtime.models.base import Delta, Finish, Model, ModelRequest, ReasoningText, Text
from runtime.models.base import ToolCallFragment as ToolCallChunk
from runtime.models.fold import Answer

__all__ = ["ChatChunk", "ChatStream", "ToolCallChunk", "chat", "merge_tool_calls", "stream_chat"]


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """A piece of an answer, or a whole one.

    Attributes:
        content: Text; empty where the piece has none.
        tool_calls: Pieces of tool calls, maybe none; whole ones in a whole answer.
        delta: Whether this is a piece.
        reasoning: The model's reasoning, where the provider shows it.
        finish: How the answer ended; only in a whole one.
    """

    content: str = ""
    tool_calls: list[ToolCallChunk] = field(default_factory=list)
    delta: bool = True
    reasoning: str = ""
    finish: Finish | None = None


async def chat(
    model: Model, request: ModelRequest, *, cancel: CancelToken | None = None
) -> ChatChunk:
    """Ask a model and return its whole answer.

    Raises:
        ModelError: If the call fails, at once or half way.
        RunAborted: If `cancel` was aborted.
    """
    answer = Answer()
    async with aclosing(_heard(model, request, cancel)) as deltas:
        async for delta in deltas:
            answer.add(delta)
    return ChatChunk(
        content=answer.text,
        tool_calls=[
            ToolCallChunk(index, call.id or None, call.name, call.arguments)
            for index, call in enumerate(answer.tool_calls)
        ],
        delta=False,
        reasoning=answer.reasoning,
        finish=answer.finished(),
    )


def stream_chat(
    model: Model, request: ModelRequest, *, cancel: CancelToken | None = None
) -> ChatStream:
    """Ask a model and return its answer as it comes. Nothing is sent before the first chunk is read.

    A call that cannot be opened fails before the first chunk; one that breaks off, after the
    chunks that came. Leaving the iteration closes the provider's connection, and so does `cancel`.
    """
    return ChatStream(_heard(model, request, cancel))


class ChatStream(AsyncIterator[ChatChunk]):
    """The chunks of one answer, for one consumer.

    Used with `async for`, `anext`, and as `async with`, which closes it at the end of the block.

    Attributes:
        finish: How the answer ended; None until it has.
    """

    def __init__(self, deltas: AsyncGenerator[Delta, None]) -> None:
        self.finish: Finish | None = None
        self._deltas = deltas

    def __aiter__(self) -> AsyncIterator[ChatChunk]:  # noqa: PYI034 - a fresh generator, see below
        # A generator of its own for each loop: Python closes it when the loop is left by `break`.
        return self._iterate()

    async def _iterate(self) -> AsyncGenerator[ChatChunk, None]:
        async with self:
            while True:
                try:
                    chunk = await anext(self)
                except StopAsyncIteration:
                    return
                yield chunk

    async def __anext__(self) -> ChatChunk:
        """Return the next chunk.

        Raises:
            StopAsyncIteration: At the end.
            ModelError: If the call fails.
            RunAborted: If the token was aborted.
        """
        while True:
            delta = await anext(self._deltas)
            match delta:
                case Text(text) if text:
                    return ChatChunk(text)
                case ReasoningText(text) if text:
                    return ChatChunk(reasoning=text)
                case ToolCallChunk():
                    return ChatChunk(tool_calls=[delta])
                case Finish():
                    self.finish = delta
                case _:
                    pass  # a piece without text says nothing

    async def aclose(self) -> None:
        """Close the provider's connection. Safe to call twice."""
        await self._deltas.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def merge_tool_calls(chunks: Iterable[ToolCallChunk]) -> list[ToolCall]:
    """Return the whole calls that pieces make, in the order in which they began.

    Pieces belong together by their `index`; where two calls have the same one, by their `id`, and a
    piece without an id to the one that began last.

    Raises:
        ModelSpokeNonsense: If a call has no name.
    """
    merged: list[tuple[int, ToolCall]] = []
    for chunk in chunks:
        for place in range(len(merged) - 1, -1, -1):
            index, call = merged[place]
            if index == chunk.index and chunk.id in {None, "", call.id}:
                break
        else:
            place = len(merged)
            merged.append((chunk.index, ToolCall(id=chunk.id or "", name="", arguments="")))
        index, call = merged[place]
        whole = ToolCall(
            id=call.id,
            name=call.name or chunk.name or "",
            arguments=call.arguments + chunk.arguments,
        )
        merged[place] = (index, whole)
    if any(not call.name for _, call in merged):
        raise ModelSpokeNonsense("the model called a tool without naming it")
    return [call for _, call in merged]


async def _heard(
    model: Model, request: ModelRequest, cancel: CancelToken | None
) -> AsyncGenerator[Delta, None]:
    """Yield a model's answer until its finish, or until the token is aborted.

    Raises:
        ModelSpokeNonsense: If it ends without a finish.
        RunAborted: If the token was aborted.
    """
    async with aclosing(model.stream(request)) as deltas:
        with _Interruption(cancel) as interruption:
            while True:
                try:
                    delta = await interruption.next_of(deltas)
                except StopAsyncIteration:
                    raise ModelSpokeNonsense("the model's answer ended without a finish") from None
                yield delta
                if isinstance(delta, Finish):
                    return


class _Interruption:
    """Ends the wait for the next delta when a token is aborted, and only that wait.

    The consumer's task is never cancelled while it is in the consumer's own code.
    """

    def __init__(self, cancel: CancelToken | None) -> None:
        self._cancel = cancel
        self._waiting: asyncio.Timeout | None = None

    def __enter__(self) -> Self:
        self._unwatch = None if self._cancel is None else self._cancel.watch(self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self._unwatch is not None:
            self._unwatch()

    def _interrupt(self) -> None:
        if self._waiting is not None:
            self._waiting.reschedule(0)  # in the past: at once

    async def next_of(self, deltas: AsyncGenerator[Delta, None]) -> Delta:
        """Return the next delta.

        Raises:
            StopAsyncIteration: At the end.
            RunAborted: If the token was aborted, before or while waiting.
        """
        cancel = self._cancel
        if cancel is None:
            return await anext(deltas)
        if cancel.aborted:
            raise RunAborted(cancel.reason)
        try:
            # A limit without a time: the way to cancel a wait so that nothing else is.
            async with asyncio.timeout(None) as self._waiting:
                return await anext(deltas)
        except TimeoutError:
            if cancel.aborted:
                raise RunAborted(cancel.reason) from None
            raise
        finally:
            self._waiting = None
