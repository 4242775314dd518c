"""What one event costs in the words of each protocol: the first reader, and each further one.

A run of an agent that says 2,000 text deltas, with a tool call before them, is told by every codec.
The first reader has to encode; the others find what it made in the entries. The figures are CPU
microseconds an event, the least of some rounds (each with fresh entries), and beside them how many
times the native SSE wire's cost that is, measured in the same run.

To repeat: `python -m bench.codecs --deltas 2000 --rounds 7`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gateway.codecs.a2a.codec import A2aCodec
from gateway.codecs.agui import AguiCodec, Names
from gateway.codecs.codec import Codec, Projection
from gateway.codecs.framing import sse
from gateway.codecs.native import sse_frame
from gateway.codecs.openai.chat_completions import ChatCompletions
from gateway.codecs.openai.responses import Responses
from gateway.codecs.sources.agentlang import AgentlangCodec
from gateway.codecs.sources.agentmesh import AgentMeshCodec
from gateway.codecs.sources.chronos import ChronosCodec
from gateway.codecs.sources.sekuire import SekuireCodec
from gateway.codecs.sources.stratus import StratusCodec
from gateway.codecs.vercel import UiMessageStream
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.serde import dump
from runtime.events import (
    Event,
    InputAccepted,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ModelStarted,
    RunCompleted,
    RunStarted,
)
from runtime.messages import Message, Usage

__all__ = ["main"]

RUN, PATH = "run_1", ("assistant",)
TEXT = "a few words, as a model says them "


def log(deltas: int) -> list[Entry]:
    """Return the entries of the run."""
    of: dict[str, Any] = {"run_id": RUN, "path": PATH}
    usage = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)
    said: list[Event] = [
        InputAccepted(
            run_id=RUN,
            message=Message(role="user", content="hi", message_id="msg_0"),
            command_id="c",
            policy="enqueue",
        ),
        RunStarted(**of, agent="assistant"),
        ModelStarted(**of, turn=1, model="bench", message_count=1),
        MessageStarted(**of, message_id="msg_1", agent="assistant", turn=1),
        *(MessageDelta(**of, message_id="msg_1", text=TEXT) for _ in range(deltas)),
        MessageCompleted(**of, message_id="msg_1", text=TEXT * deltas),
        ModelCompleted(**of, message_id="msg_1", content=TEXT * deltas, usage=usage, turn=1),
        RunCompleted(**of, output=TEXT * deltas, usage=usage, message_count=2, num_turns=1),
    ]
    return [
        Entry("ses_1", Position("epoch", seq, "0a0b0c0d"), 1_700_000_000_000 + seq, dump(event))
        for seq, event in enumerate(said, start=1)
    ]


def codecs() -> dict[str, Codec[Any]]:
    """Return all of them."""
    return {
        "chronos": ChronosCodec(),
        "agentmesh": AgentMeshCodec(),
        "stratus": StratusCodec(),
        "agentlang": AgentlangCodec(),
        "sekuire": SekuireCodec(),
        "ag-ui": AguiCodec(Names("thread", RUN)),
        "vercel": UiMessageStream(),
        "chat": ChatCompletions("assistant"),
        "responses": Responses(),
        "a2a": A2aCodec(f"ses_1.{RUN}", "ses_1"),
    }


def cost(work: Callable[[], object], events: int) -> float:
    """Return the CPU microseconds an event that the work took."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / events * 1e6


def read(codec: Codec[Any], entries: Sequence[Entry]) -> Callable[[], object]:
    """Return the work of one reader."""

    def work() -> None:
        projection = Projection(codec, sse)
        for entry in entries:
            projection.feed(entry)

    return work


def read_native(entries: Sequence[Entry]) -> Callable[[], object]:
    """Return the work of one reader of the native wire."""
    return lambda: [entry.encoded(sse_frame) for entry in entries]


def measure(
    reader: Callable[[Sequence[Entry]], Callable[[], object]], deltas: int, rounds: int
) -> tuple[float, float]:
    """Return what the first reader and a further one cost."""
    first, further = [], []
    for _ in range(rounds):
        entries = log(deltas)
        first.append(cost(reader(entries), len(entries)))
        further.append(cost(reader(entries), len(entries)))
    return min(first), min(further)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--deltas", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    native = measure(read_native, chosen.deltas, chosen.rounds)
    print(f"CPU µs an event, {chosen.deltas} text deltas, least of {chosen.rounds} rounds")
    print(f"{'':12}{'first reader':>14}{'':10}{'each further':>14}")
    print(f"{'native SSE':12}{native[0]:14.2f}{'1.0x':>10}{native[1]:14.3f}")
    for name, codec in codecs().items():
        first, further = measure(partial(read, codec), chosen.deltas, chosen.rounds)
        print(f"{name:12}{first:14.2f}{first / native[0]:9.1f}x{further:14.3f}")


if __name__ == "__main__":
    main()
