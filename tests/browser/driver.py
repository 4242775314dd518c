"""What a person does on the page, in the words of the tests."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from playwright.async_api import Browser, Locator, Page, expect

from tests.support.gates import GATE

Transport = Literal["sse", "websocket"]

RUN_LIMIT_MS = 30_000
"""Far beyond what the scripted runs of the tests take, on a busy machine too."""

WORDS = " ".join(f"word{number}" for number in range(1, 151))
"""Each word is there once."""

DICE = "Math.random = () => 0.1"
"""A page whose connection is lost rolls dice for how long it waits: here it always waits little."""


def held(*stops: int) -> str:
    """Return what `held` is told to say `WORDS`, and to stop after some until a gate is opened."""
    words = [f"word{n} {GATE}" if n in stops else f"word{n}" for n in range(1, 151)]
    return " ".join(words)


class OpenPage(Protocol):
    async def __call__(
        self, transport: Transport = "sse", path: str = "/", **context: object
    ) -> Driver: ...


class Driver:
    """One open page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )

    def part(self, test_id: str) -> Locator:
        return self.page.get_by_test_id(test_id)

    def messages(self, role: str) -> Locator:
        return self.page.locator(f'[data-testid="message"][data-role="{role}"]')

    @property
    def answer(self) -> Locator:
        """The newest message of an agent."""
        return self.messages("assistant").last

    async def say(self, text: str, agent: str = "echo") -> None:
        await self.part("agent-select").select_option(agent)
        await self.part("composer").fill(text)
        await self.part("composer").press("Enter")

    async def until_said(self, words: str) -> None:
        await expect(self.answer).to_contain_text(words, timeout=RUN_LIMIT_MS)

    async def until_status(self, status: str) -> None:
        """Wait until the newest answer is `complete`, `incomplete` or `streaming`."""
        await expect(self.answer).to_have_attribute("data-status", status, timeout=RUN_LIMIT_MS)

    async def until_run(self, words: str) -> None:
        await expect(self.part("run-status")).to_have_text(words, timeout=RUN_LIMIT_MS)

    async def until_connected(self) -> None:
        await expect(self.part("connection-state")).to_have_text("connected", timeout=RUN_LIMIT_MS)

    async def texts(self) -> list[str]:
        """What was said, exactly, marks and names apart."""
        return await self.page.locator(
            '[data-testid="message"] [data-testid="message-text"]'
        ).all_text_contents()

    async def evaluate(self, script: str, argument: object = None) -> Any:
        return await self.page.evaluate(script, argument)


async def opened_page(
    browser: Browser, url: str, transport: Transport, **context: object
) -> Driver:
    """Open the page in a context of its own that prefers a transport."""
    chosen = {"name": "tidegate.transport", "value": transport}
    origin = {"origin": "/".join(url.split("/")[:3]), "localStorage": [chosen]}
    options: Any = {
        "viewport": {"width": 1440, "height": 900},
        "storage_state": {"cookies": [], "origins": [origin]},
        **context,
    }
    fresh = await browser.new_context(**options)
    await fresh.add_init_script(DICE)
    driver = Driver(await fresh.new_page())
    await driver.page.goto(url)
    await expect(driver.part("agent-select").locator("option")).not_to_have_count(0)
    return driver
