"""The page itself: keyboard, small screens, inspector, policy of the browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.driver import WORDS, OpenPage, held
from tests.support.gates import open_gate
from tests.support.server import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_everything_can_be_done_with_the_keyboard_alone(
    open_page: OpenPage, server: Server
) -> None:
    user = await open_page()
    words = held(5)
    keyboard = user.page.keyboard
    await expect(user.part("composer")).to_be_focused()
    await keyboard.press("Tab")
    await expect(user.part("agent-select")).to_be_focused()
    await keyboard.type("held")
    await keyboard.press("Shift+Tab")
    await keyboard.type("one")
    await keyboard.press("Shift+Enter")
    await keyboard.insert_text(words)
    await keyboard.press("Enter")
    await user.until_said("word5")
    await keyboard.press("Escape")
    await user.until_status("incomplete")
    assert (await user.texts())[0] == f"one\n{words}"

    for _ in range(40):
        await keyboard.press("Shift+Tab")
        if await user.part("continue").evaluate("node => node === document.activeElement"):
            break
    await keyboard.press("Enter")
    await expect(user.messages("assistant")).to_have_count(2)
    await open_gate(server.url)
    await user.until_status("complete")
    assert (await user.texts())[-1] == f"one\n{words}"


async def test_the_focus_can_be_seen_on_every_control(open_page: OpenPage) -> None:
    user = await open_page()
    for _ in range(12):
        await user.page.keyboard.press("Tab")
        width = await user.evaluate(
            "() => { const at = document.activeElement; const box = at.closest('.composer-box');"
            " return parseFloat(getComputedStyle(at).outlineWidth)"
            " || (box ? parseFloat(getComputedStyle(box).borderWidth) : 0); }"
        )
        assert width > 0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def wide(server: Server) -> AsyncIterator[str]:
    """The address of a session with what is widest: the cards of tools, and a word without an end."""
    async with aiohttp.ClientSession(server.url) as http:
        async with http.post("/v1/sessions", json={"agent": "tools"}) as response:
            session_id = (await response.json())["session_id"]
        for agent, text in (("tools", "weather in Oslo and Rome"), ("echo", "x" * 400)):
            said = {"agent": agent, "text": text}
            async with http.post(f"/v1/sessions/{session_id}/messages", json=said) as response:
                assert (await response.json())["status"] == "completed"
        yield f"{server.url}/#/s/{session_id}"


@pytest.mark.parametrize("width", [320, 390, 640, 820, 1180])
async def test_no_width_scrolls_sideways(open_page: OpenPage, wide: str, width: int) -> None:
    user = await open_page(viewport={"width": width, "height": 800})
    overflow = "() => document.documentElement.scrollWidth - innerWidth"
    assert await user.evaluate(overflow) <= 0
    await user.page.goto(wide)
    await user.until_said("xxx")
    await expect(user.part("tool-card")).to_have_count(2)
    assert await user.evaluate(overflow) <= 0
    inside = "() => { const log = document.getElementById('log');"
    assert await user.evaluate(f"{inside} return log.scrollWidth - log.clientWidth; }}") <= 0


async def test_on_a_phone_the_panels_are_drawers(open_page: OpenPage) -> None:
    user = await open_page(viewport={"width": 390, "height": 844})
    await user.say("hello from a phone")
    await user.until_said("hello from a phone")
    await expect(user.part("session-list")).to_be_hidden()
    await user.page.get_by_role("button", name="Sessions", exact=True).click()
    await expect(user.part("session-list")).to_be_visible()
    await user.page.keyboard.press("Escape")
    await expect(user.part("session-list")).to_be_hidden()

    await user.page.get_by_role("button", name="Connection:").click()
    await user.part("transport-websocket").click()
    await user.page.get_by_role("button", name="Close the connection panel").click()
    await expect(user.part("inspector")).to_be_hidden()
    await user.until_connected()


async def test_the_inspector_shows_raw_events_and_filters_them(open_page: OpenPage) -> None:
    user = await open_page()
    await user.say("one two three")
    await user.until_run("Done")
    events = user.part("inspector-event")
    last = events.last
    await expect(last).to_have_attribute("data-type", "run.completed")
    await last.locator("summary").click()
    await expect(last.locator("pre")).to_contain_text('"type": "run.completed"')
    await user.part("event-filter").fill("input")
    await expect(events.locator("visible=true")).to_have_count(1)
    await user.part("event-filter").fill("")
    await expect(last).to_be_visible()


REST = """
() => {
  const log = document.getElementById("log");
  window.atRest = new Promise((resolve) => {
    log.addEventListener("scrollend", () => {
      const below = log.scrollHeight - log.scrollTop - log.clientHeight;
      if (below > 48) resolve(log.scrollTop);
    });
  });
}
"""
"""Keeps where a reader who leaves the end has come to rest: a wheel may scroll for some frames."""


async def test_reading_back_is_not_disturbed_by_new_text(
    open_page: OpenPage, server: Server
) -> None:
    user = await open_page(viewport={"width": 1440, "height": 480})
    await user.say(f"{held(140)} {WORDS}", agent="held")
    await user.until_said("word140")
    at_end = "() => { const log = document.getElementById('log');"
    at_end += " return log.scrollHeight - log.scrollTop - log.clientHeight; }"
    assert await user.evaluate(at_end) < 48
    await user.page.locator("#log").hover()
    await user.evaluate(REST)
    await user.page.mouse.wheel(0, -600)
    await expect(user.part("jump")).to_be_visible()
    place = await user.evaluate("() => window.atRest")
    await open_gate(server.url)
    await user.until_status("complete")
    assert await user.evaluate("() => document.getElementById('log').scrollTop") == place
    await user.part("jump").click()
    await expect(user.part("jump")).to_be_hidden()
    assert await user.evaluate(at_end) < 48


async def test_a_session_that_does_not_exist_is_said_plainly(open_page: OpenPage) -> None:
    user = await open_page(path="/#/s/ses_nobody_made_this")
    await expect(user.part("lost")).to_contain_text("ses_nobody_made_this")
    await expect(user.part("connection-state")).to_have_text("stopped")
    user.complaints = [said for said in user.complaints if "404" not in said]


async def test_nothing_on_the_page_needs_a_looser_policy(open_page: OpenPage) -> None:
    user = await open_page()
    answer = await user.page.reload()
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    page = await answer.text()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert " style=" not in page
    assert "<script>" not in page
