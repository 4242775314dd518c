"""Saying something while an answer is under way, and the queue, in a real browser."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.driver import RUN_LIMIT_MS, Driver, OpenPage, held
from tests.support.gates import open_gate
from tests.support.server import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = held(3)
"""What `held` does not come to the end of: no gate is opened here."""


async def queued(user: Driver, *texts: str) -> None:
    """Wait until exactly these wait, in this order."""
    waiting = user.part("queued").locator(".message-text")
    await expect(waiting).to_have_text(list(texts), timeout=RUN_LIMIT_MS)


async def answering(user: Driver, *then: str) -> None:
    """Have an answer under way, and more inputs behind it."""
    await user.say(LONG, agent="held")
    await user.until_said("word3")
    for text in then:
        await user.say(text)
    await queued(user, *then)


@pytest.mark.rule("queue.edit")
async def test_one_tab_reorders_the_queue_and_the_other_sees_it(open_page: OpenPage) -> None:
    user = await open_page("sse")
    await user.say("delete notes.txt", agent="tools")  # it waits for a human, and so do the others
    await expect(user.part("approve")).to_be_visible()
    for text in ("first", "second", "third"):
        await user.say(text)
    other = await open_page("websocket", user.page.url[user.page.url.index("/#") :])
    await queued(other, "first", "second", "third")

    # With the keyboard: the button is found by its name, and keeps the focus where the input goes.
    up = user.page.get_by_role("button", name="Move up: third")
    await up.focus()
    await up.press("Enter")
    await queued(user, "first", "third", "second")
    await queued(other, "first", "third", "second")
    await expect(up).to_be_focused()
    await up.press("Enter")
    await queued(other, "third", "first", "second")
    await expect(up).to_be_focused()
    await expect(up).to_have_attribute("aria-disabled", "")
    await up.press("Enter")  # it is the first already

    await other.page.get_by_role("button", name="Move down: first").click()
    await queued(user, "third", "second", "first")
    await expect(user.part("queued").nth(1)).to_contain_text("Queued, number 2")
    await other.page.get_by_role("button", name="Remove from the queue: second").click()
    await queued(user, "third", "first")
    await user.page.reload()
    await queued(user, "third", "first")
    await user.part("approve").click()
    await user.until_run("Done")
    await queued(user)


@pytest.mark.rule("send.policies")
async def test_what_becomes_of_the_answer_is_chosen_beside_the_send_button(
    open_page: OpenPage,
) -> None:
    user = await open_page("sse")
    await expect(user.part("policy")).to_be_hidden()
    await answering(user, "waits")
    await expect(user.part("policy")).to_have_value("enqueue")
    hint = await user.part("composer-hint").evaluate("(e) => [e.scrollWidth, e.clientWidth]")
    assert hint[0] <= hint[1], "what the keys do is cut off"
    await user.part("policy").select_option("interrupt")
    await user.say("shorter please")
    await expect(user.messages("assistant").first).to_have_attribute("data-status", "incomplete")
    await user.until_run("Done")
    await expect(user.messages("user")).to_contain_text([LONG, "shorter please", "waits"])
    await expect(user.part("policy")).to_be_hidden()

    await user.say(LONG, agent="held")
    await user.until_said("word3")
    await expect(user.part("policy")).to_have_value("enqueue")
    await user.part("policy").select_option("rollback")
    await user.say("instead")
    await user.until_run("Done")
    await expect(user.messages("user")).to_contain_text(
        [LONG, "shorter please", "waits", "instead"]
    )
    await expect(user.answer).to_contain_text("instead")


@pytest.mark.rule("send.steer")
async def test_the_agent_is_told_something_in_the_middle_of_its_work(
    open_page: OpenPage, server: Server
) -> None:
    user = await open_page("websocket")
    await user.say("watch the tide", agent="watcher")
    await expect(user.part("tool-card")).to_have_attribute("data-status", "running")
    await user.part("policy").select_option("steer")
    await user.say("and the wind", agent="watcher")
    await expect(user.part("queued")).to_contain_text("For the agent's next step")
    await open_gate(server.url)
    await user.until_run("Done")
    await expect(user.part("queued")).to_have_count(0)
    await expect(user.messages("user")).to_have_count(2)
    steered = '[data-testid="inspector-event"][data-type="input.steered"]'
    await expect(user.page.locator(steered)).to_have_count(1)
    ends = '[data-testid="inspector-event"][data-type="run.completed"]'
    await expect(user.page.locator(ends)).to_have_count(1)
