"""One run from beginning to end at a terminal, with the questions that it asks in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from runtime.cli.talk import Heard, Talk
from runtime.cli.terminal import Terminal
from runtime.cli.watch import Shows, Watched, follow
from runtime.events import ApprovalRequested, RunCancelled, RunCompleted, RunInterrupted
from runtime.runnable import Decision

__all__ = ["COMPLETED", "FAILED", "INTERRUPTED", "REFUSED", "WAITING", "Decide", "perform"]

COMPLETED = 0
FAILED = 1
REFUSED = 2
WAITING = 3
INTERRUPTED = 130
"""Exit codes: done; the run failed, or was ended by others; it could not begin; it waits for a human
and there is nobody to ask; Ctrl-C, as a shell counts it."""

Decide = Callable[[Sequence[ApprovalRequested]], Mapping[str, Decision]]
"""Asks somebody about approvals and returns what was decided, by approval id."""


def perform(
    runner: asyncio.Runner,
    talk: Talk,
    heard: AsyncGenerator[Heard, None],
    shows: Shows,
    terminal: Terminal,
    *,
    decide: Decide | None,
) -> int:
    """Show a run to its end, asking for decisions on the way, and return the exit code.

    Args:
        runner: Where it runs. It does not run while somebody is asked.
        talk: The conversation.
        heard: What is heard of the run.
        shows: Shows it.
        terminal: Where.
        decide: Asks for decisions; without it, the run is left waiting.

    Raises:
        Left: At a second Ctrl-C, or at SIGTERM.
        Exception: What made following fail.
    """
    while True:
        shows.end = None
        watched = runner.run(follow(heard, shows, terminal, talk.stop))
        if not isinstance(watched.end, RunInterrupted) or decide is None or watched.interrupted:
            return _exit_code(watched, gone=terminal.gone)
        heard = talk.decide(decide(talk.approvals))


def _exit_code(watched: Watched, *, gone: bool) -> int:
    match watched.end:
        case RunCompleted():
            return COMPLETED
        case RunCancelled() if watched.interrupted:
            return INTERRUPTED
        case RunCancelled() if gone:
            return COMPLETED  # whoever read has read enough
        case RunInterrupted():
            return WAITING
        case _:
            return FAILED
