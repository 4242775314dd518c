"""Sending, streaming, stopping and going on, in a real browser."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Route, expect

from tests.browser.driver import OpenPage, Transport, held
from tests.support.gates import open_gate
from tests.support.server import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.rows("K24")
async def test_an_answer_streams_and_is_whole_at_the_end(
    open_page: OpenPage, server: Server, transport: Transport
) -> None:
    user = await open_page(transport)
    words = held(5)
    await user.say(words, agent="held")
    await user.until_said("word5")
    await user.until_status("streaming")
    await open_gate(server.url)
    await user.until_status("complete")
    assert await user.texts() == [words, words]
    await expect(user.part("connection-state")).to_have_text("connected")
    await expect(user.part(f"transport-{transport}")).to_have_attribute("aria-pressed", "true")
    await expect(user.part("usage")).to_contain_text("tokens")


async def test_a_second_turn_joins_the_same_session(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say("first")
    await user.until_run("Done")
    address = user.page.url
    await user.say("second")
    await expect(user.messages("assistant")).to_have_count(2)
    await user.until_run("Done")
    assert user.page.url == address
    assert await user.texts() == ["first", "first", "second", "second"]


async def test_a_stopped_answer_keeps_its_text_and_continue_says_it_whole(
    open_page: OpenPage, server: Server, transport: Transport
) -> None:
    user = await open_page(transport)
    words = held(20)
    await user.say(words, agent="held")
    await user.until_said("word20")
    await user.part("stop").click()
    await user.until_status("incomplete")
    partial = (await user.texts())[1]
    assert partial.startswith("word1 word2 ")
    assert words.startswith(partial)
    assert partial != words
    await expect(user.answer).to_contain_text("Stopped before the end")
    await expect(user.part("stop")).to_be_hidden()

    await user.part("continue").click()
    await expect(user.messages("assistant")).to_have_count(2)
    await open_gate(server.url)
    await user.until_status("complete")
    assert await user.texts() == [words, partial, words]
    await expect(user.messages("assistant").first).to_have_attribute("data-status", "superseded")
    await expect(user.part("continue")).to_have_count(0)


async def test_what_is_said_during_a_run_waits_for_its_turn(
    open_page: OpenPage, server: Server, transport: Transport
) -> None:
    user = await open_page(transport)
    words = held(5)
    await user.say(words, agent="held")
    await user.until_said("word5")
    await user.say("and then this")
    await user.say("but not this")
    await expect(user.part("queued")).to_have_count(2)
    await user.part("queued").last.get_by_test_id("queue-drop").click()
    await expect(user.part("queued")).to_have_count(1)
    await open_gate(server.url)
    await expect(user.messages("assistant")).to_have_count(2)
    await user.until_run("Done")
    assert await user.texts() == [words, words, "and then this", "and then this"]


async def test_two_messages_in_one_breath_make_one_session(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.part("agent-select").select_option("echo")
    await user.evaluate(
        "() => { const input = document.getElementById('composer');"
        " for (const text of ['one', 'two']) {"
        " input.value = text; input.form.requestSubmit(); } }"
    )
    await expect(user.messages("assistant")).to_have_count(2)
    await user.until_run("Done")
    assert sorted(await user.texts()) == ["one", "one", "two", "two"]


@pytest.mark.rows("K23")
async def test_text_is_shown_as_text_and_never_as_markup(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    attack = "<img src=x onerror=alert(1)> <b>bold</b> &amp; <script>alert(2)</script>"
    await user.say(attack)
    await user.until_run("Done")
    assert await user.texts() == [attack, attack]
    assert await user.page.locator("#items img, #items b, #items script").count() == 0


async def test_a_refusal_is_told_in_the_words_of_the_server(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say("hello")
    await user.until_run("Done")
    await user.evaluate(
        "() => { const pick = document.getElementById('agent-select');"
        " pick.append(new Option('nobody')); pick.value = 'nobody';"
        " pick.dispatchEvent(new Event('change')); }"
    )
    await user.part("composer").fill("who are you?")
    await user.part("composer").press("Enter")
    await expect(user.part("toast")).to_contain_text("nobody")
    await expect(user.part("composer")).to_have_value("who are you?")
    # A browser logs every HTTP error; this one was meant.
    user.complaints = [said for said in user.complaints if "404" not in said]


async def test_a_session_whose_making_seemed_to_fail_is_made_once(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    asked: list[str] = []

    async def lose_the_answer(route: Route) -> None:
        """Let the server make it, and the page believe that it could not be reached."""
        asked.append(json.loads(route.request.post_data or "")["session_id"])
        if len(asked) > 1:
            await route.continue_()
            return
        await route.fetch()
        await route.abort()

    await user.page.route(
        lambda url: url.endswith("/v1/sessions"),
        lambda route: (
            lose_the_answer(route) if route.request.method == "POST" else route.continue_()
        ),
    )
    await user.part("agent-select").select_option("echo")
    await user.part("composer").fill("once")
    await user.part("composer").press("Enter")
    await expect(user.part("toast")).to_contain_text("cannot be reached")
    await user.part("composer").press("Enter")
    await user.until_run("Done")
    assert await user.texts() == ["once", "once"]
    assert asked == [user.page.url.rsplit("/", 1)[1]] * 2
    # A browser logs a request that failed; this one was meant.
    user.complaints = [said for said in user.complaints if "ERR_FAILED" not in said]


async def test_a_session_can_be_deleted(open_page: OpenPage, transport: Transport) -> None:
    user = await open_page(transport)
    await user.say("to be deleted soon")
    await user.until_run("Done")
    session_id = user.page.url.rsplit("/", 1)[1]
    row = user.page.locator(f'[data-session-id="{session_id}"]')
    await row.get_by_role("button").click()
    await user.part("confirm-delete").click()
    await expect(row).to_have_count(0)
    await expect(user.part("empty")).to_be_visible()
    user.complaints = [said for said in user.complaints if "410" not in said]
