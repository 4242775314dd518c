"""`tidegate conformance` in a process of its own, against real servers."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.conformance.target import NoServer, opened
from tests.conformance.broken_streams import HasNoPrime
from tests.conformance.proxy import Honest, breaking
from tests.support.server import ROOT, Server, running_server

AGENTS = ["tests.conformance.agents:registry"]
MEMORY = {"TIDEGATE_ENGINE": "memory"}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A good server; whoever looks at it leaves nothing there."""
    async with running_server(tmp_path_factory.mktemp("data"), AGENTS, MEMORY) as server:
        yield server


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


async def conformance(url: str, *options: str, limit: float = 100.0) -> Done:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "conformance", url, *options),
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(limit):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return Done(process.returncode or 0, out.decode(), err.decode())


async def sessions(url: str) -> list[str]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/v1/sessions") as response:
        return [each["session_id"] for each in (await response.json())["sessions"]]


async def test_a_good_server_passes_and_nothing_is_left_on_it(server: Server) -> None:
    """Through the proxy that the broken servers are made of, which breaks nothing here."""
    async with breaking(server.url, Honest()) as url:
        done = await conformance(url, "--quick", "--caller", "caller", "--strict", "--json")
    left = await sessions(server.url)
    broken = [check for check in done.json["checks"] if check["outcome"] == "broken"]
    assert (broken, done.err) == ([], "")
    assert done.code == 3, "with --quick, and without --restart, something is not checked"
    assert done.json["holds"] is True
    assert sum(check["outcome"] == "holds" for check in done.json["checks"]) > 90
    assert done.json["rules"]["log.order"] == "holds"
    assert done.json["rules"]["sse.keepalive"] == "not checked"
    assert done.json["rules"]["sse.end"] == "holds in part"
    assert left == []


async def test_a_broken_rule_is_told_with_what_was_expected_and_seen(server: Server) -> None:
    async with breaking(server.url, HasNoPrime()) as url:
        done = await conformance(url, "--rule", "sse.prime", "--rule", "cursor")
    assert done.code == 1
    first, second, *told, last = done.out.splitlines()
    assert re.fullmatch(r"holds +cursor\.form +\d+\.\d s", first)
    assert re.fullmatch(r"broken +sse\.prime +\d+\.\d s", second)
    words = [line.strip().partition(": ")[0] for line in told]
    assert words == ["promise", "expected", "saw", "by"]
    assert "the first `id:`" in told[1]
    assert "GET /v1/sessions/" in told[3]
    assert last == "2 rules: 1 holds, 1 broken"


async def test_what_is_missing_is_told_and_is_no_failure(server: Server) -> None:
    rules = [f"--rule={tag}" for tag in ("send.message_id", "http.problem", "ws.codes")]
    options = ("--quick", "--echo", "parrot", "--restart", "exit 4")
    done = await conformance(server.url, *rules, *options)
    assert done.code == 0
    assert "not checked     send.message_id" in done.out
    assert "needs an agent like `echo` that the server has; name it with --echo NAME" in done.out
    assert "holds           http.problem" in done.out
    assert "the command of --restart ended with 4" in done.out


async def hello(request: web.Request) -> web.Response:
    return web.json_response({"agents": "none of this protocol"})


async def late(request: web.Request) -> web.Response:
    await asyncio.sleep(1.2)
    return web.json_response({"agents": []})


@asynccontextmanager
async def another_server(agents: Handler = hello) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/v1/agents", agents)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_busy_server_has_time_to_begin_an_answer_that_goes_on() -> None:
    async with another_server(late) as url, opened(url, {}) as target:
        (await target.head("/v1/agents")).must_be(200)


async def test_what_is_no_tidegate_gets_one_line() -> None:
    async with another_server() as url:
        done = await conformance(url)
        for elsewhere, why in ((f"{url}/somewhere/", "404"), ("tidegate.example", "no address")):
            with pytest.raises(NoServer, match=why):
                await opened(elsewhere, {}).__aenter__()
    with pytest.raises(NoServer, match="ClientConnectorError"):
        await opened(url, {}).__aenter__()
    unknown = await conformance(url, "--rule", "sse.unheard_of")
    for refused, why in ((done, "lists no agents"), (unknown, "known: approval.client_tool, ")):
        assert (refused.code, refused.out) == (2, ""), refused
        (line,) = refused.err.splitlines()
        assert line.startswith("tidegate: ")
        assert why in line


def restart(server: Server, folder: Path) -> str:
    """Return a command that ends a server with a signal and starts it again, as an operator has."""
    (folder / "pid").write_text(str(server.pid))
    script = folder / "restart.sh"
    again = (
        f"{sys.executable} -m gateway serve {AGENTS[0]} --port {server.port} --data {folder}/data"
    )
    script.write_text(
        f"cd {ROOT}\n"
        f"kill -$SIGNAL $(cat {folder}/pid)\n"
        f"while kill -0 $(cat {folder}/pid) 2>/dev/null; do sleep 0.05; done\n"
        f"{again} >{folder}/log 2>&1 &\n"
        f"echo $! >{folder}/pid\n"
    )
    return f"sh {script}"


@asynccontextmanager
async def restartable(
    tmp_path: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Server, str]]:
    async with running_server(tmp_path / "data", AGENTS, environment) as server:
        try:
            yield server, restart(server, tmp_path)
        finally:
            pid = int((tmp_path / "pid").read_text())
            if pid != server.pid:
                os.kill(pid, 9)


async def test_a_restart_shows_what_a_kill_must_not_lose(tmp_path: Path) -> None:
    async with restartable(tmp_path) as (server, command):
        rules = [f"--rule={tag}" for tag in ("log.immutable", "command.once")]
        done = await conformance(server.url, *rules, "--restart", command, "--json")
    assert done.code == 0, done.out
    assert set(done.json["rules"].values()) == {"holds"}


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_every_rule_that_can_be_seen_holds(tmp_path: Path) -> None:
    async with restartable(tmp_path) as (server, command):
        options = ("--caller", "caller", "--restart", command, "--strict", "--json")
        done = await conformance(server.url, *options, limit=180.0)
    told = [check for check in done.json["checks"] if check["outcome"] in {"broken", "not checked"}]
    assert (told, done.code) == ([], 0)


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_server_that_takes_its_time_is_found_out(tmp_path: Path) -> None:
    slow = dict.fromkeys(("KEEPALIVE_S", "WRITE_TIMEOUT_S", "WS_HEARTBEAT_S"), "120")
    environment = {f"TIDEGATE_{name}": value for name, value in slow.items()} | MEMORY
    rules = ("sse.keepalive", "slow.cut", "ws.heartbeat", "ws.codes")
    options = [part for rule in rules for part in ("--rule", rule)]
    async with running_server(tmp_path, AGENTS, environment) as server:
        done = await conformance(server.url, *options, "--json", limit=120.0)
    assert set(done.json["rules"].values()) == {"broken"}, done.out


@pytest.mark.long
async def test_a_server_that_forgets_when_it_is_killed_is_found_out(tmp_path: Path) -> None:
    tags = ("log.commit", "log.immutable", "command.once", "run.taken_over", "resume.exact")
    rules = [f"--rule={tag}" for tag in tags]
    async with restartable(tmp_path, MEMORY) as (server, command):
        done = await conformance(server.url, *rules, "--restart", command, "--json")
    assert set(done.json["rules"].values()) == {"broken"}, done.out
