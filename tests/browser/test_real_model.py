"""The page with the real local model: the main job of the whole house."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.browser.driver import Driver, Transport, opened_page
from tests.support.server import Server, running_server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

FIRST, SECOND, KNOWN = "I have a dog called Rex.", "Write a sentence about my dog.", "Rex"
TRIES = 3
"""A model of this size forgets now and then."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running_server(tmp_path_factory.mktemp("data"), real_model=True) as running:
        yield running


async def _second_answer(user: Driver) -> str:
    await user.say(FIRST, agent="assistant")
    await user.until_run("Done")
    arrived = user.page.locator('[data-testid="inspector-event"][data-type="message.delta"]')
    assert await arrived.count() > 1  # it came in pieces
    await user.say(SECOND, agent="assistant")
    await expect(user.messages("assistant")).to_have_count(2)
    await user.until_run("Done")
    return (await user.texts())[-1]


async def test_a_person_talks_with_the_real_model_and_it_knows_what_was_said_before(
    browser: Browser, model_server: Server, transport: Transport
) -> None:
    answers: list[str] = []
    while not answers or (KNOWN not in answers[-1] and len(answers) < TRIES):
        user = await opened_page(browser, model_server.url, transport)
        answers.append(await _second_answer(user))
        assert user.complaints == []
        await user.page.context.close()
    assert KNOWN in answers[-1]


async def test_the_real_model_is_read_while_it_writes_and_can_be_stopped(
    browser: Browser, model_server: Server, transport: Transport
) -> None:
    user = await opened_page(browser, model_server.url, transport)
    await user.part("suggestion").first.click()
    await expect(user.answer.get_by_test_id("message-text")).not_to_be_empty(timeout=30_000)
    await user.until_status("streaming")
    await user.part("stop").click()
    await user.until_status("incomplete")
    assert len((await user.texts())[1]) > 0
    assert user.complaints == []
    await user.page.context.close()
