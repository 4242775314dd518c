"""Stopping a run from anywhere: another task, a timer, a thread, a message on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

__all__ = ["CancelToken"]


class CancelToken:
    """Given to a run, and kept by whoever may want to stop it. One token may stop several runs.

    Attributes:
        reason: What `abort` was told, for people.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._aborted = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._watchers: dict[object, tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = {}

    @property
    def aborted(self) -> bool:
        """Whether `abort` was called."""
        return self._aborted.is_set()

    @property
    def stopping(self) -> bool:
        """Whether the run is to end after its current step, or at once."""
        return self._stopping.is_set() or self.aborted

    def abort(self, reason: str | None = None) -> None:
        """Stop at once, whatever the run is doing. From any thread; the first call counts."""
        with self._lock:
            if self.aborted:
                return
            self.reason = reason
            self._aborted.set()
            watchers = [(key, loop) for key, (loop, _) in self._watchers.items()]
        for key, loop in watchers:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and all in it is over
                loop.call_soon_threadsafe(self._tell, key)

    def stop_after_step(self) -> None:
        """Stop at the next boundary: after the current model call and its tools, or superstep.

        From any thread. What the step does is finished and kept; the run then ends as cancelled.
        """
        self._stopping.set()

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called on the running loop when the token is aborted; soon, if it was.

        Returns:
            A function that takes the callback back.
        """
        loop = asyncio.get_running_loop()
        key = object()
        with self._lock:
            if not self.aborted:
                self._watchers[key] = (loop, callback)
                return lambda: self._forget(key)
        handle = loop.call_soon(callback)
        return handle.cancel

    def _tell(self, key: object) -> None:
        """Call a watcher, unless it was taken back meanwhile."""
        with self._lock:
            watcher = self._watchers.pop(key, None)
        if watcher is not None:
            watcher[1]()

    def _forget(self, key: object) -> None:
        with self._lock:
            self._watchers.pop(key, None)
