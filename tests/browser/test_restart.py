"""The server is killed while a page looks on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.browser.driver import Transport, held, opened_page
from tests.support.gates import open_gate
from tests.support.server import Server, running_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORDS = held(30)

COLLECT = """
(url) => new Promise((resolve) => {
  const source = new EventSource(url);
  const seen = [];
  source.onmessage = ({ data }) => {
    seen.push(JSON.parse(data));
    document.body.dataset.seen = Math.min(seen.length, 6);
    if (seen.at(-1).type !== "run.completed") return;
    source.close();
    resolve(seen);
  };
})
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mortal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A server that is killed, and started again, by each of these tests."""
    agents = "tests.support.agents:registry"
    async with running_server(tmp_path_factory.mktemp("mortal"), [agents]) as running:
        yield running


@pytest.mark.rule("resume.exact")
async def test_a_page_survives_kill_9_of_the_server_in_mid_answer(
    browser: Browser, transport: Transport, mortal: Server
) -> None:
    user = await opened_page(browser, mortal.url, transport)
    await user.say(WORDS, agent="held")
    await user.until_said("word30")
    await mortal.kill()
    await expect(user.part("connection-state")).not_to_have_text("connected")
    await mortal.restart()
    await expect(user.messages("assistant")).to_have_count(2)
    await open_gate(mortal.url)
    await user.until_status("complete")
    said = await user.texts()
    assert said[0] == said[2] == WORDS
    assert said[1].startswith("word1 word2 ")
    assert WORDS.startswith(said[1])
    cut_off = user.messages("assistant").first
    await expect(cut_off).to_have_attribute("data-status", "superseded")
    resets = user.page.locator('[data-testid="inspector-event"][data-type="stream.reset"]')
    assert await resets.count() == 0, "it went on at the cursor, without a snapshot"
    await user.page.context.close()


@pytest.mark.rule("sse.resume")
async def test_a_stock_event_source_comes_back_by_itself_after_kill_9(
    browser: Browser, mortal: Server
) -> None:
    user = await opened_page(browser, mortal.url, "websocket")
    await user.say(WORDS, agent="held")
    await user.until_said("word30")
    session_id = user.page.url.rsplit("/", 1)[1]
    collecting = asyncio.create_task(
        user.evaluate(COLLECT, f"/v1/sessions/{session_id}/events?after=0")
    )
    await expect(user.page.locator("body")).to_have_attribute("data-seen", "6")
    await mortal.kill()
    await mortal.restart()
    await open_gate(mortal.url)
    async with asyncio.timeout(30):
        seen: list[dict[str, Any]] = await collecting
    events = [event for event in seen if "seq" in event]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "run.attempt_started" in {event["type"] for event in events}
    await user.page.context.close()


async def test_what_is_typed_while_the_server_is_away_is_sent_once_it_is_back(
    browser: Browser, transport: Transport, mortal: Server
) -> None:
    user = await opened_page(browser, mortal.url, transport)
    await user.say("before")
    await user.until_run("Done")
    await mortal.kill()
    await user.say("meanwhile")
    await expect(user.part("outgoing")).to_have_text("meanwhileSending…")
    await mortal.restart()
    await expect(user.messages("assistant")).to_have_count(2, timeout=30_000)
    await user.until_run("Done")
    assert await user.texts() == ["before", "before", "meanwhile", "meanwhile"]
    await expect(user.part("outgoing")).to_have_count(0)
    await user.page.context.close()
