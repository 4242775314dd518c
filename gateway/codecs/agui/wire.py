"""AG-UI events as frames. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from ag_ui.core import ActivityDeltaEvent, ActivitySnapshotEvent, BaseEvent, CustomEvent

from gateway.codecs.agui.state import AguiState
from gateway.codecs.codec import Frame

__all__ = ["activity", "custom", "delta_frame", "frames_of", "ours"]

OURS = "tidegate"
"""The key under which we add to `metadata` what the protocol has no field for."""


def frames_of(told: Iterable[BaseEvent], at: int | None = None) -> list[Frame]:
    """Return events as frames; `at` is when they happened, in milliseconds since 1970."""
    frames: list[Frame] = []
    for event in told:
        event.timestamp = at
        frames.append(Frame(event.model_dump_json(by_alias=True).encode()))
    return frames


def delta_frame(kind: str, name: str, id_: str, piece: str) -> Frame:
    """Return the frame of a piece of text: there are many, so nothing but JSON is made for it."""
    return Frame(orjson.dumps({"type": kind, name: id_, "delta": piece}))


def ours(**facts: Any) -> dict[str, Any] | None:
    """Return `metadata` with the facts that are not None; None if that leaves nothing."""
    known = {name: fact for name, fact in facts.items() if fact is not None}
    return {OURS: known} if known else None


def custom(name: str, value: Any) -> CustomEvent:
    """Return an event for what AG-UI has no word for."""
    return CustomEvent(name=name, value=value)


def activity(
    state: AguiState,
    activity_id: str,
    kind: str,
    content: Mapping[str, Any],
    *,
    owner: str | None,
    moves: str = "",
) -> tuple[AguiState, list[BaseEvent]]:
    """Show an activity, or change what is shown of it.

    Args:
        state: Of the stream.
        activity_id: The same again is the same activity.
        kind: What it is.
        content: All of it, as it is now; the same keys each time.
        owner: The subagent whose activity it is.
        moves: The one key whose value changes.
    """
    if activity_id in state.activities:
        patch = [{"op": "replace", "path": f"/{moves}", "value": content[moves]}]
        return state, [
            ActivityDeltaEvent.model_validate(
                {"message_id": activity_id, "activity_type": kind, "patch": patch}
            )
        ]
    shown = ActivitySnapshotEvent(
        message_id=activity_id, activity_type=kind, content=dict(content), subagent_run_id=owner
    )
    return replace(state, activities=(*state.activities, activity_id)), [shown]
