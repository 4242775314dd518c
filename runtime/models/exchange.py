"""One streaming call over HTTP: what the providers that have an SDK do alike.

The SDK opens the call, with its own headers, keys and connections. The bytes that come back are read
here, so that every provider forgives and refuses the same things.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, cast

from runtime.errors import ModelError, ModelRefused, ModelSpokeNonsense
from runtime.models.base import Delta, Finish
from runtime.models.faults import from_status, unreachable
from runtime.models.sse import EventDecoder

__all__ = ["AnswerDecoder", "OpenAnswer", "SdkErrors", "exchange"]

DRAIN_SECONDS = 0.1
"""How long the end of the body is waited for after the last event: with it, the connection can be
used again; a server that does not send it must not hold the answer up."""


class AnswerDecoder(Protocol):
    """Turns the events of one answer into deltas. Pure."""

    @property
    def done(self) -> bool:
        """Whether the provider has said that nothing more follows."""

    def take(self, data: str) -> list[Delta]:
        """Return the deltas in the data of one event.

        Raises:
            ModelError: If the event reports an error, or cannot be read.
        """

    def finish(self) -> Finish:
        """Return the finish, once the stream is over.

        Raises:
            ModelSpokeNonsense: If the stream was cut before the model had finished.
        """


class Response(Protocol):
    """What is used of the HTTP clients below the SDKs."""

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""


class OpenAnswer(Protocol):
    """What is used of an SDK's open stream."""

    @property
    def response(self) -> Response:
        """The HTTP response."""

    async def close(self) -> None:
        """Close the response; the connection too, unless the body was read to its end."""


@dataclass(frozen=True, slots=True)
class SdkErrors:
    """The exceptions of an SDK: both SDKs have them under the same names.

    Attributes:
        base: `OpenAIError`, `AnthropicError`.
        status: `APIStatusError`: has `status_code`, `body`, `response.headers`.
        timeout: `APITimeoutError`, a kind of `connection`.
        connection: `APIConnectionError`.
    """

    base: type[Exception]
    status: type[Exception]
    timeout: type[Exception]
    connection: type[Exception]


async def exchange(
    opening: Callable[[], Awaitable[OpenAnswer]], decoder: AnswerDecoder, errors: SdkErrors
) -> AsyncGenerator[Delta, None]:
    """Open a call and yield its deltas, the finish last; closing it closes the connection.

    Raises:
        ModelError: As `Model.stream` says.
    """
    try:
        answer = await opening()
    except errors.base as error:
        raise _refusal(error, errors) from error
    except ValueError as error:  # text that is no Unicode, a header that is none
        raise ModelRefused("the request cannot be sent as it is") from error
    try:
        # The clients give async generators, which their types do not say.
        pieces = cast("AsyncGenerator[bytes, None]", answer.response.aiter_bytes())
        async with aclosing(pieces), aclosing(_deltas(pieces, decoder)) as deltas:
            async for delta in deltas:
                yield delta
    finally:
        await answer.close()
    yield decoder.finish()


async def _deltas(
    pieces: AsyncGenerator[bytes, None], decoder: AnswerDecoder
) -> AsyncGenerator[Delta, None]:
    begun = False
    events = EventDecoder()
    while (piece := await _next(pieces, begun=begun)) is not None:
        try:
            heard = events.feed(piece)
        except UnicodeDecodeError as error:
            raise ModelSpokeNonsense("the provider's answer cannot be read") from error
        for event in heard:
            for delta in decoder.take(event.data):
                begun = True
                yield delta
            if decoder.done:
                await _drain(pieces)
                return


async def _next(pieces: AsyncGenerator[bytes, None], *, begun: bool) -> bytes | None:
    """Return the next piece of the body; None at its end."""
    try:
        return await anext(pieces)
    except StopAsyncIteration:
        return None
    except Exception as error:
        # The SDKs stand on different HTTP clients, whose exceptions share no base: but nothing is
        # done here except reading.
        in_time = "Timeout" not in type(error).__name__
        raise unreachable(begun=begun, in_time=in_time) from error


async def _drain(pieces: AsyncGenerator[bytes, None]) -> None:
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while await _next(pieces, begun=True) is not None:
                pass
    except (TimeoutError, ModelSpokeNonsense):
        pass  # the answer was whole


def _refusal(error: Exception, errors: SdkErrors) -> ModelError:
    """Return the fault to raise for a call that could not be opened."""
    if isinstance(error, errors.status):
        answer: Any = error  # what it has is said by `SdkErrors`
        return from_status(answer.status_code, answer.body, answer.response.headers)
    if isinstance(error, errors.connection):
        return unreachable(begun=False, in_time=not isinstance(error, errors.timeout))
    return ModelRefused("the provider's client refused the request")
