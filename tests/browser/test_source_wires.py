"""The pages of the source wires, in a real browser."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.cli.support.proxy import proxied
from tests.frontends.serving import Staged, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOURCE_PAGE = """
(url) => new Promise((resolve) => {
  document.body.innerHTML = '<p id="response"></p>';
  const eventSource = new EventSource(url);
  eventSource.onmessage = (event) => {
    if (event.data === '[DONE]') {
      eventSource.close();
      resolve({ html: document.getElementById('response').innerHTML });
      return;
    }
    const { chunk } = JSON.parse(event.data);
    document.getElementById('response').textContent += chunk;
  };
  eventSource.onerror = () => {
    eventSource.close();
    resolve({ broken: true });
  };
})
"""

NEVER_CLOSED = """
(url) => new Promise((resolve) => {
  const seen = [];
  window.seen = seen;
  const eventSource = new EventSource(url);
  eventSource.onmessage = (event) => seen.push(event.data);
  eventSource.onerror = () => {
    if (eventSource.readyState === EventSource.CLOSED) resolve(seen);
  };
})
"""


@pytest.mark.rows("K12", "K7", "K14", "W-K1")
async def test_the_page_of_sekuire_closes_and_one_that_never_does_begins_nothing_anew(
    browser: Browser,
) -> None:
    once, twice = Staged("a <b>&amp;", "\u2028[DONE]", name="once"), Staged("a", "b", name="twice")
    once.let(0, 1)
    twice.let(0)
    async with (
        serving(once.puppet, twice.puppet) as place,
        proxied(place.address[1]) as proxy,
    ):
        context = await browser.new_context()
        page, shaky = await context.new_page(), await context.new_page()
        await page.goto(f"{place.url}/healthz")
        await shaky.goto(f"http://127.0.0.1:{proxy.port}/healthz")
        coming = asyncio.create_task(
            shaky.evaluate(NEVER_CLOSED, "/chat/stream?message=x&agent=twice")
        )
        shown: dict[str, Any] = await page.evaluate(
            SOURCE_PAGE, "/chat/stream?message=Hello&agent=once"
        )
        await shaky.wait_for_function("window.seen.length === 1")
        proxy.cut()
        twice.let(1)
        async with asyncio.timeout(20):
            seen: list[str] = await coming
        await context.close()
        count = len(await place.sessions())
    assert shown == {"html": "a &lt;b&gt;&amp;amp;\u2028[DONE]"}
    assert seen == ['{"chunk":"a"}', '{"chunk":"b"}', "[DONE]"]
    assert (once.runs, twice.runs, count) == (1, 1, 2)
