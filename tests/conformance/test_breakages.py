"""A server that is broken in one thing is found out, and the right rule is named."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.conformance.check import Check, Result, Role
from gateway.conformance.checks import CHECKS
from gateway.conformance.runner import judge
from gateway.conformance.target import opened
from tests.conformance import broken_commands, broken_streams
from tests.conformance.proxy import Honest, breaking
from tests.support.server import running_server

AT_ONCE = 8
BREAKAGES: list[type[Honest]] = [
    each
    for module in (broken_commands, broken_streams)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Honest) and each is not Honest
]
PLAYERS: dict[Role, str] = {
    "echo": "echo",
    "tools": "tools",
    "research": "research",
    "caller": "caller",
}
UNSEEN_FROM_A_PROXY = {
    "run.taken_over": "needs a kill",
    "drain.orderly": "needs a stop",
    "sse.keepalive": "needs 15 s",
    "slow.cut": "needs 10 s",
    "ws.codes": "needs a stop, or 10 s",
    "http.slow": "needs 30 s",
    "server.full": "needs a full server",
    "store.away": "needs a store that goes away",
    "client.resume": "binds clients",
    "client.wait": "binds clients",
    "client.silence": "binds clients",
    "client.stop": "binds clients",
}


async def broken_rules(url: str, checks: Sequence[Check]) -> list[Result]:
    async with opened(url, PLAYERS) as target:
        return await judge(target, checks, quick=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[type[Honest], list[Result]]:
    """What the checks of the rule that each breakage breaks came to; all of them side by side."""
    data = tmp_path_factory.mktemp("conformance")
    return asyncio.run(find_out(data))


async def find_out(data: Path) -> dict[type[Honest], list[Result]]:
    free, results = asyncio.Semaphore(AT_ONCE), dict[type[Honest], list[Result]]()

    async def one(server: str, breakage: type[Honest]) -> None:
        checks = [check for check in CHECKS if check.rule == breakage.rule]
        async with free, breaking(server, breakage()) as url:
            results[breakage] = await broken_rules(url, checks)

    agents = ["tests.conformance.agents:registry"]
    async with (
        running_server(data, agents, {"TIDEGATE_ENGINE": "memory"}) as server,
        asyncio.TaskGroup() as tasks,
    ):
        for breakage in reversed(BREAKAGES):  # the last ones take longest
            tasks.create_task(one(server.url, breakage))
    return results


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_what_is_broken_is_named(
    breakage: type[Honest], found: dict[type[Honest], list[Result]]
) -> None:
    results = found[breakage]
    assert {result.check.rule for result in results} == {breakage.rule}
    broken = [result for result in results if result.outcome == "broken"]
    assert broken, [result.as_json() for result in results]
    assert all(result.expected and result.seen for result in broken)


def test_every_rule_that_a_proxy_can_break_is_broken_once() -> None:
    rules = {check.rule for check in CHECKS} - UNSEEN_FROM_A_PROXY.keys()
    assert rules == {breakage.rule for breakage in BREAKAGES}
