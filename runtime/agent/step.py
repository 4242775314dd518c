"""One model call, streamed into events, and made again where that is harmless."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from runtime.agent.speech import Speech
from runtime.errors import ModelError
from runtime.events import ModelCompleted, ModelFailed, ModelRetrying, ModelStarted
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
) -> ModelCompleted:
    """Call the model once, reporting what it says, and return what it has said.

    Args:
        model: The model.
        request: What it is asked.
        turn: Which model call of the run this is, from 1.
        report: Takes the events.
        retry: Decides whether a call that failed before its first delta is made again.
        listen: Makes the `Speech` that takes an attempt's deltas.

    Raises:
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
            return await _stream(model, request, report, speech)
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


async def _stream(
    model: Model, request: ModelRequest, report: Reporter, speech: Speech
) -> ModelCompleted:
    async with aclosing(model.stream(request)) as deltas:
        async for delta in deltas:
            for event in speech.take(delta):
                await report(event)
            if isinstance(delta, Finish):
                break
    closing, completed = speech.complete()
    for event in (*closing, completed):
        await report(event)
    return completed
