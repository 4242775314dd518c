"""Whatever happens to the connection, the text on the page is exactly the one in the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import aiohttp
import pytest
from playwright.async_api import expect

from tests.browser.driver import Driver, OpenPage, Transport, held
from tests.support.gates import open_gate
from tests.support.server import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

STOPS = (15, 45, 75, 105)
"""The words after which the agent waits until a gate is opened."""

WORDS = held(*STOPS)


@asynccontextmanager
async def speaking(user: Driver, server: Server, number: int) -> AsyncIterator[None]:
    """Run a block while the agent goes on from the stop after this word to the next one."""
    await user.until_said(f"word{number}")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(open_gate(server.url))
        yield


async def let_it_end(user: Driver, server: Server) -> None:
    """Open the last gate, and wait until the answer is shown to be complete."""
    async with speaking(user, server, STOPS[-1]):
        await user.until_status("complete")


@pytest.mark.rule("join.late")
async def test_a_reload_in_mid_answer_loses_and_repeats_nothing(
    open_page: OpenPage, server: Server, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say(WORDS, agent="held")
    for number, _ in pairwise(STOPS):
        async with speaking(user, server, number):
            await user.page.reload()
        await user.until_connected()
        await user.until_status("streaming")
    await let_it_end(user, server)
    assert await user.texts() == [WORDS, WORDS]


@pytest.mark.rule("resume.exact")
async def test_switching_the_transport_in_mid_answer_loses_and_repeats_nothing(
    open_page: OpenPage, server: Server, transport: Transport
) -> None:
    user = await open_page(transport)
    other = "websocket" if transport == "sse" else "sse"
    await user.say(WORDS, agent="held")
    for number, chosen in zip(STOPS, (other, transport, other), strict=False):
        async with speaking(user, server, number):
            await user.part(f"transport-{chosen}").click()
        await user.until_connected()
        await user.until_status("streaming")
    await let_it_end(user, server)
    assert await user.texts() == [WORDS, WORDS]
    await expect(user.part(f"transport-{other}")).to_have_attribute("aria-pressed", "true")


@pytest.mark.rule("resume.exact")
async def test_a_cut_connection_comes_back_at_the_cursor(
    open_page: OpenPage, server: Server, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say(WORDS, agent="held")
    for number, _ in pairwise(STOPS):
        async with speaking(user, server, number):
            await user.part("cut-connection").click()
    await let_it_end(user, server)
    assert await user.texts() == [WORDS, WORDS]
    await user.until_connected()
    await expect(user.part("reconnects")).to_have_text("3")
    resets = user.page.locator('[data-testid="inspector-event"][data-type="stream.reset"]')
    assert await resets.count() == 0, "it went on at the cursor, without a snapshot"


async def test_a_second_tab_sees_the_same(
    open_page: OpenPage, server: Server, transport: Transport
) -> None:
    first = await open_page(transport)
    await first.say(WORDS, agent="held")
    async with speaking(first, server, STOPS[0]):
        path = first.page.url[first.page.url.index("/#") :]
        second = await open_page("websocket" if transport == "sse" else "sse", path)
    await second.until_status("streaming")
    for number in STOPS[1:]:
        async with speaking(second, server, number):
            pass
    await second.until_status("complete")
    await first.until_status("complete")
    assert await first.texts() == await second.texts() == [WORDS, WORDS]

    await second.say("from the other tab", agent="held")
    await expect(first.messages("assistant")).to_have_count(2)
    await first.until_run("Done")
    await second.until_run("Done")
    assert await first.texts() == await second.texts()
    assert await first.part("cursor").inner_text() == await second.part("cursor").inner_text()


async def test_a_run_goes_on_while_nobody_looks(
    open_page: OpenPage, server: Server, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say(WORDS, agent="held")
    await user.until_said(f"word{STOPS[0]}")
    address = user.page.url
    await user.page.goto("about:blank")
    for _ in STOPS:
        await open_gate(server.url)
    session_id = address.rsplit("/", 1)[1]
    async with aiohttp.ClientSession(server.url) as http, asyncio.timeout(30):
        while True:
            async with http.get(f"/v1/sessions/{session_id}") as response:
                if (await response.json())["status"] == "idle":
                    break
            await asyncio.sleep(0.05)
    await user.page.goto(address)
    await user.until_status("complete")
    assert await user.texts() == [WORDS, WORDS]
