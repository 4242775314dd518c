"""The rules of AgentMesh's results, as a loop relies on them that ranges over a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import get_args

from gateway.codecs.codec import Frame
from runtime.events import Event

__all__ = ["SILENT_IN_AGENTMESH", "check_agentmesh"]

SILENT_IN_AGENTMESH = frozenset(
    kind.model_fields["type"].default for kind in get_args(get_args(Event)[0])
) - {
    "custom",
    "message.delta",
    "node.completed",
    "node.update",
    "run.cancelled",
    "run.completed",
    "run.failed",
    "run.interrupted",
    "session.closed",
    "session.created",
}


def check_agentmesh(frames: Sequence[Frame], was_cut: bool) -> None:
    """Results; the last one has the output and no updates, or is an error, or waits for a human."""
    assert frames, "the stream ends without a word"
    told = [json.loads(frame.data) for frame in frames]
    for place, (frame, result) in enumerate(zip(frames, told, strict=True)):
        last = place == len(frames) - 1
        assert isinstance(result["Node"], str)
        if "Error" in result:
            assert (frame.event, list(result)) == ("error", ["Node", "Error"])
            assert result["Error"]
            assert last, "nothing comes after an error"
            continue
        assert (frame.event, list(result)) == (None, ["Node", "Updates", "Output"])
        assert last or result["Output"] is None, "an output comes with the last result only"
    end = told[-1]
    is_error = "Error" in end
    paused = not is_error and (end["Updates"] or {}).get("type") == "interrupt"
    assert is_error or (not was_cut and (paused or end["Updates"] is None))
