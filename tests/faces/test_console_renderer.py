"""The renderer, event by event, on a terminal that is made of strings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest

from runtime.cli.renderer import Renderer
from runtime.cli.talk import Notice, Restated
from runtime.cli.terminal import Terminal, printable
from runtime.events import (
    ErrorInfo,
    Event,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelRetrying,
    NodeUpdate,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.messages import Usage

RUN: dict[str, Any] = {"run_id": "r", "path": ("agent",)}
BELOW: dict[str, Any] = {"run_id": "r", "path": ("agent", "c1:helper")}
ERROR = ErrorInfo(code="model_unavailable", message="it is away")


def rendered(*events: Event | Notice | Restated, **options: Any) -> tuple[str, list[str]]:
    """Return what is on stdout, and the lines on stderr."""
    out, err = io.StringIO(), io.StringIO()
    renderer = Renderer(Terminal(out=out, err=err, **options))
    for event in events:
        renderer.show(event)
    return out.getvalue(), err.getvalue().splitlines()


def completed(tokens: int = 7) -> RunCompleted:
    usage = Usage(prompt_tokens=0, completion_tokens=tokens, total_tokens=tokens)
    return RunCompleted(**RUN, output="", usage=usage, message_count=1, num_turns=1)


def delta(text: str, message_id: str = "m", **where: Any) -> MessageDelta:
    return MessageDelta(**{**RUN, **where}, message_id=message_id, text=text)


@pytest.mark.rows("S21")
def test_tools_are_named_by_the_call_that_began_them() -> None:
    out, err = rendered(
        ToolCallStarted(**RUN, call_id="c1", name="search"),
        ToolCallStarted(**RUN, call_id="c2", name="fetch"),
        ToolStarted(**RUN, call_id="c1", name="search", arguments="{}", idempotency_key="k"),
        ToolCompleted(**RUN, call_id="c2", name="", duration_ms=1),
        ToolCompleted(**RUN, call_id="c1", name="", duration_ms=1),
        delta("done"),
        completed(),
    )
    assert out == "done"
    assert err == ["... search", "... fetch", "✓ fetch complete", "✓ search complete", "[7 tokens]"]


@pytest.mark.rows("S21")
def test_a_call_that_was_not_seen_is_called_tool() -> None:
    _, err = rendered(
        ToolProgress(**RUN, call_id="c9", data={"progress": 0.25}),
        ToolCompleted(**RUN, call_id="c9", name="search", duration_ms=1),
        ToolCompleted(**RUN, call_id="c9", name="search", duration_ms=1),
    )
    assert err == ["    tool: 25%", "✓ tool complete", "✓ tool complete"]


def test_calls_of_the_same_id_in_different_places_are_different() -> None:
    _, err = rendered(
        ToolCallStarted(**RUN, call_id="c1", name="helper"),
        ToolCallStarted(**BELOW, call_id="c1", name="search"),
        ToolCompleted(**BELOW, call_id="c1", name="", duration_ms=1),
        ToolCompleted(**RUN, call_id="c1", name="", duration_ms=1),
    )
    assert err[2:] == ["✓ search complete", "✓ helper complete"]


@pytest.mark.rows("S20")
def test_what_an_agent_below_says_is_no_content() -> None:
    out, _ = rendered(
        delta("secret", path=BELOW["path"]),
        MessageCompleted(**BELOW, message_id="m", text="secret"),
        delta("told"),
        completed(),
    )
    assert out == "told"


def test_a_failed_tool_and_one_that_is_tried_again_are_told() -> None:
    _, err = rendered(
        ToolCallStarted(**RUN, call_id="c1", name="search"),
        ToolFailedEvent(**RUN, call_id="c1", name="search", error=ERROR, will_retry=True),
        ToolFailedEvent(**RUN, call_id="c1", name="search", error=ERROR),
        ToolCallStarted(**RUN, call_id="c2", name="pay"),
        ToolUnknownOutcome(**RUN, call_id="c2", name="pay"),
        ModelRetrying(run_id="r", attempt=2, delay_ms=1500, error=ERROR),
    )
    assert err == [
        "... search",
        "... search: it is away; trying again",
        "✗ search: it is away",
        "... pay",
        "? pay: nobody knows whether it was done",
        "... it is away; trying again in 1.5 s",
    ]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"progress": 0.5, "message": "half"}, "    plan: 50% half"),
        ({"progress": 70, "stage": "late"}, "    plan: 70% late"),
        ({"progress": 3000}, "    plan: 100%"),
        ({"progress": True, "message": "m"}, "    plan: m"),
        ({"found": 3}, '    plan: {"found":3}'),
    ],
)
def test_progress_is_read_from_what_nodes_report(data: dict[str, Any], line: str) -> None:
    _, err = rendered(NodeUpdate(**RUN, node="plan", updates=data))
    assert err == [line]


def test_on_a_pipe_progress_is_told_when_it_is_news_only() -> None:
    updates = [{"progress": done / 1000, "message": "on"} for done in range(1000)]
    _, err = rendered(*(NodeUpdate(**RUN, node="plan", updates=update) for update in updates))
    assert len(err) == 10


def test_a_failure_is_one_line_and_an_unexpected_one_has_its_text_where_it_was_raised() -> None:
    internal = ErrorInfo(code="internal_error", message="the agent failed unexpectedly: KeyError")
    told = RunFailed(**RUN, error=internal)
    assert rendered(told, quiet=True)[1] == [
        "tidegate: the run failed: the agent failed unexpectedly: KeyError (internal_error)"
    ]
    raised = told.caused_by(ValueError("line one\nline two"))
    assert rendered(raised)[1] == ["tidegate: the run failed: ValueError: line one line two"]


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("cancel", "[stopped]"),
        ("timeout", "tidegate: the run was stopped: the time was up"),
        ("superseded", "tidegate: the run was stopped: another run took its place"),
    ],
)
def test_it_is_told_why_a_run_was_stopped(reason: Any, line: str) -> None:
    assert rendered(RunCancelled(**RUN, reason=reason))[1] == [line]


def test_a_take_over_and_a_reset_are_noted_and_repeat_nothing() -> None:
    out, err = rendered(
        delta("one two", "a"),
        MessageCompleted(**RUN, message_id="a", text="one two", superseded=True, incomplete=True),
        RunAttemptStarted(run_id="r", attempt=2, supersedes=1, from_step=0, reason="restart"),
        delta("one ", "b"),
        Restated("epoch_changed", (), {"c1": "search"}),
        delta("one two three", "b"),
        ToolCompleted(**RUN, call_id="c1", name="search", duration_ms=1),
        completed(),
    )
    assert out == "one two three"
    assert err == [
        "taken over, attempt 2 (restart)",
        "the stream was reset (epoch_changed); going on",
        "✓ search complete",
        "[7 tokens]",
    ]


def test_a_step_that_a_take_over_does_anew_is_written_once_although_its_message_was_whole() -> None:
    out, _ = rendered(
        MessageStarted(**RUN, message_id="a", turn=1),
        delta("kept ", "a"),
        MessageCompleted(**RUN, message_id="a", text="kept "),
        MessageStarted(**RUN, message_id="b", turn=2),
        delta("again", "b"),
        MessageCompleted(**RUN, message_id="b", text="again"),
        RunAttemptStarted(run_id="r", attempt=2, supersedes=1, from_step=1, reason="restart"),
        MessageStarted(**RUN, message_id="c", turn=2),
        delta("again", "c"),
        MessageCompleted(**RUN, message_id="c", text="again"),
        completed(),
    )
    assert out == "kept again"


class Screen(io.StringIO):
    """A string that somebody looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [(["no end"], "no end\n"), (["an end\n"], "an end\n"), ([], "")],
)
def test_on_a_terminal_an_answer_ends_its_line_once(pieces: Sequence[str], shown: str) -> None:
    out = Screen()
    renderer = Renderer(Terminal(out=out, err=io.StringIO()))
    for piece in pieces:
        renderer.show(delta(piece))
    renderer.show(completed())
    assert out.getvalue() == shown


def test_a_note_in_the_middle_of_a_line_begins_a_new_one_and_leaves_the_content_alone() -> None:
    out, err = Screen(), Screen()
    terminal = Terminal(out=out, err=err, color=False)
    terminal.content("half a line")
    terminal.note("... search")
    assert out.getvalue() == "half a line"
    assert err.getvalue() == "\n... search\n"


@pytest.mark.rows("S21")
def test_the_spinner_is_taken_away_before_content_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    both = Screen()
    terminal = Terminal(out=both, err=both)
    terminal.busy("c1", "search")
    terminal.content("said")
    shown, _, after = both.getvalue().partition("said")
    assert shown.endswith("\x1b[?25h\r\x1b[1A\x1b[2K") or shown.rstrip("\n").endswith("\x1b[2K")
    terminal.busy("c2", "fetch")
    assert "fetch" in both.getvalue().removeprefix(shown)
    assert after == ""
    terminal.rest()


def test_only_what_steers_a_terminal_is_taken_out() -> None:
    assert printable("a\x1b[31m\x07\x9b\tb\nü✓") == "a[31m\tb\nü✓"


def test_a_broken_pipe_is_noted_and_nothing_more_is_written() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    terminal = Terminal(out=Broken(), err=io.StringIO())
    terminal.content("x")
    assert terminal.gone
    terminal.content("y")


def test_an_encoding_that_lacks_a_character_is_no_failure() -> None:
    raw = io.BytesIO()
    terminal = Terminal(out=io.TextIOWrapper(raw, "ascii"), err=io.StringIO())
    terminal.content("naïve")
    assert raw.getvalue() == b"na?ve"
