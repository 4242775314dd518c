"""How a fault test ends: all that was said is read once more, over HTTP and from the file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp

from gateway.codecs.native import event_json
from gateway.log.entry import Entry
from gateway.log.position import Position
from tests.faults.clients import Client, ManyClient
from tests.faults.history import History
from tests.faults.invariants import FinalLog, Stored
from tests.faults.wire import read_log

__all__ = ["all_idle", "database", "final_logs", "final_snapshots", "following", "stored"]

IDLE_SECONDS = 60.0
"""How long `all_idle` waits."""


def database(data: Path) -> Path:
    """Return the database file of a server's data directory."""
    return data / "tidegate.db"


def stored(path: Path, session_id: str) -> Stored:
    """Read a log straight from the file, beside a server or after it."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        number, epoch, *ends = db.execute(
            "SELECT number, epoch, start_seq, start_tag, tail_seq, tail_tag"
            " FROM session WHERE session_id = ?",
            (session_id,),
        ).fetchone()
        rows = db.execute(
            "SELECT seq, tag, at, body FROM entry WHERE session = ? ORDER BY seq", (number,)
        )
        lines = [
            event_json(Entry(session_id, Position(epoch, seq, tag), at, body))
            for seq, tag, at, body in rows
        ]
    return Stored(lines, Position(epoch, ends[0], ends[1]), Position(epoch, ends[2], ends[3]))


async def final_logs(
    http: aiohttp.ClientSession, url: str, session_ids: Iterable[str], file: Path | None = None
) -> list[FinalLog]:
    """Read logs to their ends over HTTP and, if the file is given, from there too."""
    return [
        FinalLog(
            session_id,
            await read_log(http, url, session_id),
            None if file is None else await asyncio.to_thread(stored, file, session_id),
        )
        for session_id in session_ids
    ]


async def final_snapshots(
    history: History, http: aiohttp.ClientSession, url: str, session_ids: Iterable[str]
) -> None:
    """Ask for the snapshot of each session, and note it: it has to be the fold of the log."""
    for session_id in session_ids:
        async with http.get(f"{url}/v1/sessions/{session_id}") as response:
            snapshot = await response.json()
        history.record("reader", "info", "snapshot", session_id=session_id, snapshot=snapshot)


@asynccontextmanager
async def following(clients: Sequence[Client | ManyClient]) -> AsyncIterator[None]:
    """Let clients follow for the length of a block; a client that breaks fails the test."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(client.run()) for client in clients]
        yield
        for task in running:
            task.cancel()


async def all_idle(http: aiohttp.ClientSession, url: str, session_ids: Iterable[str]) -> None:
    """Wait until no session has anything to do.

    Raises:
        TimeoutError: If one has after a minute.
    """
    async with asyncio.timeout(IDLE_SECONDS):
        for session_id in session_ids:
            while True:
                async with http.get(f"{url}/v1/sessions/{session_id}") as response:
                    snapshot = await response.json()
                if snapshot["status"] != "running" and not snapshot["queue"]:
                    break
                await asyncio.sleep(0.02)  # asking is the only way that needs no client
