"""What happens in a run, shown on a terminal: the one renderer of all command lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import singledispatchmethod
from typing import Any

import orjson

from runtime.cli.speech import Speech, Words
from runtime.cli.talk import Heard, Notice, Restated
from runtime.cli.terminal import Terminal
from runtime.events import (
    AgentHandoff,
    ErrorInfo,
    EventBase,
    GuardrailTripped,
    InputQueued,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelRetrying,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    ReasoningCompleted,
    ReasoningStarted,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    SuperstepStarted,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.journal import spoken_below
from runtime.run_stream import RunEnd

__all__ = ["Renderer", "failure_line"]

UNKNOWN_TOOL = "tool"
"""The name of a tool whose call was not seen."""

Key = tuple[str, ...]


class Renderer:
    """Shows one run. Content is what the run itself says, not what agents say that it calls.

    Attributes:
        end: The run's last event, once it was shown.
    """

    def __init__(
        self, terminal: Terminal, *, output: Callable[[RunCompleted], str] | None = None
    ) -> None:
        """Show a run on `terminal`.

        Args:
            terminal: Where.
            output: Returns what to write when the run is completed, instead of what it says on
                its way.
        """
        self.end: RunEnd | None = None
        self._terminal = terminal
        self._output = output
        self._speech = Speech()
        self._names: dict[Key, str] = {}
        self._told: dict[Key, tuple[str, int | None]] = {}

    @singledispatchmethod
    def show(self, heard: Heard) -> None:
        """Show what was heard; most events say nothing to people."""

    # --- the line to whoever answers -------------------------------------------------------------

    @show.register
    def _(self, heard: Notice) -> None:
        self._terminal.note(heard.text, "yellow")

    @show.register
    def _(self, heard: Restated) -> None:
        self._terminal.note(f"the stream was reset ({heard.reason}); going on", "yellow")
        self._names.update({(call_id,): name for call_id, name in heard.tools.items()})
        self._write(self._speech.restate(heard.messages))

    @show.register
    def _(self, event: InputQueued) -> None:
        self._terminal.note(f"waiting in the queue, at place {event.position}")

    @show.register
    def _(self, event: RunAttemptStarted) -> None:
        self._speech.supersede(event.from_step)
        self._terminal.note(f"taken over, attempt {event.attempt} ({event.reason})", "yellow")

    # --- what is said ------------------------------------------------------------------------------

    def _counts(self, event: EventBase) -> bool:
        return self._output is None and not spoken_below(event.path)

    @show.register
    def _(self, event: MessageStarted) -> None:
        if self._counts(event):
            self._speech.start(event.message_id, event.turn if len(event.path) <= 1 else None)

    @show.register
    def _(self, event: MessageDelta) -> None:
        if self._counts(event):
            self._write(self._speech.hear(event.message_id, event.text))

    @show.register
    def _(self, event: MessageCompleted) -> None:
        if self._counts(event):
            superseded = bool(event.superseded)
            self._write(self._speech.finish(event.message_id, event.text, superseded=superseded))

    def _write(self, words: Words) -> None:
        if words.anew:
            self._terminal.note(
                "the answer became another one; here it is from its start", "yellow"
            )
            self._terminal.break_content()
        self._terminal.content(words.text)

    @show.register
    def _(self, event: ReasoningStarted) -> None:
        self._terminal.busy((*event.path, event.message_id), "thinking")

    @show.register
    def _(self, event: ReasoningCompleted) -> None:
        self._terminal.idle((*event.path, event.message_id))

    @show.register
    def _(self, event: ModelRetrying) -> None:
        seconds = f"{event.delay_ms / 1000:.1f} s"
        self._terminal.note(f"... {event.error.message}; trying again in {seconds}", "yellow")

    @show.register
    def _(self, event: AgentHandoff) -> None:
        if not event.denied:
            self._terminal.note(f"→ {event.target}")

    @show.register
    def _(self, event: GuardrailTripped) -> None:
        self._terminal.note(f"✗ the guardrail {event.name} refused this {event.stage}", "red")

    # --- tools -------------------------------------------------------------------------------------

    @show.register
    def _(self, event: ToolCallStarted) -> None:
        key = (*event.path, event.call_id)
        self._names[key] = event.name
        self._terminal.note(f"... {event.name}")
        self._terminal.busy(key, event.name)

    @show.register
    def _(self, event: ToolCallReady) -> None:
        self._names[(*event.path, event.call_id)] = event.name

    @show.register
    def _(self, event: ToolStarted) -> None:
        key = (*event.path, event.call_id)
        if key not in self._names:  # it goes on, after an approval or a take-over
            self._names[key] = event.name
            self._terminal.note(f"... {event.name}")
        self._terminal.busy(key, event.name)

    @show.register
    def _(self, event: ToolProgress) -> None:
        key = (*event.path, event.call_id)
        self._progress(key, self._name(event, forget=False), event.data)

    @show.register
    def _(self, event: ToolCompleted) -> None:
        self._terminal.idle((*event.path, event.call_id))
        self._terminal.note(f"✓ {self._name(event)} complete", "green")

    @show.register
    def _(self, event: ToolFailedEvent) -> None:
        if event.will_retry:
            name = self._name(event, forget=False)
            self._terminal.note(f"... {name}: {event.error.message}; trying again", "yellow")
            return
        self._terminal.idle((*event.path, event.call_id))
        self._terminal.note(f"✗ {self._name(event)}: {event.error.message}", "red")

    @show.register
    def _(self, event: ToolUnknownOutcome) -> None:
        self._terminal.idle((*event.path, event.call_id))
        self._terminal.note(f"? {self._name(event)}: nobody knows whether it was done", "yellow")

    def _name(
        self,
        event: ToolProgress | ToolCompleted | ToolFailedEvent | ToolUnknownOutcome,
        *,
        forget: bool = True,
    ) -> str:
        key = (*event.path, event.call_id)
        name = self._names.get(key) or self._names.get((event.call_id,)) or UNKNOWN_TOOL
        if forget:
            self._names.pop(key, None)
        return name

    # --- graphs ------------------------------------------------------------------------------------

    @show.register
    def _(self, event: SuperstepStarted) -> None:
        self._terminal.note(f"step {event.index}: {', '.join(event.nodes)}", "bold dim")

    @show.register
    def _(self, event: NodeStarted) -> None:
        if not self._terminal.lively:
            self._terminal.note(f"... {event.node}")
        self._terminal.busy((*event.path, event.node), event.node)

    @show.register
    def _(self, event: NodeUpdate) -> None:
        self._progress((*event.path, event.node), event.node, event.updates)

    @show.register
    def _(self, event: NodeCompleted) -> None:
        self._terminal.idle((*event.path, event.node))
        self._terminal.note(f"✓ {event.node} ({_took(event.duration_ms)})", "green")

    @show.register
    def _(self, event: NodeFailed) -> None:
        if event.will_retry:
            self._terminal.note(f"... {event.node}: {event.error.message}; again", "yellow")
            return
        self._terminal.idle((*event.path, event.node))
        mark, style = ("?", "yellow") if event.error.code == "interrupted" else ("✗", "red")
        self._terminal.note(f"{mark} {event.node}: {event.error.message}", style)

    # --- progress ----------------------------------------------------------------------------------

    def _progress(self, key: Key, name: str, data: Any) -> None:
        message, fraction = _read_progress(data)
        if self._terminal.lively:
            self._terminal.progress(key, message, fraction)
            return
        news = (message, None if fraction is None else int(fraction * 10))
        if self._told.get(key) != news:  # a line for each tenth, and for each new message
            self._told[key] = news
            percent = "" if fraction is None else f"{fraction:.0%}"
            self._terminal.note(" ".join(p for p in (f"    {name}:", percent, message) if p))

    # --- the end -----------------------------------------------------------------------------------

    @show.register
    def _(self, event: RunCompleted) -> None:
        self.end = event
        words = Words(self._output(event)) if self._output is not None else self._speech.end()
        self._terminal.rest()
        self._write(words)
        self._terminal.end_content()
        if self._output is None or event.usage.total_tokens:
            self._terminal.note(f"[{event.usage.total_tokens} tokens]")

    @show.register
    def _(self, event: RunFailed) -> None:
        self.end = event
        self.give_up()
        self._terminal.fail(failure_line(event))

    @show.register
    def _(self, event: RunCancelled) -> None:
        self.end = event
        self.give_up()
        if event.reason == "cancel":
            self._terminal.note("[stopped]", "yellow")
        else:
            self._terminal.fail(f"the run was stopped: {_STOPPED[event.reason]}")

    @show.register
    def _(self, event: RunInterrupted) -> None:
        self.end = event
        self.give_up()

    def give_up(self) -> None:
        """Tidy up when the run is left before its end."""
        self._terminal.rest()
        self._terminal.end_content()


_STOPPED = {
    "timeout": "the time was up",
    "disconnect": "the connection ended",
    "shutdown": "the server stopped",
    "superseded": "another run took its place",
}


def failure_line(event: RunFailed) -> str:
    """Say why a run failed. In the process where it was raised, an unexpected error has its text."""
    raised = event.exception
    error: ErrorInfo = event.error
    if error.code == "internal_error" and raised is not None:
        return f"the run failed: {type(raised).__name__}: {raised}"
    return f"the run failed: {error.message} ({error.code})"


def _took(milliseconds: float) -> str:
    """Say how long something took, as exactly as people care."""
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds >= 1 else f"{milliseconds:.0f} ms"


def _read_progress(data: Any) -> tuple[str, float | None]:
    """Read a report of progress: words, and how much of the whole is done.

    Understood are `progress` (0 to 1, or else percent), `stage` and `message`; anything else is
    shown as JSON.
    """
    if not isinstance(data, Mapping):
        return _short(data), None
    known = {key: data.get(key) for key in ("message", "stage")}
    words: Sequence[str] = [str(value) for value in known.values() if value is not None]
    done = data.get("progress")
    fraction: float | None = None
    if isinstance(done, int | float) and not isinstance(done, bool):
        fraction = min(1.0, max(0.0, done if done <= 1 else done / 100))
    if not words and fraction is None:
        return _short(dict(data)), None
    return words[0] if words else "", fraction


_MOST = 100
"""Characters of a report that is no sentence: about one line."""


def _short(data: Any) -> str:
    text = data if isinstance(data, str) else orjson.dumps(data, default=repr).decode()
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
