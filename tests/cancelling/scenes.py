"""Places in which a run can be when it is ended. Each proves that the run is there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from runtime import Agent, ModelUnavailable, RetryPolicy, ScriptedModel, ToolCall, ToolContext, tool
from runtime.graph import END, Graph, Key
from runtime.models import call_tools, say
from runtime.models.openai import OpenAIModel
from runtime.runnable import Runnable

__all__ = ["SCENES", "Scene"]

LONG = 30.0
"""Seconds that nothing here waits: everything is ended before."""


@dataclass
class Scene:
    """A run that will stand still somewhere.

    Attributes:
        runnable: What to run.
        there: Set when the run is at the place, by the place itself.
        gone: Set by the place when it was left by force; None where nothing can tell.
        last: The event after which nothing more is reported until the run is ended.
    """

    runnable: Runnable
    last: str
    there: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event | None = field(default_factory=asyncio.Event)

    async def stay(self) -> None:
        """Be the place: say so, and wait until forced out."""
        self.there.set()
        try:
            await asyncio.sleep(LONG)
        finally:
            if self.gone is not None:
                self.gone.set()


@asynccontextmanager
async def provider(last: str, first: bytes) -> AsyncIterator[Scene]:
    """Serve one request with `first`, then silence until the client has closed its connection."""
    scene: Scene

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            await writer.drain()
            scene.there.set()
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
        finally:
            if scene.gone is not None:
                scene.gone.set()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    url = f"http://{host}:{port}/v1"
    # In a thread, because it reads certificates from the disk.
    model = await asyncio.to_thread(lambda: OpenAIModel("m", base_url=url, api_key="k"))
    scene = Scene(Agent("a", model), last)
    try:
        yield scene
    finally:
        await scene.runnable.aclose()
        server.close()
        await server.wait_closed()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'


def model_opening() -> AbstractAsyncContextManager[Scene]:
    return provider("model.started", b"")


def model_streaming() -> AbstractAsyncContextManager[Scene]:
    return provider("message.delta", HEAD + CHUNK)


def _calling(name: str) -> ScriptedModel:
    return ScriptedModel([call_tools(ToolCall(id="c1", name=name, arguments="{}")), say("done")])


@asynccontextmanager
async def tool_async() -> AsyncIterator[Scene]:
    scene: Scene

    @tool
    async def wait() -> str:
        """Wait."""
        await scene.stay()
        return "never"

    scene = Scene(Agent("a", _calling("wait"), tools=[wait]), "tool.started")
    yield scene


@asynccontextmanager
async def tool_in_thread() -> AsyncIterator[Scene]:
    loop = asyncio.get_running_loop()
    release = threading.Event()
    scene: Scene

    @tool
    def wait(context: ToolContext) -> str:
        """Wait in a thread, which nobody can stop."""
        loop.call_soon_threadsafe(scene.there.set)
        release.wait(LONG)
        return "never"

    scene = Scene(Agent("a", _calling("wait"), tools=[wait]), "tool.started", gone=None)
    yield scene
    release.set()


@asynccontextmanager
async def retry_back_off() -> AsyncIterator[Scene]:
    busy = ModelUnavailable("busy", retry_after=LONG)
    policy = RetryPolicy(cap=LONG)
    scene = Scene(Agent("a", ScriptedModel([[busy]]), retry=policy), "model.retrying", gone=None)
    scene.there.set()  # the event that says so is reported right before the wait
    yield scene


@asynccontextmanager
async def between_turns() -> AsyncIterator[Scene]:
    scene: Scene

    @tool
    async def quick() -> str:
        """Be done at once."""
        return "ok"

    model = ScriptedModel(
        [call_tools(ToolCall(id="c1", name="quick", arguments="{}")), say("done")]
    )

    async def instructions(_: object) -> str:
        if model.requests:
            await scene.stay()
        return "Be quick."

    scene = Scene(Agent("a", model, tools=[quick], instructions=instructions), "tool.completed")
    yield scene


@asynccontextmanager
async def node() -> AsyncIterator[Scene]:
    scene: Scene

    async def wait(ctx: object, view: object) -> None:
        await scene.stay()

    graph = Graph(Key("x", 0), name="g")
    graph.node("wait", wait, END)
    graph.start("wait")
    scene = Scene(graph.build(), "node.started")
    yield scene


@asynccontextmanager
async def parallel_nodes() -> AsyncIterator[Scene]:
    scene: Scene
    inside: set[str] = set()
    names = {"a", "b", "c"}

    def waiting(name: str) -> Callable[[object, object], Awaitable[None]]:
        async def wait(ctx: object, view: object) -> None:
            inside.add(name)
            if inside == names:
                scene.there.set()
            try:
                await asyncio.sleep(LONG)
            finally:
                inside.discard(name)
                if not inside and scene.gone is not None:
                    scene.gone.set()

        return wait

    graph = Graph(Key("x", 0), name="g")
    graph.node("begin", lambda ctx, view: None, *sorted(names))
    for name in sorted(names):
        graph.node(name, waiting(name), END)
    graph.start("begin")
    scene = Scene(graph.build(), "node.started")
    yield scene


@asynccontextmanager
async def subgraph() -> AsyncIterator[Scene]:
    scene: Scene

    async def wait(ctx: object, view: object) -> None:
        await scene.stay()

    inner = Graph(Key("x", 0), name="inner")
    inner.node("wait", wait, END)
    inner.start("wait")
    outer = Graph(Key("x", 0), name="outer")
    outer.node("below", inner.build(), END)
    outer.start("below")
    scene = Scene(outer.build(), "node.started")
    yield scene


SCENES: dict[str, Callable[[], AbstractAsyncContextManager[Scene]]] = {
    "model opening": model_opening,
    "model streaming": model_streaming,
    "async tool": tool_async,
    "tool in a thread": tool_in_thread,
    "retry back-off": retry_back_off,
    "between turns": between_turns,
    "node": node,
    "parallel nodes": parallel_nodes,
    "subgraph": subgraph,
}
