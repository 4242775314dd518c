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
    """One run as the puppet plays it, or what is said below it at a longer `path`."""

    def __init__(self, request: RunRequest, emit: Emit, path: tuple[str, ...] = ()) -> None:
        self.request = request
        self.emit = emit
        self.run_id = request.run_id
        self.path = path

    def below(self, *path: str) -> Part:
        """Return a part of the same run that speaks from another path."""
        return Part(self.request, self.emit, path)

    async def begin(self, message_id: str = "msg_a", turn: int = 1) -> None:
        await self.emit(
            ModelStarted(
                run_id=self.run_id, path=self.path, turn=turn, model="puppet", message_count=1
            )
        )
        await self.emit(
            MessageStarted(
                run_id=self.run_id,
                path=self.path,
                message_id=message_id,
                turn=turn,
                agent=self.path[-1].rpartition(":")[2] if self.path else None,
            )
        )

    async def say(self, text: str, message_id: str = "msg_a") -> None:
        await self.emit(
            MessageDelta(run_id=self.run_id, path=self.path, message_id=message_id, text=text)
        )

    async def close_message(self, text: str, message_id: str = "msg_a") -> None:
        await self.emit(
            MessageCompleted(run_id=self.run_id, path=self.path, message_id=message_id, text=text)
        )

    async def finish_step(
        self,
        text: str,
        *tool_calls: ToolCall,
        message_id: str = "msg_a",
        turn: int = 1,
    ) -> None:
        await self.close_message(text, message_id)
        await self.emit(
            ModelCompleted(
                run_id=self.run_id,
                path=self.path,
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
    """Plays `play` for each run; `played` has all of them so far."""

    def __init__(
        self, play: Play, name: str = "puppet", kind: Literal["agent", "graph"] = "agent"
    ) -> None:
        self._play = play
        self._name = name
        self._kind: Literal["agent", "graph"] = kind
        self.played: list[Part] = []
        self.came = asyncio.Event()

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> Literal["agent", "graph"]:
        return self._kind

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
        self.played.append(part)
        self.came.set()
        await self._play(part)

    async def aclose(self) -> None:
        pass
