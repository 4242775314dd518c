"""A model that says what a script tells it to. Deterministic, in process, needs no network."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from runtime.errors import ModelRefused
from runtime.messages import ToolCall, Usage
from runtime.models.base import Delta, Finish, ModelRequest, ReasoningText, Text, ToolCallFragment
from runtime.models.stopping import until_stop

__all__ = ["Cue", "Pause", "Script", "ScriptedModel", "call_tools", "say"]

KEPT_REQUESTS = 1000
"""The requests that a model remembers: more than a test makes, and a server can forget the rest."""

_WORD = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True)
class Pause:
    """The model is silent for so many seconds."""

    seconds: float


Cue = Delta | str | Pause | asyncio.Event | Exception
"""What a script is made of: a delta; text; a pause; a gate to wait at; an error to fail with."""

Script = Sequence[Iterable[Cue]] | Callable[[ModelRequest], Iterable[Cue]]
"""An answer for each call in turn, or a function that makes the answer to a request."""


def say(text: str, *, seconds_per_word: float = 0.0, reasoning: str = "") -> tuple[Cue, ...]:
    """Return the script of an answer that is said word by word.

    Args:
        text: The answer; the pieces, joined, are exactly this.
        seconds_per_word: Pause between words.
        reasoning: What is thought before, word by word too.
    """
    pieces: list[Delta] = [ReasoningText(word) for word in _WORD.findall(reasoning)]
    pieces += [Text(word) for word in _WORD.findall(text)]
    cues: list[Cue] = []
    for piece in pieces:
        if cues and seconds_per_word > 0:
            cues.append(Pause(seconds_per_word))
        cues.append(piece)
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
    """Plays a script, and keeps to the options of a request as a real model does.

    A token is a word here: a finish without usage is given one that counts words, and an answer of
    more words than `max_tokens` is cut with reason `length`. It stops before a stop sequence.

    Attributes:
        requests: The requests that were made, in order: the last 1000.
        calls: How many there were.
        closed: How often `aclose` was called.
    """

    def __init__(self, script: Script, *, name: str = "scripted") -> None:
        """Take a script; a sequence that runs out refuses further calls."""
        self._script = script
        self._name = name
        self.requests: list[ModelRequest] = []
        self.calls = 0
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
        self.calls += 1
        self.requests.append(request)
        del self.requests[:-KEPT_REQUESTS]
        deltas = self._play(request)
        if request.options.stop_sequences:
            deltas = until_stop(deltas, request.options.stop_sequences, model=self._name)
        async with aclosing(deltas):
            async for delta in deltas:
                yield delta

    async def aclose(self) -> None:
        """Count the call; there is nothing to let go of."""
        self.closed += 1

    async def _play(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        words = 0
        limit = request.options.max_tokens
        for cue in self._answer(request):
            match cue:
                case Pause():
                    await asyncio.sleep(cue.seconds)
                case asyncio.Event():
                    await cue.wait()
                case Exception():
                    raise cue
                case str() | Text():
                    text = cue if isinstance(cue, str) else cue.text
                    words += len(text.split())
                    if limit is not None and words > limit:
                        yield Text(_without_last(text, words - limit))
                        yield Finish("length", _usage(request, limit), self._name)
                        return
                    yield Text(text)
                case Finish(usage=None):
                    usage = _usage(request, words)
                    yield Finish(cue.reason, usage, cue.model or self._name, cue.response_id)
                case _:
                    yield cue

    def _answer(self, request: ModelRequest) -> Iterable[Cue]:
        if callable(self._script):
            return self._script(request)
        if self.calls > len(self._script):
            raise ModelRefused(f"the script of {self._name!r} ends after {len(self._script)} calls")
        return self._script[self.calls - 1]


def _without_last(text: str, words: int) -> str:
    """Return a text without its last words."""
    pieces = _WORD.findall(text.rstrip())
    return "".join(pieces[: len(pieces) - words])


def _usage(request: ModelRequest, said: int) -> Usage:
    heard = sum(len(message.content.split()) for message in request.messages)
    return Usage(prompt_tokens=heard, completion_tokens=said, total_tokens=heard + said)
