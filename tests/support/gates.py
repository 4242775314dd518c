"""An agent that stops at gates in its answer, and one that opens them.

For servers in processes of their own (`tidegate serve tests.support.agents:registry`): a test holds a
run exactly where it wants to do something, for as long as that takes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from runtime.agent import Agent
from runtime.models.base import Finish, ModelRequest, Text
from runtime.models.scripted import Cue, Pause, ScriptedModel, say

__all__ = ["GATE", "Gates", "open_gate"]

GATE = "|"
"""As a word of what `held` is told: it says this only after the gate was opened."""


PACE = 0.005
"""Seconds between words, so that a test that opens a gate can do something to a stream that flows."""


class Gates:
    """The gates of one server; they are opened in the order in which runs came to them.

    Attributes:
        held: The agent that stops at gates.
        usher: The one that opens them.
    """

    def __init__(self) -> None:
        self._closed: list[asyncio.Event] = []
        held = ScriptedModel(lambda request: self.hold(request.messages[-1].content))
        self.held = Agent("held", held, description="Says what it is told, and stops at its gates.")
        self.usher = Agent("usher", ScriptedModel(self._open), description="Opens a gate.")

    @contextmanager
    def closed(self) -> Iterator[asyncio.Event]:
        """Put up a gate that is there until it is opened, or the run that stands there ends."""
        gate = asyncio.Event()
        self._closed.append(gate)
        try:
            yield gate
        finally:
            if gate in self._closed:
                self._closed.remove(gate)

    async def stand(self) -> None:
        """Wait at a gate."""
        with self.closed() as gate:
            await gate.wait()

    def hold(self, text: str) -> Iterator[Cue]:
        """Return the script of an answer that stops at each gate in it."""
        for word in re.findall(r"\s*\S+", text):
            if word.strip() == GATE:
                with self.closed() as gate:
                    yield gate
            yield Text(word)
            yield Pause(PACE)
        yield Finish("stop")

    def _open(self, request: ModelRequest) -> Iterator[Cue]:
        while not self._closed:
            yield Pause(0.01)  # what was said before the gate is heard before it is reached
        self._closed.pop(0).set()
        yield from say("open")


async def open_gate(url: str) -> None:
    """Open the gate at which a run of the server at `url` stands, or that it is about to reach."""
    async with aiohttp.ClientSession(url) as http:
        async with http.post("/v1/sessions", json={"agent": "usher"}) as response:
            session_id = (await response.json())["session_id"]
        path = f"/v1/sessions/{session_id}/messages"
        async with http.post(path, json={"id": "open", "text": "open"}) as response:
            answer = await response.json()
            assert answer["output"] == "open", answer
