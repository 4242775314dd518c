"""A call of a client's tool, answered by a person on the page."""

from __future__ import annotations

import aiohttp
import pytest
from playwright.async_api import Browser, Locator, expect

from gateway.app import running
from gateway.config import Settings
from runtime.registry import Registry
from tests.browser.driver import Driver, Transport, opened_page
from tests.sessions.guide import LOOK, PLACE, WHERE, Guide

pytestmark = pytest.mark.asyncio(loop_scope="session")

HISTORY = [
    {"role": "user", "content": "Hello from elsewhere"},
    {"role": "assistant", "content": "Welcome.", "message_id": "m2"},
]


async def asked(url: str, session_id: str) -> None:
    """Make a session that waits for a place."""
    async with aiohttp.ClientSession(url) as http:
        made = {"session_id": session_id, "history": HISTORY}
        async with http.post("/v1/sessions", json=made) as response:
            assert response.status == 201
        send = {"text": "where?", "tools": [PLACE]}
        async with http.post(f"/v1/sessions/{session_id}/messages", json=send) as response:
            assert (await response.json())["status"] == "interrupted"


async def rewound(url: str, session_id: str) -> None:
    send = {"type": "send", "id": "back", "text": "somewhere else?", "rewind_to": "m2"}
    async with (
        aiohttp.ClientSession(url) as http,
        http.post(f"/v1/sessions/{session_id}/commands", json=send) as response,
    ):
        assert response.status == 202


@pytest.mark.rule("approval.client_tool", "history.imported", "history.rolled_back")
async def test_a_person_answers_for_a_clients_tool_or_rejects_the_call(
    browser: Browser, transport: Transport
) -> None:
    settings = Settings.model_validate({"engine": "memory", "port": 0})
    guide = Guide(LOOK, WHERE)
    async with running(settings, Registry(guide.agent)) as server:
        await asked(server.url, "one")
        user = await opened_page(browser, f"{server.url}/#/s/one", transport)
        try:
            await answer(user)
            await rewound(server.url, "one")
            await expect(said(user)).to_have_text(["Hello from elsewhere", "somewhere else?"])
            await expect(user.part("tool-card").last).to_have_attribute("data-status", "failed")
            await expect(user.answer).to_contain_text("there is no tool 'place'")
            await expect(user.part("approval-card")).to_have_count(0)
            await asked(server.url, "two")
            other = await opened_page(browser, f"{server.url}/#/s/two", transport)
            await reject(other)
            await other.page.context.close()
            assert user.complaints + other.complaints == []
        finally:
            await user.page.context.close()


def said(user: Driver) -> Locator:
    return user.messages("user").get_by_test_id("message-text")


async def answer(user: Driver) -> None:
    await expect(said(user)).to_have_text(["Hello from elsewhere", "where?"])
    card = user.part("approval-card")
    await expect(card).to_contain_text("place waits for its result")
    await expect(card).to_contain_text("a tool of a client's")
    await expect(user.part("approve")).to_be_hidden()
    await expect(user.part("edit")).to_be_hidden()
    await expect(user.part("tool-arguments").last).to_contain_text('"exact": true')
    await user.page.get_by_label("Result").fill('{"city": "Ulm"}')
    await user.part("answer").click()
    await user.until_run("Done")
    await expect(card).to_have_attribute("data-status", "answered")
    await expect(user.part("tool-result").last).to_contain_text('"city": "Ulm"')
    await expect(user.answer).to_contain_text('So: trees, {"city":"Ulm"}.')


async def reject(user: Driver) -> None:
    await user.part("approval-message").fill("no GPS here")
    await user.part("reject").click()
    await user.until_run("Done")
    await expect(user.part("approval-card")).to_have_attribute("data-status", "rejected")
    await expect(user.answer).to_contain_text("So: trees, error: no GPS here.")
