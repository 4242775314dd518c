"""Agents and other runnables that the tests of the command line run in processes of their own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable
from typing import Literal

from runtime.agent import Agent
from runtime.errors import ToolFailed
from runtime.events import MessageDelta, ToolCallStarted
from runtime.messages import ToolCall
from runtime.models.base import Finish, ModelRequest, Text
from runtime.models.scripted import Cue, Pause, ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.runnable import Emit, RunOptions, RunRequest, ToolInfo
from runtime.tools import ToolContext, tool
from tests.support.gates import GATE, Gates

FOR_EVER = 3600.0
"""Seconds: longer than any test waits."""


@tool
async def get_weather(context: ToolContext, city: str) -> str:
    """Tell the weather."""
    await context.progress({"stage": "asking", "progress": 0.5, "message": f"asking {city}"})
    return f"sunny in {city}"


@tool
async def break_down() -> str:
    """Fail."""
    raise ToolFailed("no such city")


@tool(needs_approval=True)
async def delete_file(path: str) -> str:
    """Delete a file, for show."""
    return f"deleted {path}"


@tool
async def wait_for_ever() -> str:
    """Never come back."""
    await asyncio.sleep(FOR_EVER)
    return "never"


@tool
def hang() -> str:
    """Never come back, from a thread that cannot be stopped."""
    threading.Event().wait(FOR_EVER)
    return "never"


def _called(request: ModelRequest) -> bool:
    return request.messages[-1].role == "tool"


def _calls(*calls: tuple[str, str], answer: str) -> ScriptedModel:
    """Return a model that calls these tools, and then says this."""

    def script(request: ModelRequest) -> Iterable[Cue]:
        if _called(request):
            return say(answer.format(result=request.messages[-1].content))
        return call_tools(
            *(
                ToolCall(id=f"call_{len(request.messages)}_{place}", name=name, arguments=arguments)
                for place, (name, arguments) in enumerate(calls)
            )
        )

    return ScriptedModel(script)


def _remember(request: ModelRequest) -> Iterable[Cue]:
    said = [message.content for message in request.messages if message.role == "user"]
    return say(f"{len(said)}: {said[-1]}")


def _slow(request: ModelRequest) -> Iterable[Cue]:
    """Say a part of the answer, and then nothing for ever."""
    return (Text("so far "), Text("so good"), Pause(FOR_EVER), Text("never"), Finish("stop"))


def _lines(request: ModelRequest) -> Iterable[Cue]:
    for number in range(1_000_000):
        yield Text(f"line {number}\n")
        yield Pause(0)
    yield Finish("stop")


weather = Agent(
    "weather",
    _calls(
        ("get_weather", '{"city": "Oslo"}'),
        ("get_weather", '{"city": "Rome"}'),
        answer="It is fine.\n\nEverywhere: ünïcode ✓",
    ),
    tools=(get_weather,),
    description="Asks for the weather twice.",
)
memory = Agent("memory", ScriptedModel(_remember), description="Counts what you said.")
slow = Agent("slow", ScriptedModel(_slow), description="Stops in the middle.")
lines = Agent("lines", ScriptedModel(_lines), description="Says a million lines.")
failing = Agent(
    "failing",
    ScriptedModel(lambda request: (Text("well, "), ValueError("the secret of it"))),
    description="Fails.",
)
breaking = Agent("breaking", _calls(("break_down", "{}"), answer="It broke."), tools=(break_down,))
careful = Agent(
    "careful",
    _calls(("delete_file", '{"path": "a.txt"}'), answer="Result: {result}."),
    tools=(delete_file,),
    description="Asks first.",
)
waiting = Agent("waiting", _calls(("wait_for_ever", "{}"), answer="never"), tools=(wait_for_ever,))
hanging = Agent("hanging", _calls(("hang", "{}"), answer="never"), tools=(hang,))
escaping = Agent(
    "escaping",
    ScriptedModel(lambda request: say("\x1b]0;title\x07red \x1b[31m text")),
    description="Tries to steer the terminal.",
)


WORDS = " ".join(f"word{number}" for number in range(60))
"""What `words` says, in about a second."""

words = Agent(
    "words", ScriptedModel(lambda request: say(WORDS, seconds_per_word=0.02)), description="Talks."
)
gates = Gates()
HELD = f"{WORDS} {GATE}"
"""What `held` says: it is not over before a gate was opened, however slow the machine."""

held = Agent(
    "held",
    ScriptedModel(lambda request: gates.hold(HELD)),
    description="Says the same, and does not end before a gate is opened.",
)
STAGED = " ".join(
    f"word{number} {GATE}" if number % 20 == 9 else f"word{number}" for number in range(60)
)
"""The same with gates in the middle."""

staged = Agent(
    "staged",
    ScriptedModel(lambda request: gates.hold(STAGED)),
    description="Stops at three gates.",
)
moody = Agent(
    "moody",
    ScriptedModel(lambda request: gates.hold(f"I am {os.getpid()} and I say: {HELD}")),
    description="Says something else in every process, and does not end either.",
)


class Stubborn:
    """A runnable that breaks its promise: it does not end when it is cancelled."""

    name = "stubborn"
    kind: Literal["agent"] = "agent"
    description = "Does not stop the first time."
    options_type = RunOptions

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        return ()

    async def aclose(self) -> None:
        pass

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        await emit(MessageDelta(run_id=request.run_id, message_id="m", text="holding on "))
        try:
            await asyncio.sleep(FOR_EVER)
        except asyncio.CancelledError:
            await emit(ToolCallStarted(run_id=request.run_id, call_id="c", name="cling"))
            await asyncio.sleep(FOR_EVER)


registry = Registry(
    memory,
    words,
    held,
    staged,
    gates.usher,
    moody,
    weather,
    slow,
    lines,
    failing,
    careful,
    waiting,
    hanging,
    escaping,
    Stubborn(),
)
