"""Tool cards and approvals, in a real browser."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.driver import OpenPage, Transport

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_two_tools_run_side_by_side_and_show_their_results(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say("weather in Oslo and Rome", agent="tools")
    cards = user.part("tool-card")
    await expect(cards).to_have_count(2)
    await user.until_run("Done")
    rows = '[data-testid="inspector-event"][data-type^="tool."]'
    order = await user.evaluate(
        "rows => [...document.querySelectorAll(rows)].map(({ dataset }) => dataset.type)", rows
    )
    assert order[:2] == ["tool.started", "tool.started"]
    assert order.count("tool.progress") > 2
    for card, city in ((cards.first, "Oslo"), (cards.last, "Rome")):
        await expect(card).to_have_attribute("data-status", "completed")
        await expect(card.get_by_test_id("tool-arguments")).to_contain_text(city)
        await expect(card.get_by_test_id("tool-result")).to_contain_text("temperature_c")
    await expect(user.answer).to_contain_text("Rome:")


@pytest.mark.rule("approval.shared")
async def test_an_approval_holds_the_run_for_everyone_and_is_given_once(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say("delete notes.txt", agent="tools")
    await expect(user.part("approve")).to_be_visible()
    await user.until_run("Waiting for you")
    await user.page.reload()
    await expect(user.part("approve")).to_be_visible()
    path = user.page.url[user.page.url.index("/#") :]
    other = await open_page(transport, path)
    await other.part("approve").click()
    await other.until_run("Done")
    await user.until_run("Done")
    for page in (user, other):
        await expect(page.part("approve")).to_be_hidden()
        await expect(page.part("approval-card")).to_have_attribute("data-status", "approved")
        await expect(page.part("tool-card")).to_have_attribute("data-status", "completed")
        await expect(page.answer).to_contain_text("notes.txt is deleted")


async def test_a_rejected_tool_does_not_run(open_page: OpenPage, transport: Transport) -> None:
    user = await open_page(transport)
    await user.say("delete notes.txt", agent="tools")
    await user.part("reject").click()
    await user.until_run("Done")
    await expect(user.part("approval-card")).to_have_attribute("data-status", "rejected")
    await expect(user.part("tool-card")).not_to_have_attribute("data-status", "completed")


async def test_arguments_can_be_changed_before_they_are_approved(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say("delete notes.txt", agent="tools")
    await user.part("edit").click()
    await user.part("approval-arguments").fill("not json")
    await user.part("approve").click()
    await expect(user.part("approval-card")).to_contain_text("not valid JSON")
    await user.part("approval-arguments").fill('{"path": "other.txt"}')
    await user.part("approve").click()
    await user.until_run("Done")
    await expect(user.part("approval-card")).to_have_attribute("data-status", "edited")
    await expect(user.part("tool-result")).to_contain_text("other.txt")


async def test_a_run_that_waits_for_a_human_can_be_stopped(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say("delete notes.txt", agent="tools")
    await expect(user.part("approve")).to_be_visible()
    await user.part("stop").click()
    await user.until_run("Stopped")
    await expect(user.part("approve")).to_be_hidden()
