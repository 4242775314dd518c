"""Running a sync function in a thread of its own.

It cannot be stopped, so its thread is left behind when its node is cancelled, and what it returns
then is dropped. A daemon thread for each call: one that hangs keeps neither other nodes nor the
process from going on, as it would in a pool.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["in_thread"]

_logger = logging.getLogger(__name__)


def in_thread(function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    """Start a function in a thread, with the context of the caller, and return its future."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    variables = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return  # nobody waits any more
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result: Any = None
        failure: BaseException | None = None
        try:
            result = variables.run(function, *arguments)
        except StopIteration:  # no future takes one
            failure = RuntimeError("the node raised StopIteration")
        except Exception as error:  # noqa: BLE001 - handed over to the run
            failure = error
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a node must not stop the server
            failure = RuntimeError(f"the node raised {type(error).__name__}")
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _logger.debug("a node outlived its loop")

    threading.Thread(target=work, name="tidegate-node", daemon=True).start()
    return future
