"""A runnable whose every move a test decides; a real implementation of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from runtime.events import (
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ModelStarted,
    RunCompleted,
)
from runtime.messages import ToolCall, Usage
from runtime.runnable import Emit, RunOptions, RunRequest, ToolInfo

Play = Callable[["Part"], Awaitable[None]]


class Part:
    """One run as the puppet plays it."""

    def __init__(self, request: RunRequest, emit: Emit) -> None:
        self.request = request
        self.emit = emit
        self.run_id = request.run_id

    async def begin(self, message_id: str = "msg_a", turn: int = 1) -> None:
        await self.emit(
            ModelStarted(run_id=self.run_id, turn=turn, model="puppet", message_count=1)
        )
        await self.emit(MessageStarted(run_id=self.run_id, message_id=message_id, turn=turn))

    async def say(self, text: str, message_id: str = "msg_a") -> None:
        await self.emit(MessageDelta(run_id=self.run_id, message_id=message_id, text=text))

    async def finish_step(
        self,
        text: str,
        *tool_calls: ToolCall,
        message_id: str = "msg_a",
        turn: int = 1,
    ) -> None:
        await self.emit(MessageCompleted(run_id=self.run_id, message_id=message_id, text=text))
        await self.emit(
            ModelCompleted(
                run_id=self.run_id,
                message_id=message_id,
                content=text,
                tool_calls=tool_calls,
                usage=Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2),
                turn=turn,
            )
        )

    async def end(self, output: str = "") -> None:
        await self.emit(
            RunCompleted(
                run_id=self.run_id, output=output, usage=Usage(), message_count=1, num_turns=1
            )
        )

    async def answer(self, text: str, message_id: str = "msg_a") -> None:
        """Play a whole run of one step."""
        await self.begin(message_id)
        await self.say(text, message_id)
        await self.finish_step(text, message_id=message_id)
        await self.end(text)


class Puppet:
    """Plays `play` for each run; `parts` has all of them so far."""

    def __init__(self, play: Play, name: str = "puppet") -> None:
        self._play = play
        self._name = name
        self.parts: list[Part] = []
        self.came = asyncio.Event()

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> Literal["agent", "graph"]:
        return "agent"

    @property
    def description(self) -> str:
        return "A puppet for tests."

    @property
    def options_type(self) -> type[RunOptions]:
        return RunOptions

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        return ()

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        part = Part(request, emit)
        self.parts.append(part)
        self.came.set()
        await self._play(part)

    async def aclose(self) -> None:
        pass
