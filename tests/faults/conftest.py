"""Fault tests run on the event loop that users get."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Use uvloop, as the command line does."""
    return {"uvloop": uvloop.new_event_loop}
