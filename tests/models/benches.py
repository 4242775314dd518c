"""Every provider on a bench of its own: told what the model says, whatever wire is between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import ModelUnavailable
from runtime.models.base import Finish, Model, ModelRequest
from runtime.models.fallback import FallbackModel
from runtime.models.scripted import Cue as ScriptedCue
from runtime.models.scripted import ScriptedModel
from tests.models.servers.chat_completions import ChatCompletions
from tests.models.servers.loopback import Loopback, serving
from tests.models.servers.messages import Messages
from tests.models.servers.responses import Responses
from tests.models.servers.wire import Cue, Failure, Heard, Together, Wire

WIRES: dict[str, Wire] = {
    "chat completions": ChatCompletions(),
    "responses": Responses(),
    "anthropic": Messages(),
}


@dataclass
class HttpBench:
    """A provider that speaks a wire with a server on loopback."""

    wire: Wire
    server: Loopback
    model: Model
    options: dict[str, Any] = field(default_factory=dict)

    def play(self, *cues: Cue) -> None:
        self.server.pieces = self.wire.encode(cues)

    @property
    def asked(self) -> asyncio.Event:
        return self.server.asked

    @property
    def gone(self) -> asyncio.Event:
        return self.server.gone

    def heard(self) -> Heard:
        return self.wire.heard(self.server.requests[-1])


class ScriptedBench:
    """The scripted model."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.scripted = ScriptedModel(self._answer, name="m-2026")
        self.model: Model = self.scripted
        self._cues: tuple[Cue, ...] = ()

    def play(self, *cues: Cue) -> None:
        self._cues = cues

    def heard(self) -> Heard:
        request = self.scripted.requests[-1]
        schema = request.output_schema
        return Heard(
            request.options.temperature,
            request.options.max_tokens,
            None if schema is None else dict(schema),
            None if schema is None else request.output_name,
        )

    def _answer(self, request: ModelRequest) -> Iterator[ScriptedCue]:
        self.asked.set()
        try:
            for cue in self._cues:
                match cue:
                    case Together():
                        yield from cue.deltas
                    case Failure():
                        yield ModelUnavailable("busy")
                    case Finish():
                        yield Finish(cue.reason, cue.usage, cue.model, "resp_1")
                    case _:
                        assert isinstance(cue, ScriptedCue)
                        yield cue
        finally:
            self.gone.set()


Bench = HttpBench | ScriptedBench


@asynccontextmanager
async def http_bench(wire: Wire, **options: Any) -> AsyncIterator[HttpBench]:
    """Serve a wire, with our model as its client."""
    async with serving() as server:
        model = await asyncio.to_thread(wire.model, server.url, **options)
        try:
            yield HttpBench(wire, server, model)
        finally:
            await model.aclose()


@asynccontextmanager
async def fallback_bench() -> AsyncIterator[HttpBench]:
    """Serve a wire to a fallback whose other model refuses everything."""
    async with http_bench(WIRES["chat completions"]) as bench:
        bench.model = FallbackModel(bench.model, ScriptedModel([], name="empty"))
        yield bench


@asynccontextmanager
async def bench_of(name: str) -> AsyncIterator[Bench]:
    """Set up a provider by its name."""
    if name == "scripted":
        yield ScriptedBench()
    elif name == "fallback":
        async with fallback_bench() as bench:
            yield bench
    else:
        async with http_bench(WIRES[name]) as bench:
            yield bench


PROVIDERS = (*WIRES, "scripted", "fallback")
