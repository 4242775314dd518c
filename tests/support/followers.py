"""Clients that never give up: they come back with their cursor until they have seen enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Literal

import aiohttp
import orjson

__all__ = ["ENDS", "Follower", "Transport", "check_history"]

Transport = Literal["sse", "websocket", "ndjson"]
ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})
LOST = (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError)


class Follower:
    """Follows one session over one transport from its start, across any number of connections."""

    def __init__(self, url: str, session_id: str, transport: Transport) -> None:
        self.url = url
        self.session_id = session_id
        self.transport = transport
        self.cursor = "0"
        self.lines: list[bytes] = []
        self.events: list[dict[str, Any]] = []
        self.resets: list[str] = []
        self.connections = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http:
            while True:
                with suppress(*LOST):
                    self.connections += 1
                    async with aclosing(self._connect(http)) as lines:
                        async for line in lines:
                            self._take(line)
                await asyncio.sleep(0.05)  # the pause of a client that found nobody

    async def until(self, enough: Callable[[Sequence[dict[str, Any]]], bool]) -> None:
        """Return when the events so far are enough."""
        async with asyncio.timeout(30):
            while not enough(self.events):
                self._changed.clear()
                await self._changed.wait()

    async def until_runs_ended(self, count: int) -> None:
        """Return when so many runs have ended."""
        await self.until(lambda events: sum(e["type"] in ENDS for e in events) >= count)

    def _take(self, line: bytes) -> None:
        event = orjson.loads(line)
        if event["type"] == "stream.reset":
            self.resets.append(event["reason"])
        if "seq" in event:
            self.lines.append(line)
            self.events.append(event)
            self.cursor = event["cursor"]
            self._changed.set()

    def _connect(self, http: aiohttp.ClientSession) -> AsyncGenerator[bytes]:
        match self.transport:
            case "sse":
                return self._sse(http)
            case "ndjson":
                return self._ndjson(http)
            case "websocket":
                return self._websocket(http)

    @property
    def _events_url(self) -> str:
        return f"{self.url}/v1/sessions/{self.session_id}/events"

    async def _sse(self, http: aiohttp.ClientSession) -> AsyncGenerator[bytes]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": self.cursor}
        async with http.get(self._events_url, headers=headers) as response:
            response.raise_for_status()
            async for line in response.content:
                if line.startswith(b"data: ") and line.endswith(b"\n"):
                    yield line[len(b"data: ") : -1]

    async def _ndjson(self, http: aiohttp.ClientSession) -> AsyncGenerator[bytes]:
        headers = {"Accept": "application/x-ndjson"}
        parameters = {"after": self.cursor}
        async with http.get(self._events_url, headers=headers, params=parameters) as response:
            response.raise_for_status()
            async for line in response.content:
                if line.strip() and line.endswith(b"\n"):
                    yield line[:-1]

    async def _websocket(self, http: aiohttp.ClientSession) -> AsyncGenerator[bytes]:
        async with http.ws_connect(f"{self.url}/v1/ws") as socket:
            await socket.send_json(
                {"type": "subscribe", "session_id": self.session_id, "after": self.cursor}
            )
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    yield message.data.encode()


def check_history(events: Sequence[dict[str, Any]]) -> None:
    """Check what every whole log keeps: no hole, nothing twice, one end per run, all closed."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["cursor"] for event in events}) == len(events)
    times = [event["ts"] for event in events]
    assert times == sorted(times)
    runs = {event["run_id"] for event in events if event["type"] == "input.accepted"}
    for run_id in runs:
        types = [event["type"] for event in events if event.get("run_id") == run_id]
        assert sum(kind in ENDS for kind in types) == 1, types
        assert types[-1] in ENDS
        for opened, closed in (
            ("message.started", "message.completed"),
            ("tool_call.started", "tool_call.ready"),
        ):
            assert types.count(opened) == types.count(closed), types
    _check_text(events)
    _check_attempts(events)


def _check_text(events: Sequence[dict[str, Any]]) -> None:
    """A message is exactly its deltas, and nothing of it comes after its end."""
    said: dict[str, str] = {}
    whole: set[str] = set()
    for event in events:
        if event["type"] == "message.delta":
            assert event["message_id"] not in whole
            said[event["message_id"]] = said.get(event["message_id"], "") + event["text"]
        elif event["type"] == "message.completed":
            assert event["text"] == said.get(event["message_id"], "")
            whole.add(event["message_id"])


def _check_attempts(events: Sequence[dict[str, Any]]) -> None:
    """Attempts count up by one, and nothing that was said before the take-over stays open."""
    attempt: dict[str, int] = {}
    for event in events:
        run_id = event.get("run_id", "")
        if event["type"] == "run.started":
            attempt[run_id] = 1
        elif event["type"] == "run.attempt_started":
            assert event["supersedes"] == attempt[run_id]
            assert event["attempt"] == attempt[run_id] + 1
            attempt[run_id] = event["attempt"]
