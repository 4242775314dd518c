"""Endless use in a few minutes: does what the server takes come to rest?

    python -m bench.soak [--seconds 180] [--users 6]

Users come and go against a server in a process of its own: they talk in sessions that stay and in
new ones, over SSE, WebSocket, as streams of clients and through the chat completions of another
protocol; they join late, leave in the middle of an answer, fork, delete, or never come back. What the
server keeps for days it keeps for seconds here.

Printed over time: the database and its write-ahead log, the server's memory, its open files and
tasks, and how many sessions were made. The rule: a row is on a plateau if its highest value in the
last third of the time is at most a tenth above the highest of the middle third, or no more above it
than the slack that is printed with it. The exit code is 1 if one is not.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import psutil
import uvloop

from gateway.app import running
from gateway.builtin.scripted import echo
from gateway.config import Settings
from gateway.log.upkeep import Lifetimes
from gateway.sessions import retention
from runtime.registry import Registry

__all__ = ["main"]

DAY_SECONDS = 86_400
KIB = 1024
SLACK = {
    "database KiB": 512,
    "wal KiB": 4096,
    "memory KiB": 8 * KIB,
    "files": 12,
    "tasks": 30,
}
"""What noise makes of each: a checkpoint, the allocator, users who happen to be there."""

WORDS = "the tide comes in and the tide goes out again " * 2


STAYS, FORKS, DELETES = 0.8, 0.3, 0.5
"""How often a user hears an answer out, forks a session, and deletes the one that was made."""

MOST_MESSAGES = 20
"""In a session that stays: then its users begin anew, as a conversation is never trimmed."""


def chance(probability: float) -> bool:
    return random.random() < probability  # noqa: S311 - no secret


class Sample(NamedTuple):
    """The server at one moment; sizes in KiB."""

    seconds: float
    database: float
    wal: float
    memory: float
    files: int
    tasks: int


async def serve(directory: Path) -> None:
    """Serve, and print a sample each second."""
    retention.LIFETIMES = Lifetimes(answers=8000, clients=8000, tombstones=8000)
    settings = Settings(
        data=directory,
        port=0,
        synchronous="normal",
        keep_events=60,
        keep_hours=0,
        forget_sessions_after_days=10 / DAY_SECONDS,
        sweep_s=1,
        delta_interval_ms=0,
        log_level="error",
    )
    process, started = psutil.Process(), time.monotonic()
    async with running(settings, Registry(echo())) as server:
        print(server.url, flush=True)
        while True:
            sample = Sample(
                time.monotonic() - started,
                _size(directory / "tidegate.db"),
                _size(directory / "tidegate.db-wal"),
                process.memory_info().rss / KIB,
                process.num_fds(),
                len(asyncio.all_tasks()),
            )
            print(orjson.dumps(tuple(sample)).decode(), flush=True)
            await asyncio.sleep(1)


def _size(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_size / KIB
    return 0.0


class Users:
    """What all users share."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http
        self.made = 0
        self._numbers = itertools.count(1)

    def new(self, kind: str) -> str:
        return f"{kind}{next(self._numbers)}"

    async def create(self, session_id: str) -> str:
        body = {"session_id": session_id, "agent": "echo"}
        async with self.http.post("/v1/sessions", json=body) as response:
            self.made += response.status == HTTPStatus.CREATED
        return session_id

    async def say(self, session_id: str, *, words: int = 20) -> None:
        """Take a turn and read the answer to its end, or not."""
        body = {
            "id": self.new("c"),
            "text": " ".join(random.choices(WORDS.split(), k=words)),  # noqa: S311 - no secret
            "options": {"interval_ms": 1},
        }
        headers = {"Accept": "text/event-stream"}
        url = f"/v1/sessions/{session_id}/messages"
        async with self.http.post(url, json=body, headers=headers) as response:
            stays = chance(STAYS)
            async for line in response.content:
                if not stays and b"message.delta" in line:
                    return

    async def command(self, session_id: str, kind: str, **fields: Any) -> dict[str, Any]:
        body = {"type": kind, "id": self.new("c"), **fields}
        url = f"/v1/sessions/{session_id}/commands"
        async with self.http.post(url, json=body) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    # --- what they do --------------------------------------------------------------------------

    async def stay(self) -> None:
        """Talk in one of a few sessions that never end; go back, so that they do not grow."""
        session_id = await self.create(f"stays{random.randrange(4)}")  # noqa: S311 - no secret
        async with self.http.get(f"/v1/sessions/{session_id}") as response:
            messages = (await response.json())["messages"]
        if len(messages) > MOST_MESSAGES:
            await self.command(session_id, "send", text="anew", rewind_to=messages[0]["message_id"])
        await self.say(session_id)

    async def visit(self) -> None:
        """Make a session, talk, and delete it, or forget about it."""
        session_id = await self.create(self.new("visit"))
        for _ in range(random.randint(1, 3)):  # noqa: S311 - no secret
            await self.say(session_id, words=10)
        if chance(FORKS):
            await self.command(session_id, "fork")
        if chance(DELETES):
            async with self.http.delete(f"/v1/sessions/{session_id}"):
                return

    async def complete(self) -> None:
        """Ask for a chat completion; each makes a session."""
        body = {"model": "echo", "messages": [{"role": "user", "content": "ebb and flow"}]}
        async with self.http.post("/v1/chat/completions", json=body) as response:
            await response.read()

    async def watch(self) -> None:
        """Join late by WebSocket, and leave without a word."""
        session_id = await self.create(f"stays{random.randrange(4)}")  # noqa: S311 - no secret
        async with self.http.ws_connect("/v1/ws") as socket:
            await socket.send_json({"type": "subscribe", "session_id": session_id})
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    async for _ in socket:
                        pass

    async def listen(self) -> None:
        """Read two sessions as a client that nobody ever sees again."""
        client = self.new("client")
        for number in random.sample(range(4), 2):
            session_id = await self.create(f"stays{number}")
            async with self.http.put(f"/v1/clients/{client}/subscriptions/{session_id}", json={}):
                pass
        async with self.http.get(f"/v1/clients/{client}/events") as response:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    async for _ in response.content:
                        pass


async def use(url: str, users: int, seconds: float) -> int:
    """Let users do things for a while; return how many sessions they have made by name."""
    end = time.monotonic() + seconds
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(url, timeout=timeout) as http:
        all_of_them = Users(http)
        does: Sequence[Callable[[], Awaitable[None]]] = (
            all_of_them.stay,
            all_of_them.visit,
            all_of_them.complete,
            all_of_them.watch,
            all_of_them.listen,
        )

        async def one() -> None:
            while time.monotonic() < end:
                await random.choice(does)()  # noqa: S311 - no secret

        async with asyncio.TaskGroup() as tasks:
            for _ in range(users):
                tasks.create_task(one())
        return all_of_them.made


async def follow(process: asyncio.subprocess.Process, samples: list[Sample]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        samples.append(Sample(*orjson.loads(line)))
        if len(samples) % 10 == 1:
            print(" ".join(f"{value:12,.0f}" for value in samples[-1]), flush=True)


def verdict(samples: Sequence[Sample]) -> bool:
    """Print what is on a plateau; return whether all is."""
    third = len(samples) // 3
    rows = zip(SLACK.items(), range(1, len(Sample._fields)), strict=True)
    good = True
    for (name, slack), column in rows:
        middle = max(sample[column] for sample in samples[third : 2 * third])
        last = max(sample[column] for sample in samples[2 * third :])
        flat = last <= max(1.1 * middle, middle + slack)
        good = good and flat
        print(
            f"{name:14} middle third {middle:10,.0f}  last third {last:10,.0f}"
            f"  slack {slack:6,}  plateau: {'yes' if flat else 'NO'}"
        )
    return good


async def soak(users: int, seconds: float) -> bool:
    """Run it all; return whether all is on a plateau."""
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as directory:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.soak", "--serve", directory, stdout=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            url = (await process.stdout.readline()).decode().strip()
            names = ("seconds", *SLACK)
            print(" ".join(f"{name:>12}" for name in names))
            following = asyncio.create_task(follow(process, samples))
            made = await use(url, users, seconds)
        finally:
            process.kill()
            await process.wait()
        await following
    print(f"{made} sessions were made by name, others by forks and completions")
    return verdict(samples)


def main() -> None:
    """Soak, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(serve(arguments.serve))
    elif not uvloop.run(soak(arguments.users, arguments.seconds)):
        sys.exit(1)


if __name__ == "__main__":
    main()
