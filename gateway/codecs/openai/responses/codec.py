"""A segment of a run as the stream of one OpenAI response. Pure.

| the run says                          | the response says                                          |
|---------------------------------------|------------------------------------------------------------|
| its input, or that it goes on         | `response.created`, `.queued` in the queue, `.in_progress` |
| a message of its conversation         | a `message` item                                           |
| reasoning of its conversation         | a `reasoning` item, as its summary                         |
| a call of a tool of the client's      | a `function_call` item                                     |
| a call of a tool of its own           | an `mcp_call` item, once it runs                           |
| that a human is to approve            | an `mcp_approval_request` item                             |
| an agent called as a tool speaks      | nothing: what comes of it is the output of the call        |
| that it waits, or is completed        | `response.completed`                                       |
| that it ran into the limit of tokens  | `response.incomplete`                                      |
| that it was cancelled                 | `response.incomplete`; its status is `cancelled`           |
| that it failed                        | `response.failed`                                          |

What is said anew after a take-over is void: it was streamed, but is no part of the whole output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from gateway.codecs.codec import Frame
from gateway.codecs.openai.responses.calls import Outcome, Writing, ask, settle_call, write_call
from gateway.codecs.openai.responses.objects import answer_object, input_objects
from gateway.codecs.openai.responses.speech import Speech, is_speech, speak
from gateway.codecs.openai.responses.state import Asked, State
from gateway.codecs.openai.responses.telling import Telling
from gateway.log.entry import Entry
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    Event,
    InputAccepted,
    InputQueued,
    ModelCompleted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStarted,
    ToolStarted,
)

__all__ = ["Responses"]

_CUT_SHORT = {
    "length": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "content_filter": "content_filter",
}
"""Why an answer is not whole, by the model's `finish_reason`."""

_Beginning = InputQueued | InputAccepted | RunStarted | RunResumed
_Progress = ModelCompleted | NodeStarted | NodeCompleted | NodeFailed
_End = RunCompleted | RunFailed | RunCancelled | RunInterrupted


@dataclass(frozen=True, slots=True)
class Responses:
    """Tells one segment of a run, which is read from its run's beginning.

    Attributes:
        segment: Which segment, from 0.
        previous: The id of the response before the run's first one.
        metadata: What the session was made with, as pairs.
    """

    segment: int = 0
    previous: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    def begin(self) -> State:
        """Return the state before the first event."""
        return State()

    def encode(self, state: State, event: Event, entry: Entry) -> tuple[State, Sequence[Frame]]:
        """Say an event."""
        if state.phase == "over" and state.segment >= self.segment:
            return state, ()  # the next segment is another response
        told = Telling(
            state,
            entry,
            event.run_id,
            wanted=self.segment,
            previous=self.previous,
            metadata=dict(self.metadata),
        )
        if isinstance(event, _Beginning):
            _begin(told, event)
        elif isinstance(event, ApprovalResolved):
            _answered(told, event)
        elif state.phase != "over":  # while it waits, nobody says anything
            _go_on(told, event)
        return told.state, told.frames

    def cut(self, state: State, reason: str) -> Sequence[Frame]:
        """Say that the server cannot go on; the client may come back after what it has.

        The number is that of the last message, and not a new one: a client that resumes after it
        misses nothing.
        """
        message = "the server is restarting" if reason == "shutdown" else f"interrupted: {reason}"
        about = {"code": reason, "message": f"{message}; the response goes on", "param": None}
        data = {
            "type": "error",
            "sequence_number": max(state.number - 1, 0),
            **about,
            "error": {"type": "server_error", **about},
        }
        return (Frame(orjson.dumps(data), "error"),)


def _go_on(told: Telling, event: Event) -> None:
    if isinstance(event, Speech):
        speak(told, event)
    elif isinstance(event, Writing):
        write_call(told, event)
    elif isinstance(event, ToolStarted | Outcome):
        settle_call(told, event)
    elif isinstance(event, ApprovalRequested):
        ask(told, event)
    elif isinstance(event, _Progress):
        _progress(told, event)
    elif isinstance(event, RunAttemptStarted):
        _taken_over(told)
    elif isinstance(event, _End):
        _end(told, event)


def _begin(told: Telling, event: _Beginning) -> None:
    asked = told.state.asked
    match event:
        case InputQueued() | InputAccepted():
            agent = event.agent or asked.agent
            tools, options = event.tools or (), event.options or {}
            told.change(
                asked=Asked(agent, event.instructions, tools, options),
                input=tuple(input_objects(event.message)),
            )
        case RunStarted():
            agent = event.agent or event.graph or asked.agent
            options = event.options or asked.options
            told.change(asked=Asked(agent, asked.instructions, asked.tools, options))
        case RunResumed():
            pass
    if isinstance(event, InputQueued):
        told.begin(queued=True)
    elif told.state.phase == "open" and told.state.status == "queued":
        told.change(status="in_progress")
        told.say_response("response.in_progress")
    elif told.state.asked.agent or not isinstance(event, InputAccepted):
        told.begin()  # else, who answers is said next


def _answered(told: Telling, event: ApprovalResolved) -> None:
    """Remember what the next segment answers."""
    for item in told.state.items:
        if item.approval_id == event.approval_id:
            told.change(answers=(*told.state.answers, answer_object(item, event)))


def _progress(told: Telling, event: _Progress) -> None:
    """What is done and will not be done again; what will be, and so was said in vain."""
    if isinstance(event, ModelCompleted):
        if event.usage is not None:
            told.change(usage=told.state.usage + event.usage)
        told.change_items(lambda _, item: item.path == event.path and not item.final, final=True)
        return
    below = (*event.path, event.node)
    depth = len(below)
    begun = next((place for path, place in told.state.visits if path == below), 0)
    others = tuple(visit for visit in told.state.visits if visit[0] != below)
    match event:
        case NodeStarted():
            told.change(visits=(*others, (below, len(told.state.items))))
            return
        case NodeCompleted():
            told.change_items(
                lambda _, item: item.path[:depth] == below and not item.final, final=True
            )
        case NodeFailed():
            if event.will_retry:
                told.change_items(
                    lambda place, item: (
                        place >= begun and item.path[:depth] == below and is_speech(item)
                    ),
                    void=True,
                )
    told.change(visits=others)


def _taken_over(told: Telling) -> None:
    """Another process goes on: what belongs to no finished model call is said anew."""
    for place, item in enumerate(told.state.items):
        if item.kind == "function_call" and item.status == "in_progress" and not item.final:
            told.close_item(place, "incomplete", void=True)
            told.drop_call(item.path, item.key)
    told.change_items(
        lambda _, item: is_speech(item) and not item.final and not item.void, void=True
    )


def _end(told: Telling, event: _End) -> None:
    told.begin()
    for place, item in enumerate(told.state.items):
        if item.status == "in_progress":
            told.close_item(place, "incomplete", void=item.kind == "function_call")
    match event:
        case RunInterrupted():
            told.end("response.completed", status="completed")
        case RunCompleted():
            why = _CUT_SHORT.get(event.finish_reason or "")
            status = "completed" if why is None else "incomplete"
            told.end(f"response.{status}", status=status, why_incomplete=why)
        case RunFailed():
            told.end("response.failed", status="failed", error=event.error)
        case RunCancelled():
            told.end("response.incomplete", status="cancelled")
