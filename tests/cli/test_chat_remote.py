"""`tidegate chat --url`: a real server, killed and cut off, and the answer is there exactly once."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.cli.support.agents import HELD, STAGED, WORDS
from tests.cli.support.process import AGENTS, PATIENCE, ROOT, at_a_terminal, environment
from tests.cli.support.proxy import proxied
from tests.support.copies import Copy, copy
from tests.support.gates import open_gate
from tests.support.server import Server, running_server

ANSWER = WORDS.encode()


@asynccontextmanager
async def serving(data: Path, *arguments: str) -> AsyncIterator[Server]:
    target = f"{AGENTS}:registry"
    async with running_server(data, [target, *arguments], {"PYTHONPATH": str(ROOT)}) as server:
        yield server


class Client:
    """`tidegate chat --url … -m …` on pipes."""

    def __init__(self, process: Copy) -> None:
        self.process = process
        self.out = b""

    async def until(self, size: int) -> None:
        """Wait until so many bytes of the answer are there."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while len(self.out) < size:
                data = await self.process.stdout.read(1024)
                assert data, await self.end()
                self.out += data

    async def end(self) -> tuple[int, bytes, str]:
        """Wait for its end; return its exit code, the whole answer and what it told."""
        async with asyncio.timeout(PATIENCE):
            rest, told = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, self.out + rest, told.decode()


@asynccontextmanager
async def chatting(port: int, agent: str, *arguments: str) -> AsyncIterator[Client]:
    process = await copy(
        *("gateway", "chat", agent, "--url", f"127.0.0.1:{port}"),
        *("-m", "go", *arguments),
        cwd=ROOT,
        environment=environment(),
    )
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def get(server: Server, path: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}{path}") as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def log(server: Server, session_id: str) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession(headers={"Accept": "application/json"}) as http,
        http.get(f"{server.url}/v1/sessions/{session_id}/events?after=0&limit=1000") as response,
    ):
        events: list[dict[str, Any]] = (await response.json())["events"]
        return events


@pytest.mark.rows("S20")
async def test_an_answer_of_a_server_is_exactly_the_content(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, chatting(server.port, "weather") as client:
        code, out, told = await client.end()
    assert (code, out) == (0, "It is fine.\n\nEverywhere: ünïcode ✓".encode())
    assert "✓ get_weather complete\n" in told
    assert told.endswith("[14 tokens]\n")


@pytest.mark.rule("resume.exact", "command.once", "run.taken_over")
@pytest.mark.timeout(240)
async def test_a_server_that_is_killed_in_mid_answer_costs_no_character_and_repeats_none(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        for seen in (1, 30, 150, 300):
            async with chatting(server.port, "held") as client:
                await client.until(seen)
                await server.kill()
                await server.restart()
                await open_gate(server.url)
                code, out, told = await client.end()
            assert (code, out) == (0, HELD.encode())
            assert "... the connection is lost; trying again\n" in told
            assert "... connected again\n" in told
            assert "taken over, attempt 2" in told


@pytest.mark.timeout(120)
async def test_an_answer_may_survive_two_kills(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, chatting(server.port, "held") as client:
        for seen in (20, 60):
            await client.until(seen)
            await server.kill()
            await server.restart()
        await open_gate(server.url)
        assert (await client.end())[:2] == (0, HELD.encode())


async def test_a_restart_in_order_is_survived_as_well(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, chatting(server.port, "words") as client:
        await client.until(50)
        assert await server.stop() == 0
        await server.restart()
        assert (await client.end())[:2] == (0, ANSWER)


async def test_an_answer_that_becomes_another_one_is_written_anew_and_said_to_be(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server, chatting(server.port, "moody") as client:
        await client.until(60)
        first = server.pid
        await server.kill()
        await server.restart()
        await open_gate(server.url)
        code, out, told = await client.end()
    assert code == 0
    partial, _, whole = out.decode().partition("\n")
    assert whole == f"I am {server.pid} and I say: {HELD}"
    assert f"I am {first} and I say: {HELD}".startswith(partial)
    assert "the answer became another one" in told


@pytest.mark.rule("resume.exact")
async def test_a_connection_that_breaks_is_resumed_where_it_broke(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, proxied(server.port) as proxy:
        async with chatting(proxy.port, "staged") as client:
            for gate in re.finditer(r" \|", STAGED):
                await client.until(gate.start())
                proxy.cut()
                await open_gate(server.url)
            code, out, told = await client.end()
        assert (code, out) == (0, STAGED.encode())
        assert "taken over" not in told
        assert proxy.connections >= 4


@pytest.mark.rule("command.once")
async def test_a_command_whose_answer_was_lost_is_sent_again_and_has_one_effect(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        async with (
            proxied(server.port, cut_after=b'"ack"') as proxy,
            chatting(proxy.port, "words", "--session", "s") as client,
        ):
            assert (await client.end())[:2] == (0, ANSWER)
            assert proxy.connections >= 2
        types = [event["type"] for event in await log(server, "s")]
        assert types.count("input.accepted") == 1
        assert types.count("run.completed") == 1


@pytest.mark.rule("reset.honest")
@pytest.mark.timeout(120)
async def test_a_server_that_forgot_a_part_resets_and_the_answer_is_still_there_once(
    tmp_path: Path,
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    async with serving(data) as server, chatting(server.port, "held") as client:
        await client.until(30)
        await server.kill()
        await asyncio.to_thread(shutil.copytree, data, copy)
        await server.restart()
        await client.until(150)
        await server.kill()
        await asyncio.to_thread(shutil.rmtree, data)
        await asyncio.to_thread(shutil.copytree, copy, data)
        await server.restart()
        await open_gate(server.url)
        code, out, told = await client.end()
    assert (code, out) == (0, HELD.encode())
    assert "the stream was reset (" in told


async def test_a_server_that_lost_the_session_is_a_failure_in_one_line(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, "--engine", "memory") as server,
        chatting(server.port, "held", "--quiet", "--session", "s") as client,
    ):
        await client.until(30)
        await server.kill()
        await server.restart()
        code, out, told = await client.end()
    assert code == 1
    assert HELD.encode().startswith(out)
    assert told == "tidegate: there is no session 's'\n"


@pytest.mark.rows("S48")
@pytest.mark.rule("cancel.bounded")
async def test_ctrl_c_cancels_the_run_on_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, chatting(server.port, "slow", "--session", "s") as it:
        await it.until(len("so far so good"))
        it.process.send_signal(signal.SIGINT)
        assert await it.end() == (130, b"so far so good", "[stopped]\n")
        snapshot = await get(server, "/v1/sessions/s")
    assert snapshot["run"]["status"] == "cancelled"
    assert snapshot["messages"][-1]["text"] == "so far so good"
    assert snapshot["messages"][-1]["incomplete"] is True


async def test_a_second_ctrl_c_leaves_while_the_server_is_away_and_the_run_lives_on(
    tmp_path: Path,
) -> None:
    url = ("--session", "s", "-m", "go")
    async with serving(tmp_path) as server:
        chat = ("gateway", "chat", "slow", "--url", server.url, *url)
        async with at_a_terminal(*chat) as screen:
            await screen.until("so far so good")
            await server.kill()
            await screen.until("the connection is lost")
            screen.type("\x03")
            await screen.until("Ctrl-C again leaves")
            screen.type("\x03")
            assert await screen.end() == 130
        await server.restart()
        assert (await get(server, "/v1/sessions/s"))["status"] == "running"


async def test_a_session_is_joined_and_goes_on_in_another_process(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for count in (1, 2):
            async with chatting(server.port, "memory", "--session", "s") as client:
                assert (await client.end())[:2] == (0, f"{count}: go".encode())


async def test_an_approval_survives_leaving_and_is_asked_for_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        async with chatting(server.port, "careful", "--session", "s") as client:
            code, out, told = await client.end()
        assert (code, out) == (3, b"")
        assert f"tidegate chat --url {server.url} --session s" in told
        async with chatting(server.port, "careful", "--session", "s") as client:
            assert (await client.end())[0] == 3, "a message waited behind the approval"
        chat = ("gateway", "chat", "--url", server.url, "--session", "s")
        async with at_a_terminal(*chat) as screen:
            await screen.until("? delete_file asks for approval")
            await screen.until("[e]dit: ")
            screen.type("y\n")
            await screen.until("Result: deleted a.txt.")
            await screen.until("careful> ")
            assert await screen.leave() == 130


@pytest.mark.rule("approval.shared")
async def test_a_decision_that_comes_too_late_shows_what_the_other_one_did(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        chat = ("gateway", "chat", "careful", "--url", server.url, "--session", "s")
        async with at_a_terminal(*chat) as screen, at_a_terminal(*chat) as other:
            await screen.until("careful> ")
            await other.until("careful> ")
            screen.type("go\n")
            await screen.until("[e]dit: ")
            async with at_a_terminal(*chat) as third:
                await third.until("[e]dit: ")
                third.type("y\n")
                await third.until("Result: deleted a.txt.")
            screen.type("n\n")
            await screen.until("it was approved elsewhere")
            await screen.until("Result: deleted a.txt.")


async def test_a_conversation_on_a_server_has_the_same_commands(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        chat = ("gateway", "chat", "--url", server.url)
        async with at_a_terminal(*chat) as screen:
            await screen.until("session chat_")
            await screen.until("memory> ")
            screen.type("hello\n")
            await screen.until("1: hello")
            await screen.until("memory> ")
            screen.type("/agent nobody\n")
            await screen.until("there is no agent 'nobody'")
            await screen.until("memory> ")
            screen.type("/agent weather\n")
            await screen.until("weather> ")
            screen.type("now\n")
            await screen.until("Everywhere: ")
            await screen.until("weather> ")
            screen.type("/agent memory\n/new\n")
            await screen.until("a new conversation")
            screen.type("again\n")
            await screen.until("1: again")


async def test_the_wrong_agent_or_address_is_refused_at_the_start(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, chatting(server.port, "nobody") as client:
        code, out, told = await client.end()
    assert (code, out) == (2, b"")
    assert told.startswith("tidegate: there is no agent 'nobody'; registered: ")
