"""An abort in the middle of a real HTTP call of a model is no different from any other."""

from __future__ import annotations

import asyncio

import pytest

from runtime import Agent
from runtime.cancel import CancelToken
from runtime.errors import RunAborted
from runtime.models.base import Text
from runtime.streaming import stream
from tests.faces.support import AT_ONCE
from tests.models.benches import WIRES, http_bench
from tests.runtime.support import PATIENCE
from tests.support.waiting import quickest


@pytest.mark.rows("S37", "S38", "S40", "S41", "W-S3")
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("headers", [True, False])
async def test_it_is_run_aborted_at_once_and_the_connection_is_closed(
    wire: str, headers: bool
) -> None:
    assert await quickest(lambda: aborted(wire, headers=headers), bound=AT_ONCE) < AT_ONCE


async def aborted(wire: str, *, headers: bool) -> float:
    """Abort a run, and return the seconds until its reader was told."""
    token = CancelToken()
    async with http_bench(WIRES[wire]) as bench, asyncio.timeout(PATIENCE):
        gate = asyncio.Event()
        bench.play(Text("Once "), gate)
        if not headers:
            bench.server.silent = gate
        handle = stream(Agent("a", bench.model), "hi", cancel=token)
        if headers:
            assert (await anext(handle.stream)).type == "message.delta"
        reading = asyncio.create_task(anext(handle.stream))
        await bench.asked.wait()
        loop = asyncio.get_running_loop()
        began = loop.time()
        token.abort()
        with pytest.raises(RunAborted):
            await reading
        seconds = loop.time() - began
        with pytest.raises(RunAborted):
            await handle.result
        await bench.gone.wait()
    return seconds
