"""Random logs that the product could have written: what every codec has to live with.

`legal_log(random)` tells the story of one session: runs that are completed, failed, cancelled,
interrupted and resumed, taken over, queued; agents with tools and approvals, graphs with nodes side
by side, agents inside graphs and agents called as tools.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.serde import dump
from runtime.boundaries import Boundaries
from runtime.events import (
    AgentCompleted,
    AgentHandoff,
    AgentStarted,
    ApprovalRequested,
    ApprovalResolved,
    CheckpointSaved,
    Custom,
    EdgeTaken,
    ErrorInfo,
    Event,
    GuardrailTripped,
    HistoryRolledBack,
    InputAccepted,
    InputDequeued,
    InputQueued,
    InputReordered,
    InputSteered,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ModelFailed,
    ModelRetrying,
    ModelStarted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RunAttemptReleased,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStarted,
    RunStopRequested,
    SessionClosed,
    SessionCreated,
    SuperstepCompleted,
    SuperstepStarted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.messages import Message, ToolCall, Usage

__all__ = ["Segment", "entries_of", "legal_log", "segments_of"]

SESSION = "ses_story"
PIECES = ("Hel", "lo ", "wörld", "\n", '"', "[DONE]", "\u2028", "🌊", "{}", "data: x\n\n")
RATE = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
BROKEN = ErrorInfo(code="model_error", message='it "broke"\nin two')
STOPPED = ErrorInfo(code="cancelled", message="the run was cancelled")
TAKEN_OVER = ErrorInfo(code="taken_over", message="the server stopped in the middle of this")


class _Pause:
    """Says that a speaker waits for a human."""


PAUSE = _Pause()
Telling = Generator[Event | _Pause]


class _Story:
    """What one run's speakers need."""

    def __init__(self, random: Random, run_id: str, count: Callable[[], int]) -> None:
        self.random = random
        self.run_id = run_id
        self.count = count

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pieces(self, most: int = 4) -> list[str]:
        return self.random.choices(PIECES, k=self.random.randint(1, most))

    def new(self, kind: str) -> str:
        return f"{kind}_{self.count()}"

    # --- agents --------------------------------------------------------------------------------

    def agent(self, path: tuple[str, ...], depth: int = 0) -> Telling:
        """An agent's steps: model, tools, model …"""
        turns = self.random.randint(1, 3)
        for turn in range(1, turns + 1):
            asks = turn < turns
            calls = yield from self._step(path, turn, asks=asks)
            if calls:
                yield from self._weave([self._tool(path, call, depth) for call in calls])
        if self.chance(0.1):
            yield GuardrailTripped(
                run_id=self.run_id, path=path, name="polite", stage="output", info={"why": "x"}
            )

    def _step(
        self, path: tuple[str, ...], turn: int, *, asks: bool
    ) -> Generator[Event | _Pause, None, list[ToolCall]]:
        of = {"run_id": self.run_id, "path": path}
        yield ModelStarted(**of, turn=turn, model="scripted", message_count=turn)
        if self.chance(0.15):
            yield ModelFailed(**of, error=BROKEN, will_retry=True)
            yield ModelRetrying(**of, attempt=2, delay_ms=1.5, error=BROKEN)
        message_id = self.new("msg")
        text: list[str] = []
        if self.chance(0.4):
            yield from self._reasoning(path)
        if not asks or self.chance(0.5):
            yield MessageStarted(
                **of, message_id=message_id, agent=path[-1].rpartition(":")[2], turn=turn
            )
            for piece in self.pieces():
                text.append(piece)
                yield MessageDelta(**of, message_id=message_id, text=piece)
        calls: list[ToolCall] = []
        if asks:
            drafts = [
                self._call(path, message_id, index, calls)
                for index in range(self.random.randint(1, 3))
            ]
            yield from self._weave(drafts)
        if text:
            yield MessageCompleted(**of, message_id=message_id, text="".join(text))
        yield ModelCompleted(
            **of,
            message_id=message_id,
            content="".join(text) or None,
            tool_calls=tuple(calls),
            usage=RATE if self.chance(0.8) else None,
            finish_reason="tool_calls" if calls else self.random.choice(["stop", "length", None]),
            model="scripted",
            turn=turn,
        )
        return calls

    def _reasoning(self, path: tuple[str, ...]) -> Telling:
        of = {"run_id": self.run_id, "path": path, "message_id": self.new("rsn")}
        pieces = self.pieces()
        yield ReasoningStarted(**of)
        for piece in pieces:
            yield ReasoningDelta(**of, text=piece)
        yield ReasoningCompleted(**of, text="".join(pieces))

    def _call(
        self, path: tuple[str, ...], message_id: str, index: int, calls: list[ToolCall]
    ) -> Telling:
        of = {"run_id": self.run_id, "path": path, "call_id": self.new("call")}
        yield ToolCallStarted(**of, name="look_up", message_id=message_id, index=index)
        parts = self.random.choice([[], ['{"q":', '"x"}'], ['{"q":"\\n"}'], ["not", " json"]])
        for part in parts:
            yield ToolCallDelta(**of, arguments=part)
        arguments = "".join(parts)
        yield ToolCallReady(**of, name="look_up", arguments=arguments)
        calls.append(ToolCall(id=of["call_id"], name="look_up", arguments=arguments))

    def _tool(self, path: tuple[str, ...], call: ToolCall, depth: int) -> Telling:
        of = {"run_id": self.run_id, "path": path, "call_id": call.id}
        if self.chance(0.25):
            wants_result = self.chance(0.3)
            yield ApprovalRequested(
                **of,
                approval_id=f"apr_{call.id}",
                tool=call.name,
                arguments=call.arguments,
                reason="client tool" if wants_result else "it costs",
                wants="result" if wants_result else None,
            )
            yield PAUSE
            if wants_result:
                yield ToolCompleted(**of, name=call.name, result={"client": 1}, duration_ms=0)
                return
            if self.chance(0.3):
                denied = ErrorInfo(code="approval_rejected", message="no")
                yield ToolFailedEvent(**of, name=call.name, error=denied)
                return
        if self.chance(0.1):
            unknown = ErrorInfo(code="tool_unknown", message="there is no such tool")
            yield ToolFailedEvent(**of, name=call.name, error=unknown)
            return
        yield ToolStarted(
            **of, name=call.name, arguments=call.arguments, idempotency_key=f"key_{call.id}"
        )
        for place in range(self.random.randint(0, 2)):
            yield ToolProgress(**of, data={"percent": place * 50})
        if depth < 1 and self.chance(0.25):
            inner = (*path, f"{call.id}:helper")
            yield AgentStarted(run_id=self.run_id, path=inner, agent="helper")
            yield from self.agent(inner, depth + 1)
            yield AgentCompleted(run_id=self.run_id, path=inner, agent="helper", output="done")
        if self.chance(0.2):
            yield ToolFailedEvent(**of, name=call.name, error=BROKEN)
        else:
            result = self.random.choice(["text", {"a": [1, None]}, None, 3])
            yield ToolCompleted(**of, name=call.name, result=result, duration_ms=1.25)

    # --- graphs --------------------------------------------------------------------------------

    def graph(self, path: tuple[str, ...]) -> Telling:
        """A graph's supersteps."""
        state: dict[str, object] = {"topic": "x"}
        yield EdgeTaken(run_id=self.run_id, path=path, target="n0")
        for index in range(1, self.random.randint(2, 3)):
            nodes = tuple(f"n{place}" for place in range(self.random.randint(1, 3)))
            of = {"run_id": self.run_id, "path": path, "index": index, "nodes": nodes}
            yield SuperstepStarted(**of)
            yield from self._weave([self._node(path, node, index, state) for node in nodes])
            yield SuperstepCompleted(**of)
            yield CheckpointSaved(
                run_id=self.run_id, path=path, checkpoint_id=self.new("ckp"), superstep=index
            )
            yield EdgeTaken(run_id=self.run_id, path=path, source=nodes[0], target=f"m{index}")

    def _node(
        self, path: tuple[str, ...], node: str, index: int, state: dict[str, object]
    ) -> Telling:
        kind = "flow_step" if index % 2 else "node"
        where = {"run_id": self.run_id, "path": path, "node": node}
        of = where | {"kind": kind}
        yield NodeStarted(**of, superstep=index, agent="writer", state=dict(state))
        if self.chance(0.2):
            yield NodeFailed(**of, error=BROKEN, will_retry=True)
            yield NodeStarted(**of, superstep=index, state=dict(state))
        if self.chance(0.5):
            yield NodeUpdate(**where, updates={"percent": 50})
        if self.chance(0.3):
            yield Custom(run_id=self.run_id, path=(*path, node), name="told\nyou", payload={"n": 1})
        if self.chance(0.2):
            yield ApprovalRequested(
                run_id=self.run_id,
                path=path,
                approval_id=self.new("apr"),
                node=node,
                reason="look at this",
            )
            yield PAUSE
        if self.chance(0.5):
            inner = (*path, node)
            yield AgentStarted(run_id=self.run_id, path=inner, agent="writer", step=node)
            yield from self.agent(inner, depth=1)
            yield AgentCompleted(
                run_id=self.run_id, path=inner, agent="writer", step=node, output="x"
            )
        state[node] = index
        yield NodeCompleted(
            **of,
            updates={node: index},
            result={node: index},
            state=dict(state),
            duration_ms=2,
        )

    def _weave(self, tellings: Iterable[Telling]) -> Telling:
        """Several at the same time: their events mixed. Pauses when all that are left wait."""
        working = list(tellings)
        while working:
            waiting: list[Telling] = []
            while working:
                telling = self.random.choice(working)
                event = next(telling, None)
                if event is None:
                    working.remove(telling)
                elif isinstance(event, _Pause):
                    working.remove(telling)
                    waiting.append(telling)
                else:
                    yield event
            if waiting:
                yield PAUSE
            working = waiting


def legal_log(random: Random) -> list[Event]:
    """Return the events of one session's log."""
    counter = itertools.count(1)

    def count() -> int:
        return next(counter)

    before = (Message(role="user", content="before"), Message(role="assistant", content="yes"))
    history = before if random.random() < 0.2 else None
    events: list[Event] = [SessionCreated(agent="assistant", history=history)]
    for number in range(random.randint(1, 2)):
        story = _Story(random, f"run_{number}", count)
        events += _Run(story, parent=f"run_{number - 1}" if number else None).tell()
    if random.random() < 0.3:
        events.append(SessionClosed(reason="closed"))
    return events


class _Run:
    """One run while it is told, from its input to its end."""

    def __init__(self, story: _Story, parent: str | None) -> None:
        self.story = story
        self.parent = parent
        self.is_graph = story.chance(0.4)
        self.name = "research" if self.is_graph else "assistant"
        self.path = (self.name,)
        self.events: list[Event] = []
        self.open_now = Boundaries()

    def say(self, *events: Event) -> None:
        for event in events:
            self.events.append(event)
            self.open_now.note(event)

    def tell(self) -> list[Event]:
        if not self._begin():
            return self.events
        cut_after = self.story.random.randint(0, 60) if self.story.chance(0.5) else None
        cut_kind = self.story.random.choice(["failed", "cancelled", "taken over"])
        telling = self._speaker()
        while (said := next(telling, None)) is not None:
            if isinstance(said, _Pause):
                if not self._pause():
                    return self.events
                continue
            self.say(said)
            self._asides()
            if cut_after is not None and len(self.events) >= cut_after:
                if cut_kind != "taken over":
                    self.say(*_cut(self.story, self.open_now, self.path, cut_kind))
                    return self.events
                cut_after = None
                self._taken_over()
                telling = self._speaker()
        self._complete()
        return self.events

    def _speaker(self) -> Telling:
        return self.story.graph(self.path) if self.is_graph else self.story.agent(self.path)

    def _begin(self) -> bool:
        """Tell the input; False if the run was cancelled before it began."""
        story, run_id = self.story, self.story.run_id
        message = Message(role="user", content="say it", message_id=f"msg_in_{run_id}")
        of = {"run_id": run_id, "command_id": f"cmd_{run_id}"}
        if story.chance(0.25):
            self.say(InputQueued(**of, message=message, position=1))
            if story.chance(0.2):
                self.say(InputReordered(run_ids=(run_id,), command_id="cmd_order"))
            if story.chance(0.2):
                self.say(
                    InputDequeued(**of, reason="cancelled"),
                    RunCancelled(run_id=run_id, reason="cancel", command_id="cmd_stop"),
                )
                return False
            self.say(InputDequeued(**of, reason="started"))
        if story.chance(0.1):
            self.say(HistoryRolledBack(run_id=run_id, message_ids=("msg_old",)))
        goes_on = self.parent is not None and story.chance(0.2)
        if not goes_on:
            self.say(InputAccepted(**of, message=message, policy="enqueue"))
        self.say(
            RunStarted(
                run_id=run_id,
                path=self.path,
                agent=None if self.is_graph else self.name,
                graph=self.name if self.is_graph else None,
                parent_run_id=self.parent if goes_on else None,
            )
        )
        return True

    def _asides(self) -> None:
        story, of = self.story, {"run_id": self.story.run_id, "path": self.path}
        if story.chance(0.02):
            self.say(Custom(**of, name="progress", payload=[1, "two"]))
        if story.chance(0.01):
            self.say(RunStopRequested(run_id=story.run_id, command_id="cmd_soft"))
        if story.chance(0.01):
            self.say(AgentHandoff(**of, source=self.name, target="expert"))
        if story.chance(0.01):
            steered = Message(role="user", content="and this", message_id=story.new("msg"))
            self.say(InputSteered(**of, message=steered, command_id=story.new("cmd")))

    def _pause(self) -> bool:
        """All that works waits for a human; False if the run is cancelled instead of going on."""
        story, run_id, open_now = self.story, self.story.run_id, self.open_now
        if story.chance(0.25):  # somebody was quicker, and it need not wait
            how = story.random.choice(["approved", "rejected"])
            self.say(*_decided(open_now, how), RunResumed(run_id=run_id, from_seq=1))
            return True
        supersteps = list(open_now.supersteps.values())
        nodes, agents = list(open_now.nodes.values()), list(open_now.agents.values())
        waits = ErrorInfo(code="interrupted", message="it waits for a human")
        # What works at a node that waits is closed for the time being, and begins again.
        self.say(
            *(
                AgentCompleted(run_id=run_id, path=agent.path, agent=agent.agent, step=agent.step)
                for agent in reversed(agents)
            ),
            *(
                NodeFailed(
                    run_id=run_id, path=node.path, node=node.node, kind=node.kind, error=waits
                )
                for node in nodes
            ),
            *(
                SuperstepCompleted(
                    run_id=run_id, path=step.path, index=step.index, nodes=step.nodes
                )
                for step in supersteps
            ),
            RunInterrupted(
                run_id=run_id, path=self.path, reason="approval", pending=tuple(open_now.approvals)
            ),
        )
        if story.chance(0.2):
            cancelled = RunCancelled(run_id=run_id, path=self.path, reason="cancel")
            self.say(*open_now.closing(STOPPED), cancelled)
            return False
        how = story.random.choice(["approved", "edited", "rejected"])
        self.say(
            *_decided(open_now, how),
            RunResumed(run_id=run_id, from_seq=1),
            *supersteps,
            *nodes,
            *agents,
        )
        return True

    def _taken_over(self) -> None:
        run_id, open_now = self.story.run_id, self.open_now
        self.say(
            *open_now.superseding(TAKEN_OVER),
            *([RunAttemptReleased(run_id=run_id, attempt=1)] if self.story.chance(0.3) else []),
            RunAttemptStarted(
                run_id=run_id,
                path=self.path,
                attempt=2,
                supersedes=1,
                from_step=0,
                reason="restart",
            ),
        )
        unknown = [
            ToolUnknownOutcome(run_id=run_id, path=tool.path, call_id=tool.call_id, name=tool.name)
            for tool in open_now.tools.values()
        ]
        self.say(*unknown, *_decided(open_now, "expired"))

    def _complete(self) -> None:
        story = self.story
        self.say(
            RunCompleted(
                run_id=story.run_id,
                path=self.path,
                output="the output",
                final_output={"a": 1} if story.chance(0.2) else None,
                state={"done": True} if self.is_graph else None,
                usage=RATE,
                finish_reason=story.random.choice(["stop", "length", None]),
                last_agent=None if self.is_graph else self.name,
                last_node="n0" if self.is_graph else None,
                message_count=2,
                num_turns=1,
            )
        )


def _cut(story: _Story, open_now: Boundaries, path: tuple[str, ...], kind: str) -> list[Event]:
    if kind == "failed":
        end: Event = RunFailed(run_id=story.run_id, path=path, error=BROKEN)
        return [*open_now.closing(BROKEN), end]
    partial = "".join(said.text for said in open_now.messages.values()) or None
    reason = story.random.choice(["cancel", "timeout", "disconnect", "shutdown"])
    cancelled = RunCancelled(run_id=story.run_id, path=path, reason=reason, partial_output=partial)
    return [*open_now.closing(STOPPED), cancelled]


def _decided(open_now: Boundaries, how: str) -> list[Event]:
    events: list[Event] = []
    for approval in open_now.approvals.values():
        answered = approval.wants == "result" and how != "expired"
        events.append(
            ApprovalResolved(
                run_id=approval.run_id,
                approval_id=approval.approval_id,
                decision="answered" if answered else how,
                by=None if how == "expired" else "cmd_decide",
                result={"client": 1} if answered else None,
            )
        )
    return events


def entries_of(events: Sequence[Event], session_id: str = SESSION) -> list[Entry]:
    """Put events into a log."""
    return [
        Entry(
            session_id,
            Position("epoch", seq, "0a0b0c0d"),
            1_700_000_000_000 + seq * 10,
            dump(event),
        )
        for seq, event in enumerate(events, start=1)
    ]


@dataclass(frozen=True)
class Segment:
    """What a client gets that follows a run, from an input or a resumption to the next end."""

    run_id: str
    entries: tuple[Entry, ...]


_ENDS = (RunCompleted, RunFailed, RunCancelled, RunInterrupted)


def segments_of(events: Sequence[Event], *, whole: bool = False) -> list[Segment]:
    """Cut a log into the streams of its runs: one for each segment, or one for each whole run."""
    entries = entries_of(events)
    runs: dict[str, list[list[Entry]]] = {}
    for entry, event in zip(entries, events, strict=True):
        run_id = getattr(event, "run_id", None)
        if run_id is None:
            continue
        parts = runs.setdefault(run_id, [[]])
        parts[-1].append(entry)
        if isinstance(event, RunInterrupted):
            parts.append([])
    found: list[Segment] = []
    for run_id, parts in runs.items():
        told = [part for part in parts if part]
        if whole:
            told = [[entry for part in told for entry in part]]
        found += [Segment(run_id, tuple(part)) for part in told]
    return found
