"""A model that says what a script tells it to. Deterministic, in process, needs no network."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass

from runtime.errors import ModelRefused
from runtime.messages import ToolCall, Usage
from runtime.models.base import Delta, Finish, ModelRequest, Text, ToolCallFragment

__all__ = ["Cue", "Pause", "Script", "ScriptedModel", "call_tools", "say"]


@dataclass(frozen=True, slots=True)
class Pause:
    """The model is silent for so many seconds."""

    seconds: float


Cue = Delta | str | Pause | asyncio.Event | Exception
"""What a script is made of: a delta; text; a pause; a gate to wait at; an error to fail with."""

Script = Sequence[Iterable[Cue]] | Callable[[ModelRequest], Iterable[Cue]]
"""An answer for each call in turn, or a function that makes the answer to a request."""


def say(text: str, *, seconds_per_word: float = 0.0) -> tuple[Cue, ...]:
    """Return the script of an answer that is said word by word.

    Args:
        text: The answer; the pieces, joined, are exactly this.
        seconds_per_word: Pause between words.
    """
    cues: list[Cue] = []
    for word in re.findall(r"\s*\S+|\s+$", text):
        if cues and seconds_per_word > 0:
            cues.append(Pause(seconds_per_word))
        cues.append(Text(word))
    return (*cues, Finish("stop"))


def call_tools(*calls: ToolCall, pieces: int = 3) -> tuple[Cue, ...]:
    """Return the script of an answer that calls tools, each call's arguments in a few pieces."""
    cues: list[Cue] = []
    for index, call in enumerate(calls):
        cues.append(ToolCallFragment(index, id=call.id, name=call.name))
        size = max(1, -(-len(call.arguments) // pieces))
        cues.extend(
            ToolCallFragment(index, arguments=call.arguments[start : start + size])
            for start in range(0, len(call.arguments), size)
        )
    return (*cues, Finish("tool_calls"))


class ScriptedModel:
    """Plays a script. A finish without usage is given one: it counts words.

    Attributes:
        requests: Every request that was made, in order.
        closed: How often `aclose` was called.
    """

    def __init__(self, script: Script, *, name: str = "scripted") -> None:
        """Take a script; a sequence that runs out refuses further calls."""
        self._script = script
        self._name = name
        self.requests: list[ModelRequest] = []
        self.closed = 0

    @property
    def name(self) -> str:
        """The name that it was given."""
        return self._name

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Play the answer to this request.

        Raises:
            ModelRefused: If the script has no further answer.
            Exception: Whatever the script says.
        """
        self.requests.append(request)
        words = 0
        for cue in self._answer(request):
            match cue:
                case Pause():
                    await asyncio.sleep(cue.seconds)
                case asyncio.Event():
                    await cue.wait()
                case Exception():
                    raise cue
                case str():
                    words += len(cue.split())
                    yield Text(cue)
                case Finish(usage=None):
                    usage = _usage(request, words)
                    yield Finish(cue.reason, usage, cue.model or self._name, cue.response_id)
                case _:
                    if isinstance(cue, Text):
                        words += len(cue.text.split())
                    yield cue

    async def aclose(self) -> None:
        """Count the call; there is nothing to let go of."""
        self.closed += 1

    def _answer(self, request: ModelRequest) -> Iterable[Cue]:
        if callable(self._script):
            return self._script(request)
        turn = len(self.requests)
        if turn > len(self._script):
            raise ModelRefused(f"the script of {self._name!r} ends after {len(self._script)} calls")
        return self._script[turn - 1]


def _usage(request: ModelRequest, said: int) -> Usage:
    heard = sum(len(message.content.split()) for message in request.messages)
    return Usage(prompt_tokens=heard, completion_tokens=said, total_tokens=heard + said)
