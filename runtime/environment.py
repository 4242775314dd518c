"""Where code that knows nothing of streams can report what it does.

Environments are nested as the work is: module, flow, step, agent. Somebody who wants to listen sets
an emitter on one of them, and hears all below it. Where nobody listens, reporting costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Emitter", "Environment", "FunctionEmitter"]

_BREAKS = ("\r", "\n", "\0")


class Emitter(Protocol):
    """Takes reports. A `Broker` is one; `FunctionEmitter(scope.emit)` speaks in the current run."""

    @property
    def closed(self) -> bool:
        """Whether nobody listens any more."""

    def emit(self, type: str, data: Any) -> None:
        """Take a report. Does not wait."""


class FunctionEmitter:
    """Hands each report to a function, until it is closed."""

    def __init__(self, function: Callable[[str, Any], None]) -> None:
        self._function = function
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def emit(self, type: str, data: Any) -> None:
        """Call the function with the report; after `close`, do nothing."""
        if not self._closed:
            self._function(type, data)

    def close(self) -> None:
        """Take no more reports. Safe to call twice."""
        self._closed = True


class Environment:
    """A place where work is done. Its reports go to its own emitter, or to its parent's.

    The parent is asked at each report, so it does not matter whether an emitter was set before or
    after the environments below were made.

    Attributes:
        name: For people.
        parent: What it is part of.
    """

    def __init__(self, name: str, parent: Environment | None = None) -> None:
        self.name = name
        self.parent = parent
        self._emitter: Emitter | None = None

    def set_emitter(self, emitter: Emitter | None) -> None:
        """Have this environment, and all below it without one of their own, report to `emitter`.

        None takes it away again.
        """
        self._emitter = emitter

    def get_emitter(self) -> Emitter | None:
        """Return the emitter that reports from here go to; None if there is none up to the root."""
        environment: Environment | None = self
        while environment is not None:
            if environment._emitter is not None:  # noqa: SLF001 - of the same class
                return environment._emitter  # noqa: SLF001 - of the same class
            environment = environment.parent
        return None

    def emit(self, type: str, data: Any | Callable[[], Any] = None) -> None:
        """Report something; a no-op without an emitter, and after it was closed.

        Args:
            type: Any text without CR, LF and NUL.
            data: What to report; or a function that makes it, which is called only if somebody
                listens.

        Raises:
            ValueError: If somebody listens and the type holds CR, LF or NUL.
        """
        emitter = self.get_emitter()
        if emitter is None or emitter.closed:
            return
        if any(mark in type for mark in _BREAKS):
            raise ValueError("an event type must not hold CR, LF or NUL")
        emitter.emit(type, data() if callable(data) else data)
