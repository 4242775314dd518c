"""A graph with two nodes side by side: `tidegate run examples/my_graph.py:graph --set ports='["Brest"]'`.

It is served like an agent: `tidegate serve examples.my_graph:graph`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from runtime import get_stream_writer
from runtime.graph import END, Graph, Key, ListKey, View

REPORT = Key("report", "")
PORTS = ListKey("ports", str)
NOTES = ListKey("notes", str)


async def look_up(view: View) -> Mapping[str, Any]:
    """Note something about each port, and say how far it is."""
    writer = get_stream_writer()
    notes: list[str] = []
    ports = view[PORTS] or ("Brest", "Dover")
    for number, port in enumerate(ports, start=1):
        await asyncio.sleep(0.2)  # stands for a request
        notes.append(f"high water in {port} at {len(port)}:12")
        if writer:
            writer({"stage": "tides", "progress": number / len(ports), "message": port})
    return {"notes": notes}


async def forecast(view: View) -> Mapping[str, Any]:
    """Note the weather, which takes no time at all here."""
    return {"notes": ["light wind from the west"]}


async def write(view: View) -> Mapping[str, Any]:
    """Make a report of all notes; they are in the order of the nodes, whichever was first."""
    return {"report": "; ".join(view[NOTES]) + "."}


graph = (
    Graph(REPORT, PORTS, NOTES, name="survey")
    .node("tides", look_up, "write")
    .node("weather", forecast, "write")
    .node("write", write, END)
    .start("tides", "weather")
    .build(description="Looks up tides and weather at the same time, and writes a report.")
)
