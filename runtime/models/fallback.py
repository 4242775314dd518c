"""Several models as one: when the first cannot answer, the next is asked."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from runtime.errors import ModelError, ModelUnavailable
from runtime.models.base import Delta, Finish, Model, ModelRequest, Starts

__all__ = ["FallbackModel"]

_logger = logging.getLogger(__name__)


class FallbackModel:
    """Asks models in turn until one begins to answer.

    Whatever `ModelError` a model fails with, the next is asked, but only before the first delta
    that says something: later, text would stand in the log twice. Any other exception is a mistake,
    and raised. The finish names the model that answered.
    Each model is asked once; whether to begin again with the first is the agent's decision.
    """

    def __init__(self, first: Model, second: Model, *others: Model) -> None:
        """Take the models, the one that is wanted most first. They are closed with this one."""
        self._models = (first, second, *others)

    @property
    def name(self) -> str:
        """The names of the models, in the order in which they are asked."""
        return " or ".join(model.name for model in self._models)

    async def start(self) -> None:
        """Have every model get ready that can; see `Starts`.

        Raises:
            ModelUnavailable: If none of the models is of use.
        """
        faults: list[tuple[Model, ModelError]] = []
        for model in self._models:
            if isinstance(model, Starts):
                try:
                    await model.start()
                except ModelError as error:
                    faults.append((model, error))
        if len(faults) == len(self._models):
            raise _all_of(faults)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Stream the answer of the first model that gives one; see `Model.stream`."""
        faults: list[tuple[Model, ModelError]] = []
        for model in self._models:
            begun = False
            try:
                async with aclosing(model.stream(request)) as deltas:
                    async for delta in deltas:
                        begun = begun or _says_something(delta)
                        if isinstance(delta, Finish):
                            yield replace(delta, model=delta.model or model.name)
                            return
                        yield delta
                # Without a finish: whoever hears it says what that means.
                return
            except ModelError as error:
                if begun:
                    raise
                _logger.warning("model %r failed: %s", model.name, error)
                faults.append((model, error))
        raise _all_of(faults)

    async def aclose(self) -> None:
        """Close every model, also when one of them cannot be. Safe to call twice.

        Raises:
            ExceptionGroup: What closing raised, if it did.
        """
        faults: list[Exception] = []
        for model in self._models:
            try:
                await model.aclose()
            except Exception as error:  # noqa: BLE001 - raised below, once all are closed
                faults.append(error)
        if faults:
            raise ExceptionGroup("some models could not be closed", faults)


def _says_something(delta: Delta) -> bool:
    return not hasattr(delta, "text") or bool(delta.text)


def _all_of(faults: list[tuple[Model, ModelError]]) -> ModelError:
    """Return one fault for those of all models; one that may pass is told before one that stays."""
    told = "; ".join(f"{model.name}: {error}" for model, error in faults)
    errors = [error for _, error in faults]
    passing = [error for error in errors if error.retryable]
    waits = [error.retry_after for error in passing if error.retry_after is not None]
    main = (passing or errors)[0]
    kind = ModelUnavailable if passing else type(main)
    fault = kind(
        f"no model answered: {told}",
        status_code=main.status_code,
        retry_after=min(waits, default=None),
    )
    fault.__cause__ = ExceptionGroup("no model answered", errors)
    return fault
