"""What one delta costs on its way through the whole agent loop into events.

A scripted model says the same short word again and again, in one answer:

    bare      a plain `async for` over the model's stream: what the deltas themselves cost
    loop      `Agent.execute`, with an `emit` that does nothing: deltas become checked, immutable
              events, and what is open is kept count of
    stream    the same through `RunStream`, as programs consume runs: a task of its own, and a
              consumer that takes each event
    nested    an agent as a tool of an agent, with an `emit` that does nothing: two loops

All in one process and one run, one after the other in each round; nothing waits for anything. The
figure of a case is the median of its rounds; all of them are printed. A model call with its run has a
fixed cost besides, which the number of deltas hides: it is printed for an answer of one delta.

    python -m bench.agent [--deltas 20000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median

from runtime import Agent, Event, Message, ScriptedModel, ToolCall
from runtime.events import MessageDelta
from runtime.models.base import Finish, ModelRequest, Text
from runtime.models.scripted import Cue, call_tools
from runtime.run_stream import RunStream
from runtime.runnable import RunRequest

__all__ = ["main"]

LIMIT = 15.0
"""Microseconds that a delta may cost through the whole loop."""

HISTORY = (Message(role="user", content="Say it again."),)


def model(deltas: int) -> ScriptedModel:
    """Return a model whose answer has so many deltas."""
    answer: list[Cue] = [*[Text("again ")] * deltas, Finish("stop")]
    return ScriptedModel(lambda _: answer)


async def nothing(event: Event) -> None:
    """Take an event."""


async def bare(deltas: int) -> None:
    heard = 0
    async for delta in model(deltas).stream(ModelRequest(HISTORY)):
        heard += isinstance(delta, Text)
    assert heard == deltas


async def loop(deltas: int) -> None:
    await Agent("speaker", model(deltas)).execute(RunRequest("run", HISTORY), nothing)


async def stream(deltas: int) -> None:
    heard = 0
    agent = Agent("speaker", model(deltas))
    async for event in RunStream(agent, RunRequest("run", HISTORY), lambda event: event):
        heard += isinstance(event, MessageDelta)
    assert heard == deltas


async def nested(deltas: int) -> None:
    speaker = Agent("speaker", model(deltas)).as_tool()
    call = ToolCall(id="c", name="speaker", arguments='{"input":"Say it again."}')
    caller = ScriptedModel([call_tools(call), [Finish("stop")]])
    await Agent("caller", caller, tools=[speaker]).execute(RunRequest("run", HISTORY), nothing)


CASES: dict[str, Callable[[int], Awaitable[None]]] = {
    "bare": bare,
    "loop": loop,
    "stream": stream,
    "nested": nested,
}


async def seconds(case: Callable[[int], Awaitable[None]], deltas: int) -> float:
    began = time.perf_counter()
    await case(deltas)
    return time.perf_counter() - began


async def measure(deltas: int, rounds: int) -> dict[str, list[float]]:
    """Return the microseconds per delta of each round, by case."""
    took: dict[str, list[float]] = {name: [] for name in CASES}
    for case in CASES.values():
        await case(deltas // 10)  # so that all is loaded and warm
    for _ in range(rounds):
        for name, case in CASES.items():
            took[name].append(await seconds(case, deltas) / deltas * 1e6)
    return took


async def report(deltas: int, rounds: int) -> None:
    took = await measure(deltas, rounds)
    print("case    us/delta   over bare  rounds")
    for name, each in took.items():
        over = median(each) - median(took["bare"])
        print(f"{name:7} {median(each):8.2f}  {over:10.2f}  {' '.join(f'{x:.2f}' for x in each)}")
    runs = [await seconds(loop, 1) * 1e6 for _ in range(rounds * 20)]
    print(f"a whole run with an answer of one delta: {median(runs):.0f} us")
    within = all(median(took[name]) < LIMIT for name in ("loop", "stream"))
    print(f"limit for loop and stream: {LIMIT:g} us a delta: {'kept' if within else 'NOT KEPT'}")


def main() -> None:
    """Print one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--deltas", type=int, default=20_000, help="of one answer (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="of each case (default 5)")
    arguments = parser.parse_args()
    print(f"python {sys.version.split()[0]}, {arguments.deltas} deltas, {arguments.rounds} rounds")
    asyncio.run(report(arguments.deltas, arguments.rounds))


if __name__ == "__main__":
    main()
