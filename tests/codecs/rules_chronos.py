"""The rules of Chronos' frames, as a page relies on them that reads `JSON.parse(event.data).type`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gateway.codecs.codec import Frame

__all__ = ["KEYS", "RUNNER", "check_chronos"]

RUNNER = ("node_start", "node_end", "edge_transition", "interrupt", "error", "completed")
KEYS = ("type", "node_id", "state", "error", "timestamp", "data")
_ENDS = ("interrupt", "error", "completed")


def check_chronos(frames: Sequence[Frame], was_cut: bool) -> None:
    """Each is `{type, data}`, a runner's event has the runner's keys; one end, last, and told once."""
    assert frames, "every event has a word"
    told = [json.loads(frame.data) for frame in frames]
    for frame, message in zip(frames, told, strict=True):
        assert list(message) == ["type", "data"]
        assert frame.event == message["type"]
        if message["type"] in RUNNER:
            data = message["data"]
            assert [key for key in KEYS if key in data] == list(data)
            assert data["type"] == message["type"]
            assert "data" not in data
            assert ("error" in data) == (data["type"] == "error")
            assert all(data.values()), "what is empty is left out"
    types = [message["type"] for message in told]
    if was_cut:
        assert types[-1] == "stream.closing"
        return
    assert types[-1] in _ENDS
    ends = [kind for kind in types if kind in _ENDS]
    assert all(kind == "interrupt" for kind in ends[:-1]), "an end is the last, a pause may not be"
