"""Chromium's own `EventSource`, used as Chronos' page does, on the gateway's frames and a broker's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser

from runtime.broker import Broker
from tests.browser.driver import OpenPage

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMIT = 15.0

LISTEN = """
(url) => {
  window.seen = [];
  const source = new EventSource(url);
  source.onopen = () => window.seen.push({ type: "(open)" });
  source.onmessage = (event) => {
    const data = JSON.parse(event.data);
    window.seen.push(data);
    if (data.type === window.until) source.close();
  };
}
"""

SUBSCRIBED = """
async ({ clientId, sessionId }) => {
  const path = `/v1/clients/${clientId}/subscriptions/${sessionId}`;
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ after: "0" });
  return (await fetch(path, { method: "PUT", headers, body })).status;
}
"""


@pytest.mark.rows("C32", "C31")
async def test_onmessage_sees_every_event_of_a_session_with_its_type(open_page: OpenPage) -> None:
    user = await open_page()
    await user.say("one two three")
    await user.until_run("Done")
    session_id = user.page.url.rsplit("/", 1)[1]
    names = {"clientId": "tab-1", "sessionId": session_id}
    assert await user.evaluate(SUBSCRIBED, names) == 204
    await user.evaluate("() => { window.until = 'completed'; }", None)
    await user.evaluate(LISTEN, "/events?client_id=tab-1")
    await user.page.wait_for_function("() => window.seen.some((m) => m.type === 'completed')")
    seen: list[dict[str, Any]] = await user.evaluate("() => window.seen", None)
    types = [message["type"] for message in seen]
    assert {"session.created", "run.started", "model_call", "message.delta", "model_response"} <= {
        *types
    }
    said = [m["data"]["data"]["text"] for m in seen if m["type"] == "message.delta"]
    assert "".join(said) == "one two three"
    assert types.count("completed") == 1


@pytest.mark.rows("C31", "C32", "X7")
async def test_a_brokers_page_loses_nothing_when_its_connection_breaks(browser: Browser) -> None:
    broker = Broker()
    handler = broker.sse_handler("dashboard")
    open_now: list[Any] = []

    async def events(request: web.Request) -> web.StreamResponse:
        open_now.append(request.transport)
        return await handler(request)

    async def blank(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>x</title>", content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", blank), web.get("/events", events)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        await page.evaluate(LISTEN, "/events")
        await page.wait_for_function("() => window.seen.length === 1")
        broker.emit("news", 1)
        await page.wait_for_function("() => window.seen.length === 2")
        open_now.pop().abort()
        async with asyncio.timeout(LIMIT):
            while broker.subscriber_count:  # noqa: ASYNC110 - it tells nobody who goes
                await asyncio.sleep(0.01)
        broker.emit("news", 2)
        broker.emit("news", 3)
        await page.wait_for_function("() => window.seen.length === 5")
        broker.emit("news", 4)
        await page.wait_for_function("() => window.seen.length === 6")
        seen = await page.evaluate("() => window.seen")
        await context.close()
    finally:
        await runner.cleanup()
    assert [message["type"] for message in seen] == ["(open)", "news", "(open)", *["news"] * 3]
    assert [m["data"] for m in seen if m["type"] == "news"] == [1, 2, 3, 4]
