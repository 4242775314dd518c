"""One real server and one real browser for all tests here; a fresh context for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.driver import RUN_LIMIT_MS, Driver, OpenPage, Transport, opened_page
from tests.support.server import Server, running_server

ARGUMENTS = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
expect.set_options(timeout=RUN_LIMIT_MS)

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    # Chromium's sandbox refuses to work for root, as which containers usually run.
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=path, args=[*ARGUMENTS, *sandbox]
        )
        yield launched
        await launched.close()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    agents = "tests.support.agents:registry"
    async with running_server(tmp_path_factory.mktemp("data"), [agents]) as running:
        yield running


@pytest.fixture(params=["sse", "websocket"])
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser, server: Server) -> AsyncIterator[OpenPage]:
    """Open pages on the shared server; at the end none may have complained."""
    drivers: list[Driver] = []

    async def open_one(transport: Transport = "sse", path: str = "/", **context: object) -> Driver:
        driver = await opened_page(browser, server.url + path, transport, **context)
        drivers.append(driver)
        return driver

    yield open_one
    for driver in drivers:
        await driver.page.context.close()
    assert [complaint for driver in drivers for complaint in driver.complaints] == []
