"""A2A 1.0: a run as a task, told by `StreamResponse` objects in JSON-RPC responses. Pure.

A run's text is its artifacts, one for each message: the first piece makes the artifact, the next
ones are appended, and the last update holds the whole text in place of the pieces. So whoever
follows the flags ends with exactly the text, in one part, and has the same as someone who asks for
the task afterwards. What tools and nodes do is told by updates of the status. What the model
thinks, and what agents say that were called as tools, is not told: only their results count.

The responses have no `id`, which is the request's and therefore not shared; see `with_id`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.codecs.a2a import activity, runs, speech
from gateway.codecs.a2a.objects import TERMINAL, Scene
from gateway.codecs.a2a.state import A2aState, Telling, Told
from gateway.codecs.codec import Frame
from gateway.log.entry import Entry
from runtime import events
from runtime.events import Event

__all__ = ["A2aCodec", "with_id"]

INTERNAL_ERROR = -32603
"""JSON-RPC 2.0's code for what is the server's fault."""

_TELLING: dict[type[Any], Telling] = {
    events.InputAccepted: runs.input_came,
    events.InputQueued: runs.input_came,
    events.MessageStarted: speech.started,
    events.MessageDelta: speech.delta,
    events.MessageCompleted: speech.completed,
    events.ModelCompleted: speech.model_completed,
    events.ToolStarted: activity.activity,
    events.ToolProgress: activity.activity,
    events.ToolCompleted: activity.activity,
    events.ToolFailedEvent: activity.activity,
    events.ToolUnknownOutcome: activity.activity,
    events.NodeStarted: activity.activity,
    events.NodeUpdate: activity.activity,
    events.NodeCompleted: activity.node_completed,
    events.NodeFailed: activity.node_failed,
    events.AgentHandoff: activity.activity,
    events.GuardrailTripped: activity.activity,
    events.Custom: activity.activity,
    events.ApprovalRequested: activity.requested,
    events.ApprovalResolved: activity.resolved,
    events.RunStarted: runs.working,
    events.RunResumed: runs.working,
    events.RunAttemptStarted: runs.taken_over,
    events.RunStopRequested: activity.activity,
    events.RunInterrupted: runs.run_interrupted,
    events.RunCompleted: runs.run_completed,
    events.RunFailed: runs.run_failed,
    events.RunCancelled: runs.run_cancelled,
}
"""All that a client is told of; there is no word for anything else."""


def with_id(message: bytes, request_id: bytes) -> bytes:
    """Return a framed response with the id of the request that it answers, as JSON."""
    return message.replace(b"data: {", b'data: {"id":%b,' % request_id, 1)


@dataclass(frozen=True, slots=True)
class A2aCodec:
    """Tells a run as a task.

    Attributes:
        task_id: The task.
        context_id: The conversation that it is of.
        history: Whether the task shows the messages that it began with.
    """

    task_id: str
    context_id: str
    history: bool = True

    def begin(self) -> A2aState:
        """Return the state before the first event."""
        return A2aState()

    def encode(
        self, state: A2aState, event: Event, entry: Entry
    ) -> tuple[A2aState, Sequence[Frame]]:
        """Tell an event, the task itself before anything else."""
        after, results = self.tell(state, event, entry)
        return after, [
            Frame(orjson.dumps({"jsonrpc": "2.0", "result": result})) for result in results
        ]

    def tell(self, state: A2aState, event: Event, entry: Entry) -> Told:
        """Tell an event by `StreamResponse` objects."""
        telling = _TELLING.get(type(event))
        if telling is None or state.task in TERMINAL:
            return state, []
        scene = Scene(self.task_id, self.context_id, entry, self.history)
        after, results = telling(scene, state, event)
        if results and not after.begun:
            after = replace(after, begun=True)
            results = [scene.task("TASK_STATE_SUBMITTED"), *results]
        return after, results

    def cut(self, state: A2aState, reason: str) -> Sequence[Frame]:
        """Say that the stream ends before its task does."""
        error = {
            "code": INTERNAL_ERROR,
            "message": "the stream ends here, and the task may go on: subscribe to it again",
            "data": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "INTERNAL_ERROR",
                    "domain": "a2a-protocol.org",
                    "metadata": {"code": reason},
                }
            ],
        }
        return [Frame(orjson.dumps({"jsonrpc": "2.0", "error": error}))]
