"""Whatever happens to the connection, the text on the page is exactly the one in the log."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.driver import WORDS, OpenPage, Transport

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.rule("join.late")
async def test_a_reload_in_mid_answer_loses_and_repeats_nothing(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say(WORDS)
    for words in ("word15 ", "word50 ", "word85 "):
        await user.until_said(words)
        await user.page.reload()
        await user.until_connected()
        await user.until_status("streaming")
    await user.until_status("complete")
    assert await user.texts() == [WORDS, WORDS]


@pytest.mark.rule("resume.exact")
async def test_switching_the_transport_in_mid_answer_loses_and_repeats_nothing(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    other = "websocket" if transport == "sse" else "sse"
    await user.say(WORDS)
    for number, chosen in ((15, other), (45, transport), (75, other)):
        await user.until_said(f"word{number} ")
        await user.part(f"transport-{chosen}").click()
        await user.until_connected()
        await user.until_status("streaming")
    await user.until_status("complete")
    assert await user.texts() == [WORDS, WORDS]
    await expect(user.part(f"transport-{other}")).to_have_attribute("aria-pressed", "true")


@pytest.mark.rule("resume.exact")
async def test_a_cut_connection_comes_back_at_the_cursor(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say(WORDS)
    for number in (15, 45, 75):
        await user.until_said(f"word{number} ")
        await user.part("cut-connection").click()
    await user.until_status("complete")
    assert await user.texts() == [WORDS, WORDS]
    await user.until_connected()
    await expect(user.part("reconnects")).to_have_text("3")
    resets = user.page.locator('[data-testid="inspector-event"][data-type="stream.reset"]')
    assert await resets.count() == 0, "it went on at the cursor, without a snapshot"


async def test_a_second_tab_sees_the_same(open_page: OpenPage, transport: Transport) -> None:
    first = await open_page(transport)
    await first.say(WORDS)
    await first.until_said("word20 ")
    path = first.page.url[first.page.url.index("/#") :]
    second = await open_page("websocket" if transport == "sse" else "sse", path)
    await second.until_status("streaming")
    await second.until_status("complete")
    await first.until_status("complete")
    assert await first.texts() == await second.texts() == [WORDS, WORDS]

    await second.say("from the other tab")
    await expect(first.messages("assistant")).to_have_count(2)
    await first.until_run("Done")
    await second.until_run("Done")
    assert await first.texts() == await second.texts()
    assert await first.part("cursor").inner_text() == await second.part("cursor").inner_text()


async def test_a_run_goes_on_while_nobody_looks(open_page: OpenPage, transport: Transport) -> None:
    user = await open_page(transport)
    await user.say(WORDS)
    await user.until_said("word10 ")
    address = user.page.url
    await user.page.goto("about:blank")
    await user.page.goto(address)
    await user.until_status("complete")
    assert await user.texts() == [WORDS, WORDS]
