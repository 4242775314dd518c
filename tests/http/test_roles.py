"""What a server answers that only does runs, and which servers may leave work to others."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from gateway.app import build_app, running
from gateway.config import Settings
from gateway.engines.memory import MemoryEngine
from gateway.errors import StartupRefused
from gateway.sessions.manager import SessionManager
from runtime.registry import Registry
from tests.support.puppet import Part, Puppet


async def _nothing(part: Part) -> None:
    """Play nothing."""


async def test_a_worker_answers_probes_and_tells_clients_that_they_are_wrong_here() -> None:
    manager = SessionManager(MemoryEngine(shared=True), Registry(Puppet(_nothing)))
    runner = web.AppRunner(build_app(manager, Settings(role="worker")))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession(url) as http:
            for path in ("/healthz", "/readyz"):
                async with http.get(path) as response:
                    assert response.status == 200
            for method, path in (("GET", "/"), ("GET", "/v1/agents"), ("POST", "/v1/sessions")):
                async with http.request(method, path, json={}) as response:
                    assert response.status == 404
                    said = await response.json(content_type="application/problem+json")
                    assert said["code"] == "route_unknown"
                    assert "worker" in said["detail"]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("role", ["edge", "worker"])
async def test_a_role_needs_a_store_that_others_share(role: str) -> None:
    settings = Settings.model_validate({"engine": "memory", "port": 0, "role": role})
    with pytest.raises(StartupRefused, match=f"the role `{role}`"):
        async with running(settings, Registry(Puppet(_nothing))):
            raise AssertionError("it started")
