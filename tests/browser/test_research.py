"""A graph on the page: nodes, progress, the question to the human, the streamed result."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, expect

from tests.browser.driver import RUN_LIMIT_MS, Driver, OpenPage, Transport, opened_page
from tests.support.gates import open_gate
from tests.support.server import Server, running_server
from tests.support.team import FOUND

pytestmark = pytest.mark.asyncio(loop_scope="session")

FETCHES = ("fetch_1", "fetch_2", "fetch_3")
ASKED = "How do tides work?"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """Run a server of its own, whose graph stands still until gates are opened."""
    agents = "tests.support.agents:research"
    async with running_server(tmp_path_factory.mktemp("research"), [agents]) as running:
        yield running


async def ask(user: Driver, site: Server) -> None:
    """Begin a run, and let it go on to the fetches."""
    await user.say(ASKED, agent="research")
    await open_gate(site.url)


async def let_them_fetch(site: Server) -> None:
    """Let all fetches go on that stand, or are about to."""
    for _ in FETCHES:
        await open_gate(site.url)


def node(user: Driver, name: str) -> Locator:
    return user.page.locator(f'[data-testid="graph-node"][data-node="{name}"]')


async def until_node(user: Driver, name: str, status: str) -> None:
    await expect(node(user, name)).to_have_attribute("data-status", status, timeout=RUN_LIMIT_MS)


async def leave(*users: Driver) -> None:
    """Close the pages; none may have complained."""
    for user in users:
        await user.page.context.close()
        assert user.complaints == []


async def test_a_graph_is_shown_live_from_its_first_node_to_its_streamed_result(
    browser: Browser, site: Server, transport: Transport
) -> None:
    user = await opened_page(browser, site.url, transport)
    await user.say(ASKED, agent="research")
    await until_node(user, "plan", "running")
    await until_node(user, "write", "waiting")  # what is still to come is shown, too
    await open_gate(site.url)
    for name in FETCHES:
        await until_node(user, name, "running")
    tops = [await node(user, name).bounding_box() for name in FETCHES]
    assert len({box["y"] for box in tops if box}) == 1, "they stand side by side"
    bar = node(user, "fetch_1").get_by_role("progressbar", name="Progress of fetch_1")
    await expect(bar).to_be_visible()
    await expect(node(user, "fetch_1")).to_contain_text("Coast almanac: ")
    await let_them_fetch(site)
    await until_node(user, "fetch_2", "completed")
    await expect(node(user, "fetch_2")).to_contain_text("s")
    await until_node(user, "approve", "interrupted")
    await user.until_run("Waiting for you")
    card = user.part("approval-card")
    await expect(card).to_contain_text("Shall a report be written from these notes?")
    await expect(user.part("approval-value")).to_contain_text("Harbour archive: The Earth turns")
    await user.part("approve").click()
    await user.until_said("The Moon pulls")
    assert await user.answer.get_attribute("data-status") == "streaming"
    await until_node(user, "write", "running")
    await open_gate(site.url)
    await user.until_run("Done")
    await user.until_status("complete")
    await expect(user.answer).to_contain_text("[3] Field notes")
    await expect(user.answer).to_contain_text("writer")
    await until_node(user, "write", "completed")
    await expect(user.part("graph-card")).to_contain_text("6 of 6 nodes done")
    await leave(user)


@pytest.mark.rule("snapshot.nodes", "approval.shared")
async def test_a_page_that_reloads_in_the_middle_and_one_that_joins_show_the_same(
    browser: Browser, site: Server, transport: Transport
) -> None:
    user = await opened_page(browser, site.url, transport)
    await ask(user, site)
    await until_node(user, "fetch_2", "running")
    await expect(node(user, "fetch_2")).to_contain_text("reading")
    await user.page.reload()
    await until_node(user, "plan", "completed")
    await until_node(user, "fetch_2", "running")
    await expect(node(user, "fetch_2").get_by_role("progressbar")).to_be_visible()
    await until_node(user, "write", "waiting")
    await let_them_fetch(site)
    await until_node(user, "approve", "interrupted")
    await user.page.reload()
    await expect(user.part("approval-value")).to_contain_text("Field notes: At new and full moon")
    await until_node(user, "approve", "interrupted")
    path = user.page.url[len(site.url) :]
    other = await opened_page(browser, site.url + path, transport)
    await other.part("approve").click()
    await user.until_said("The Moon")
    await user.page.reload()
    await until_node(user, "write", "running")
    await expect(user.answer).to_contain_text("writer")  # also while it speaks
    await open_gate(site.url)
    await user.until_run("Done")
    await other.until_run("Done")
    for page in (user, other):
        await expect(page.part("graph-card")).to_contain_text("6 of 6 nodes done")
    assert await user.texts() == await other.texts()
    await leave(user, other)


async def test_a_cut_connection_changes_nothing_of_what_is_shown(
    browser: Browser, site: Server, transport: Transport
) -> None:
    user = await opened_page(browser, site.url, transport)
    await ask(user, site)
    await until_node(user, "fetch_1", "running")
    await user.part("cut-connection").click()
    await let_them_fetch(site)
    await user.until_connected()
    await until_node(user, "approve", "interrupted")
    for name in FETCHES:
        await until_node(user, name, "completed")
    await user.part("cut-connection").click()
    await user.until_connected()
    await user.part("approve").click()
    await open_gate(site.url)
    await user.until_run("Done")
    await expect(user.part("graph-card")).to_have_count(1)
    await expect(user.messages("assistant")).to_have_count(1)
    await leave(user)


@pytest.mark.rule("approval.node")
async def test_a_human_can_say_no_and_why(browser: Browser, site: Server) -> None:
    user = await opened_page(browser, site.url, "sse")
    await ask(user, site)
    await let_them_fetch(site)
    await user.part("approval-message").fill("too wet")
    await user.part("reject").click()
    await user.until_run("Done")
    await expect(user.part("approval-card")).to_have_attribute("data-status", "rejected")
    await expect(user.answer).to_contain_text("Nothing was written. You said: too wet")
    await expect(user.answer).to_contain_text("research")  # the graph itself says it
    await until_node(user, "write", "skipped")
    await leave(user)


@pytest.mark.rule("approval.node")
async def test_a_human_can_change_what_is_written_about(browser: Browser, site: Server) -> None:
    user = await opened_page(browser, site.url, "websocket")
    await ask(user, site)
    await let_them_fetch(site)
    await user.part("edit").click()
    await user.part("approval-arguments").fill(
        '{"topic": "Ebb", "notes": ["Me: It is <b>low</b>."]}'
    )
    await user.part("approve").click()
    await user.until_run("Done")
    await expect(user.part("approval-card")).to_have_attribute("data-status", "edited")
    said = (await user.texts())[-1]
    assert said == "Ebb\n\nIt is <b>low</b>. [1]\n\nSources: [1] Me"
    await leave(user)


async def test_a_stopped_graph_shows_what_was_cut_off_and_goes_on_after_it(
    browser: Browser, site: Server
) -> None:
    user = await opened_page(browser, site.url, "sse")
    await ask(user, site)
    for name in FETCHES:  # one that stands there already will not stand there again
        await expect(node(user, name)).to_contain_text("reading")
    await user.part("stop").click()
    await user.until_run("Stopped")
    await until_node(user, "fetch_2", "stopped")
    await until_node(user, "write", "skipped")
    await user.part("continue").click()
    await expect(user.part("approve")).to_be_visible(timeout=RUN_LIMIT_MS)
    await expect(user.part("graph-card")).to_have_count(2)
    again = user.part("graph-card").last
    plan = again.locator('[data-node="plan"]')
    await expect(plan).to_have_attribute("data-status", "completed")  # it is not done again
    await leave(user)


async def test_what_a_called_agent_says_is_shown_below_its_call_and_can_be_folded(
    open_page: OpenPage, transport: Transport
) -> None:
    user = await open_page(transport)
    await user.say("ask around", agent="boss")
    below = user.part("nested")
    await expect(below).to_contain_text("researcher", timeout=RUN_LIMIT_MS)
    await expect(below).to_contain_text("The tide")
    await expect(below).to_have_attribute("open", "")
    await user.until_run("Done")
    await expect(user.part("tool-result")).to_contain_text(FOUND)
    own = user.page.locator("#items > .message-assistant")
    await expect(own).to_have_count(1)
    await expect(own).to_contain_text("That is what was found.")
    await below.locator("summary").press("Enter")
    await expect(below.get_by_text(FOUND)).to_be_hidden()
    await user.page.reload()
    await expect(below).to_contain_text("1 message", timeout=RUN_LIMIT_MS)
    await expect(below.get_by_text(FOUND)).to_be_hidden()
