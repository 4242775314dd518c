"""Telling how a run begins, pauses, goes on and ends. Pure."""

from __future__ import annotations

from dataclasses import replace

from gateway.codecs.a2a.activity import activity, told_of
from gateway.codecs.a2a.objects import Json, Scene, question, shallow
from gateway.codecs.a2a.speech import withdraw
from gateway.codecs.a2a.state import A2aState, Said, Told
from runtime.events import (
    InputAccepted,
    InputQueued,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStarted,
)

__all__ = [
    "input_came",
    "run_cancelled",
    "run_completed",
    "run_failed",
    "run_interrupted",
    "taken_over",
    "working",
]


def input_came(scene: Scene, state: A2aState, event: InputAccepted | InputQueued) -> Told:
    """Tell the task, with what the user says."""
    if state.begun:
        return state, []
    said = event.message
    message_id = said.message_id or event.command_id
    message = scene.message(message_id, [{"text": said.content}], role="ROLE_USER")
    history = [message] if scene.history else []
    return replace(state, begun=True), [scene.task(state.task, history)]


def working(scene: Scene, state: A2aState, event: RunStarted | RunResumed) -> Told:
    """Tell that the run is at work."""
    after = replace(state, task="TASK_STATE_WORKING", settled=())
    return activity(scene, after, event)


def taken_over(scene: Scene, state: A2aState, event: RunAttemptStarted) -> Told:
    """Tell that the run begins again where it died; what it says anew is taken back."""

    def again(said: Said) -> bool:
        if len(said.path) > 1:
            return not (said.whole or said.kept)
        return said.turn is not None and said.turn > event.from_step

    after, withdrawn = withdraw(scene, state, filter(again, state.said))
    after = replace(after, task="TASK_STATE_WORKING", settled=())
    after, told = activity(scene, after, event)
    return after, [*withdrawn, *told]


def run_interrupted(scene: Scene, state: A2aState, event: RunInterrupted) -> Told:
    """Tell what the run waits for."""
    if event.pending and set(event.pending) <= set(state.settled):
        return activity(scene, state, event)  # it goes on by itself
    parts = question(state.pending) if state.pending else [{"text": event.reason}]
    message = scene.message(f"{event.run_id}-{scene.entry.seq}", parts)
    after = replace(state, task="TASK_STATE_INPUT_REQUIRED")
    return after, [scene.status(after.task, told_of(event), message)]


def run_completed(scene: Scene, state: A2aState, event: RunCompleted) -> Told:
    """Tell the end; before it, an output that no message has said."""
    results: list[Json] = []
    answer = state.last[0] if state.last is not None and state.last[1] == event.output else None
    parts: list[Json] = []
    if event.output and answer is None:
        parts.append({"text": event.output})
    if event.final_output is not None and event.final_output != event.output:
        parts.append({"data": shallow(event.final_output)})
    if parts:
        output = {"artifactId": f"{event.run_id}-output", "name": "output", "parts": parts}
        results.append(scene.artifact(output, last=True))
        answer = f"{event.run_id}-output"
    told: Json = {"type": event.type, "usage": event.usage.model_dump(exclude_none=True)}
    if event.finish_reason is not None:
        told["finish_reason"] = event.finish_reason
    if event.cost_usd is not None:
        told["cost_usd"] = event.cost_usd
    if answer is not None:
        told["artifact_id"] = answer
    results.append(scene.status("TASK_STATE_COMPLETED", told))
    return replace(state, task="TASK_STATE_COMPLETED"), results


def run_failed(scene: Scene, state: A2aState, event: RunFailed) -> Told:
    """Tell that the run failed, and why."""
    text = [{"text": event.error.message}]
    message = scene.message(f"{event.run_id}-{scene.entry.seq}", text)
    after = replace(state, task="TASK_STATE_FAILED")
    return after, [scene.status(after.task, told_of(event), message)]


def run_cancelled(scene: Scene, state: A2aState, event: RunCancelled) -> Told:
    """Tell that the run was ended."""
    told: Json = {"type": event.type, "reason": event.reason}
    after = replace(state, task="TASK_STATE_CANCELED")
    return after, [scene.status(after.task, told)]
