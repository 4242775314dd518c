"""How a run ended, for the program that asked for it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from runtime.agent import Agent
from runtime.events import ApprovalRequested, RunCompleted, RunInterrupted
from runtime.messages import Message, Usage
from runtime.run_stream import RunEnd
from runtime.runnable import Runnable
from runtime.transcript import Transcript

__all__ = ["Named", "RunResult", "outcome"]


class Named(Protocol):
    """An agent or a graph, or as much of it as is known here."""

    @property
    def name(self) -> str:
        """Its name."""


@dataclass(frozen=True, slots=True)
class _Name:
    name: str


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        output: The text of the last answer; also of one that was not the end.
        final_output: The answer as an object, for an agent with an `output_type` and for graphs;
            else None.
        messages: The whole conversation: instructions (where they are a text), history, input, and
            all that followed. What an agent below said to its caller is no part of it.
        usage: The sum over all model calls, at any depth.
        last_agent: Who gave the last answer; with handoffs not always the agent that was asked.
        finish_reason: Of the last model call.
        run_id: The run.
        num_turns: How many model calls it took.
        cost_usd: What they cost, where prices are known.
        interrupted: What a human is asked before the run goes on, in order; see `resume`.
        stopped: Whether it ended after a step because its token asked for that.
    """

    output: str
    final_output: Any
    messages: tuple[Message, ...]
    usage: Usage
    last_agent: Named
    finish_reason: str | None
    run_id: str
    num_turns: int
    cost_usd: float | None = None
    interrupted: tuple[ApprovalRequested, ...] = ()
    stopped: bool = False
    _resume: Callable[..., Any] | None = field(default=None, repr=False, compare=False)


def outcome(
    runnable: Runnable,
    said: Transcript,
    end: RunEnd | None,
    *,
    run_id: str,
    resume: Callable[..., Any] | None = None,
) -> RunResult:
    """Return the result of a run that ended so.

    Args:
        runnable: What ran.
        said: What was said in it.
        end: Its last event.
        run_id: The run.
        resume: Goes on with it.
    """
    answer = next((m.content for m in reversed(said.messages) if m.role == "assistant"), "")
    instructions = runnable.instructions if isinstance(runnable, Agent) else None
    system = isinstance(instructions, str) and bool(instructions)
    done = end if isinstance(end, RunCompleted) else None
    pending = end.pending if isinstance(end, RunInterrupted) else ()
    parsed = None if done is None else done.parsed
    final = done.final_output if done is not None and parsed is None else parsed
    return RunResult(
        output=answer if done is None else done.output,
        final_output=final,
        messages=(
            *([Message(role="system", content=str(instructions))] if system else ()),
            *said.messages,
        ),
        usage=said.usage,
        last_agent=_speaker(runnable, (done.last_agent if done else None) or said.last_agent),
        finish_reason=said.finish_reason,
        run_id=run_id,
        num_turns=said.turns if done is None else done.num_turns,
        cost_usd=None if done is None else done.cost_usd,
        interrupted=tuple(said.approvals[name] for name in pending if name in said.approvals),
        stopped=end is not None and done is None and not isinstance(end, RunInterrupted),
        _resume=resume,
    )


def _speaker(runnable: Runnable, name: str | None) -> Named:
    """Return the agent of that name that the conversation of `runnable` can be handed to."""
    if name is None or name == runnable.name:
        return runnable
    found = [runnable] if isinstance(runnable, Agent) else []
    for agent in found:  # which grows meanwhile
        if agent.name == name:
            return agent
        targets = [handoff.target for handoff in agent.handoffs_by_tool.values()]
        found += [target for target in targets if target not in found]
    return _Name(name)
