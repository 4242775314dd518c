"""`research`: a graph that plans, fetches side by side, asks a human, and writes.

    plan → fetch_1, fetch_2, fetch_3 → approve → write

It looks into a small library that it carries with it, and takes its time over that, as fetching
takes. A hosted model writes the report; without one a script does, because the small model of this
machine bends the notes that a human has approved.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.builtin.scripted import SECONDS_PER_WORD
from runtime.agent import Agent
from runtime.graph import END, Command, CompiledGraph, Graph, Key, ListKey, NodeContext, View
from runtime.models.base import Model, ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, say

__all__ = ["research"]

TOPIC = Key("topic", "")
FOUND: ListKey[str] = ListKey("found", str)
NOTES: Key[list[str]] = Key("notes", [], type=list[str])
REPORT = Key("report", "")

SOURCES = ("Coast almanac", "Harbour archive", "Field notes")
"""What the three fetches look into."""

LIBRARY: dict[str, tuple[str, str, str]] = {
    "tide": (
        "The Moon pulls the oceans into two bulges: one faces it, one is on the far side.",
        "The Earth turns under the bulges, so most coasts see two high tides in about a day.",
        "At new and full moon, Sun and Moon pull in one line, and the tides are highest.",
    ),
    "salt": (
        "Rain is slightly acid and dissolves minerals in rocks; rivers carry them to the sea.",
        "Hot springs on the sea floor add more minerals to the water.",
        "Water evaporates and the salt stays, so it has gathered over millions of years.",
    ),
    "lighthouse": (
        "A lighthouse shows ships at night where the coast is.",
        "Each one has a pattern of flashes of its own, so that sailors can tell them apart.",
        "Its lamp stands high: light reaches farther then over the curve of the Earth.",
    ),
}
"""A note of each source, by a word of the topic."""

NOTHING = "Nothing on this topic; this small library knows tides, salt and lighthouses."

TICKS = ((0.0, "asking"), (0.3, "reading"), (0.6, "reading on"), (0.85, "taking notes"))
"""How far a fetch is, and what it does there."""

PLANNING_SECONDS = 0.5
SECONDS_PER_TICK = (0.35, 0.45, 0.3)
"""The pace of each fetch: different, so that one can see that they run side by side."""

NodeFunction = Callable[[NodeContext, View], Awaitable[Command]]


class Brief(BaseModel):
    """What a human agrees to, and may change."""

    model_config = ConfigDict(extra="forbid")

    topic: str
    notes: list[str]


def research(model: Model | None, *, pace: float = 1.0) -> CompiledGraph:
    """Return the graph.

    Args:
        model: Writes the report; None for a script.
        pace: Multiplies the time that planning, fetching and the script's writing take.
    """
    writer = Agent(
        "writer",
        model or ScriptedModel(partial(_script, pace), name="scripted-writer"),
        instructions="You write short, exact reports. Use only the notes that you are given.",
    )
    graph = Graph(REPORT, TOPIC, FOUND, NOTES, name="research")
    fetches = [f"fetch_{number}" for number in range(1, len(SOURCES) + 1)]
    graph.start("plan").node("plan", _plan(pace), *fetches)
    for place, name in enumerate(fetches):
        graph.node(name, _fetch(place, pace), "approve")
    graph.node("approve", _approve, "write", END)
    graph.node("write", writer, END, ask=_ask, into=REPORT)
    written = "a script" if model is None else model.name
    return graph.build(
        input=lambda history: {TOPIC: history[-1].content if history else ""},
        description="Scripted. A graph: plans, fetches three notes side by side, asks you, and "
        f"has the report written by {written}.",
    )


def _plan(pace: float) -> NodeFunction:
    """Return the node that settles the topic."""

    async def plan(context: NodeContext, view: View) -> Command:
        message = f"three sources for {_short(view)}"
        await context.writer.send({"stage": "planning", "message": message})
        await asyncio.sleep(PLANNING_SECONDS * pace)
        return Command().set(TOPIC, " ".join(view.get(TOPIC).split()))

    return plan


def _short(view: View) -> str:
    topic = view.get(TOPIC)
    return f"“{topic[:40]}…”" if len(topic) > 40 else f"“{topic}”"  # noqa: PLR2004 - fits a line


def _fetch(place: int, pace: float) -> NodeFunction:
    """Return the node that looks into one source."""
    source = SOURCES[place]

    async def fetch(context: NodeContext, view: View) -> Command:
        for progress, stage in TICKS:
            await context.writer.send(
                {"stage": stage, "progress": progress, "message": f"{source}: {stage}"}
            )
            await asyncio.sleep(SECONDS_PER_TICK[place] * pace)
        await context.writer.send({"stage": "done", "progress": 1.0, "message": f"{source}: done"})
        return Command().append(FOUND, f"{source}: {_look_up(view.get(TOPIC), place)}")

    return fetch


def _look_up(topic: str, place: int) -> str:
    asked = topic.lower()
    return next((notes[place] for word, notes in LIBRARY.items() if word in asked), NOTHING)


async def _approve(context: NodeContext, view: View) -> Command:
    """Ask before anything is written. What a human changed is what is written about."""
    brief = Brief(topic=view.get(TOPIC), notes=view.get(FOUND))
    question = "Shall a report be written from these notes?"
    while True:
        decision = await context.interrupt(question, brief.model_dump())
        if decision.kind in {"rejected", "expired"}:
            why = f" You said: {decision.message}" if decision.message else ""
            return Command().set(REPORT, f"Nothing was written.{why}").to(END)
        if decision.kind != "edited":
            break
        try:
            brief = Brief.model_validate_json(decision.arguments or "")
            break
        except ValidationError as error:
            question = f"{_wrong(error)}. Approve, reject, or change the topic or the notes."
    return Command().set(TOPIC, brief.topic).set(NOTES, brief.notes).to("write")


def _wrong(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or "the answer"
    return f"{name}: {first['msg']}"


def _ask(view: View) -> str:
    notes = "\n".join(f"- {note}" for note in view.get(NOTES))
    return f"Write a short report that answers: {view.get(TOPIC)}\n\nNotes:\n{notes}"


def _script(pace: float, request: ModelRequest) -> Iterable[Cue]:
    """Write the report: the notes as they are, and where they are from."""
    asked = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
    head, _, listed = asked.partition("\n\nNotes:\n")
    topic = head.removeprefix("Write a short report that answers: ")
    notes = [note.removeprefix("- ") for note in listed.split("\n") if note]
    pairs = [re.fullmatch(r"([^:]{1,40}): (.*)", note) for note in notes]
    said = [pair[2] if pair else note for pair, note in zip(pairs, notes, strict=True)]
    sources = [pair[1] if pair else "you" for pair in pairs]
    body = " ".join(f"{sentence} [{number}]" for number, sentence in enumerate(said, start=1))
    names = "; ".join(f"[{number}] {source}" for number, source in enumerate(sources, start=1))
    report = f"{topic}\n\n{body or 'There were no notes.'}\n\nSources: {names or 'none'}"
    return say(report, seconds_per_word=SECONDS_PER_WORD * pace)
