"""Telling what is said: each message is an artifact. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gateway.codecs.a2a.objects import EXTENSION, Json, Scene
from gateway.codecs.a2a.state import A2aState, Said, Told
from runtime.events import MessageCompleted, MessageDelta, MessageStarted, ModelCompleted
from runtime.journal import spoken_below

__all__ = ["completed", "delta", "model_completed", "started", "withdraw"]


def started(scene: Scene, state: A2aState, event: MessageStarted) -> Told:
    """Remember who speaks; an artifact begins with its first piece."""
    if spoken_below(event.path):
        return state, []
    said = Said(event.message_id, event.path, event.turn, event.agent)
    return replace(state, said=(*_others(state, event.message_id), said)), []


def delta(scene: Scene, state: A2aState, event: MessageDelta) -> Told:
    """Tell the next piece of a message."""
    if spoken_below(event.path):
        return state, []
    part = {"text": event.text}
    said = _find(state, event.message_id)
    if said is not None and said.told:
        piece = {"artifactId": event.message_id, "parts": [part]}
        return state, [scene.artifact(piece, append=True)]
    said = replace(said or Said(event.message_id, event.path), told=True)
    after = replace(state, said=(*_others(state, event.message_id), said))
    return after, [scene.artifact(_artifact(said, [part]))]


def completed(scene: Scene, state: A2aState, event: MessageCompleted) -> Told:
    """Tell a message as a whole, or take it back."""
    if spoken_below(event.path):
        return state, []
    said = _find(state, event.message_id) or Said(event.message_id, event.path)
    if event.superseded:
        return withdraw(scene, state, [said])
    if not said.told and not event.text:
        return state, []
    told = replace(said, told=True)
    after = replace(
        state,
        said=(*_others(state, event.message_id), told),
        last=(event.message_id, event.text),
    )
    marks = {"incomplete": True} if event.incomplete else {}
    whole = _artifact(told, [{"text": event.text}], marks)
    return after, [scene.artifact(whole, last=True)]


def withdraw(scene: Scene, state: A2aState, gone: Iterable[Said]) -> Told:
    """Empty the artifacts of messages that do not count, as A2A cannot take one back."""
    results: list[Json] = []
    for said in gone:
        state = replace(state, said=_others(state, said.message_id))
        if state.last is not None and state.last[0] == said.message_id:
            state = replace(state, last=None)
        if said.told:
            empty = _artifact(said, [{"text": ""}], {"superseded": True})
            results.append(scene.artifact(empty, last=True))
    return state, results


def model_completed(scene: Scene, state: A2aState, event: ModelCompleted) -> Told:
    """Remember that a message will not be said anew."""
    said = tuple(
        replace(said, whole=True) if said.message_id == event.message_id else said
        for said in state.said
    )
    return replace(state, said=said), []


def _find(state: A2aState, message_id: str) -> Said | None:
    return next((said for said in state.said if said.message_id == message_id), None)


def _others(state: A2aState, message_id: str) -> tuple[Said, ...]:
    return tuple(said for said in state.said if said.message_id != message_id)


def _artifact(said: Said, parts: list[Json], marks: Json | None = None) -> Json:
    artifact: Json = {"artifactId": said.message_id}
    if said.agent is not None:
        artifact["name"] = said.agent
    artifact["parts"] = parts
    if marks:
        artifact["metadata"] = {EXTENSION: marks}
    return artifact
