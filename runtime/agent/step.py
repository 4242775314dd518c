"""One model call, streamed into events, and made again where that is harmless.

What a model says can be held back until it was judged: then nobody has seen what does not pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from runtime.agent.speech import Speech
from runtime.errors import GuardrailTripwire, ModelError
from runtime.events import (
    Event,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ModelFailed,
    ModelRetrying,
    ModelStarted,
)
from runtime.failure import error_info
from runtime.models.base import Finish, Model, ModelRequest
from runtime.report import Reporter
from runtime.retry import RetryPolicy

__all__ = ["ask"]

_logger = logging.getLogger(__name__)


async def ask(
    model: Model,
    request: ModelRequest,
    *,
    turn: int,
    report: Reporter,
    retry: RetryPolicy,
    listen: Callable[[], Speech],
    judge: Callable[[ModelCompleted], Awaitable[None]] | None = None,
) -> ModelCompleted:
    """Call the model once, reporting what it says, and return what it has said.

    Args:
        model: The model.
        request: What it is asked.
        turn: Which model call of the run this is, from 1.
        report: Takes the events.
        retry: Decides whether a call that failed before its first delta is made again.
        listen: Makes the `Speech` that takes an attempt's deltas.
        judge: Asked about the whole answer before any of its text is reported; without it, text is
            reported as it comes.

    Raises:
        GuardrailTripwire: If `judge` says no; the text is not reported, but the call is.
        Exception: If the call failed for good; `model.failed` was reported. What it had opened is
            still open.
    """
    await report(
        ModelStarted(
            run_id=report.run_id,
            path=report.path,
            turn=turn,
            model=model.name,
            message_count=len(request.messages),
        )
    )
    attempt = 0
    while True:
        attempt += 1
        speech = listen()
        try:
            held, completed = await _stream(model, request, report, speech, hold=judge is not None)
        except Exception as error:
            report.check()
            delay = None
            if isinstance(error, ModelError) and not speech.begun:
                delay = retry.delay(attempt, error)
            if delay is None:
                await report(
                    ModelFailed(
                        run_id=report.run_id,
                        path=report.path,
                        error=error_info(error),
                        will_retry=False,
                    )
                )
                raise
            _logger.warning("model %r failed, trying again: %s", model.name, error)
            await report(
                ModelRetrying(
                    run_id=report.run_id,
                    path=report.path,
                    attempt=attempt + 1,
                    delay_ms=round(delay * 1000, 3),
                    error=error_info(error),
                )
            )
            await asyncio.sleep(delay)
        else:
            return await _judged(held, completed, report, judge)


async def _stream(
    model: Model, request: ModelRequest, report: Reporter, speech: Speech, *, hold: bool
) -> tuple[list[Event], ModelCompleted]:
    """Report what the model says; return what is still to be reported, and the last event."""
    held: list[Event] = []
    async with aclosing(model.stream(request)) as deltas:
        async for delta in deltas:
            for event in speech.take(delta):
                if hold and isinstance(event, MessageStarted | MessageDelta):
                    held.append(event)
                else:
                    await report(event)
            if isinstance(delta, Finish):
                break
    closing, completed = speech.complete()
    for event in closing:
        if hold and isinstance(event, MessageCompleted):
            held.append(event)
        else:
            await report(event)
    return held, completed


async def _judged(
    held: list[Event],
    completed: ModelCompleted,
    report: Reporter,
    judge: Callable[[ModelCompleted], Awaitable[None]] | None,
) -> ModelCompleted:
    """Report the end of an answer, with its text if that passes."""
    if judge is not None:
        try:
            await judge(completed)
        except GuardrailTripwire:
            await report(completed.model_copy(update={"content": None}))
            raise
    for event in held:
        await report(event)
    await report(completed)
    return completed
