"""A reconnect storm: a server that dies is found again by all of its clients, and none misses anything."""

from __future__ import annotations

import resource

import pytest

import bench.storm

WORDS = 80
"""Of each answer: the server must die before the first one is over, however busy the machine is."""


@pytest.mark.fault("F31", holds=("I1", "I3"))
@pytest.mark.rule("resume.exact", "resume.no_hole")
@pytest.mark.parametrize(
    ("clients", "sessions"),
    [
        pytest.param(200, 10),
        pytest.param(5000, 50, marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
)
async def test_all_clients_of_a_server_that_was_killed_come_back_and_miss_nothing(
    monkeypatch: pytest.MonkeyPatch, clients: int, sessions: int
) -> None:
    monkeypatch.setattr(bench.storm, "WORDS", WORDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        seen = await bench.storm.storm(clients, sessions, limit=240)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert seen.wrong == []
    assert len(seen.caught_up) == clients
    assert seen.attempts >= clients
