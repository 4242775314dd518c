"""A token stops runs from anywhere, once."""

from __future__ import annotations

import asyncio
import threading

import pytest

from runtime.cancel import CancelToken
from tests.runtime.support import PATIENCE


def told(token: CancelToken) -> tuple[asyncio.Event, list[int]]:
    event = asyncio.Event()
    calls: list[int] = []

    def callback() -> None:
        assert asyncio.get_running_loop() is loop
        calls.append(1)
        event.set()

    loop = asyncio.get_running_loop()
    token.watch(callback)
    return event, calls


async def test_a_token_begins_with_nothing_said() -> None:
    token = CancelToken()
    assert (token.aborted, token.stopping, token.reason) == (False, False, None)


async def test_an_abort_counts_once_and_keeps_its_first_reason() -> None:
    token = CancelToken()
    event, calls = told(token)
    token.abort("first")
    token.abort("second")
    async with asyncio.timeout(PATIENCE):
        await event.wait()
    assert (token.aborted, token.stopping, token.reason) == (True, True, "first")
    assert calls == [1]


async def test_a_stop_after_the_step_is_no_abort_and_calls_nobody() -> None:
    token = CancelToken()
    event, _ = told(token)
    token.stop_after_step()
    await asyncio.sleep(0)
    assert (token.aborted, token.stopping) == (False, True)
    assert not event.is_set()
    token.abort()
    async with asyncio.timeout(PATIENCE):
        await event.wait()


async def test_an_abort_from_a_thread_is_told_on_the_loop() -> None:
    token = CancelToken()
    events = [told(token)[0] for _ in range(3)]
    await asyncio.to_thread(token.abort)
    async with asyncio.timeout(PATIENCE):
        for event in events:
            await event.wait()


async def test_many_threads_abort_at_once_and_it_is_told_once() -> None:
    for _ in range(50):
        token = CancelToken()
        event, calls = told(token)
        threads = [threading.Thread(target=token.abort, args=(str(i),)) for i in range(4)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(PATIENCE):
            await event.wait()
            for thread in threads:
                await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)
        assert calls == [1]


async def test_who_watches_an_aborted_token_is_told_soon() -> None:
    token = CancelToken()
    token.abort()
    event, calls = told(token)
    assert calls == []  # not during the call
    async with asyncio.timeout(PATIENCE):
        await event.wait()


@pytest.mark.parametrize("when", ["before", "between", "already aborted"])
async def test_what_was_taken_back_is_not_called(when: str) -> None:
    token = CancelToken()
    calls: list[int] = []
    if when == "already aborted":
        token.abort()
    take_back = token.watch(lambda: calls.append(1))
    if when == "between":
        token.abort()  # its callback waits for the next turn of the loop
    take_back()
    take_back()
    token.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert calls == []
    assert token._watchers == {}


def test_an_abort_after_the_loop_is_closed_is_no_error() -> None:
    token = CancelToken()

    async def main() -> None:
        token.watch(lambda: None)

    asyncio.run(main())
    token.abort()
    assert token.aborted
