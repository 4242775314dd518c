"""Agents and graphs inside a run: as a tool, as a node of a graph, or called by one.

A nested run has no life of its own: its events carry the outer run's id and a longer path, it is
stopped with the outer run, and it goes on from the outer run's journal. Its end is not an event but
what `run_below` returns or raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from runtime.errors import RunFault, RuntimeFault
from runtime.events import (
    AgentCompleted,
    AgentStarted,
    Event,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
)
from runtime.history import pending_calls
from runtime.journal import at, below, spoken_below
from runtime.messages import Message, Usage
from runtime.runnable import Runnable, RunOptions
from runtime.scope import Scope
from runtime.transcript import Transcript

__all__ = ["Paused", "run_below"]


class Paused(BaseException):
    """Something below waits for a human, so all above it must pause too. Never leaves a run.

    No `Exception`, so that no tool or node takes it for a failure.

    Attributes:
        approvals: The ids of the approvals that are waited for.
        reason: What for, in words for people.
    """

    def __init__(self, approvals: Sequence[str], reason: str = "approval") -> None:
        super().__init__(reason)
        self.approvals = tuple(approvals)
        self.reason = reason


async def run_below(
    runnable: Runnable,
    history: Sequence[Message],
    scope: Scope,
    *,
    part: str | None = None,
    state: Mapping[str, Any] | None = None,
    options: RunOptions | None = None,
) -> RunCompleted:
    """Run an agent or a graph inside the run of `scope`, and return its end.

    What it did in an earlier attempt, or before an interrupt, is not done again.

    Args:
        runnable: What to run.
        history: The conversation that it begins with.
        scope: From where it is run.
        part: Its place in the path, after the scope's own: by default its name. A tool call gives
            `call_id:name`.
        state: For a graph: the first values of its keys.
        options: Checked against the runnable's `options_type`; by default its own defaults.

    Raises:
        Paused: If it waits for a human.
        Exception: What made it fail; a `RunFault` if that is not known here.
        asyncio.CancelledError: If the task is cancelled.
    """
    path = (*scope.path, part or runnable.name)
    outer = scope.request
    aside = spoken_below(path)
    journal = below(outer.journal, path)
    done = Transcript.of(at(journal, path), history=history, path=path)
    request = replace(
        outer,
        history=tuple(done.messages),
        options=options or runnable.options_type(),
        announce=False,
        turns=done.turns,
        usage=Usage(),
        started=frozenset(done.started) & frozenset(pending_calls(done.messages)),
        timeout=None,
        path=path,
        state=state,
        checkpoint=None,
        journal=journal,
        save=None,
        cancel=None,  # it is part of a step of the outer run, and a step is finished
        steered=None,  # what users say is for the run's own agent
        instructions=None if aside else outer.instructions,
        tools=() if aside else outer.tools,
    )
    end: Event | None = None

    async def report(event: Event) -> None:
        nonlocal end
        if isinstance(event, RunCompleted | RunFailed | RunCancelled | RunInterrupted):
            end = event
        else:
            await scope.outbox.send(event)

    run_id = outer.run_id
    named = runnable.name if runnable.kind == "agent" else None
    if named:
        await report(AgentStarted(run_id=run_id, path=path, agent=named, step=scope.node))
    await runnable.execute(request, report)
    output = end.output if isinstance(end, RunCompleted) else None
    if named and not isinstance(end, RunInterrupted):
        await report(
            AgentCompleted(run_id=run_id, path=path, agent=named, step=scope.node, output=output)
        )
    match end:
        case RunCompleted():
            return end
        case RunInterrupted():
            raise Paused(end.pending, end.reason)
        case RunFailed():
            raise end.exception or RunFault(
                end.error.code, end.error.message, retryable=end.error.retryable
            )
        case RunCancelled(reason="timeout"):
            raise RunFault("timeout", f"{runnable.name!r} was not done in time")
        case _:
            raise RuntimeFault(f"{runnable.name!r} ended without saying how")
