"""Decisions and the fold against a model: whatever comes, in whatever order. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.commands import Cancel, Continue, EditQueue, Send
from gateway.errors import CommandRefused, NotQueued, RunUnknown
from gateway.sessions import decide
from gateway.sessions.decide import Decided, NewIds
from gateway.sessions.fold import apply
from gateway.sessions.state import SessionState
from runtime.events import (
    RUN_ENDS,
    ErrorInfo,
    Event,
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
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStarted,
)
from runtime.messages import Usage

POLICIES = ("enqueue", "reject", "interrupt", "rollback", "steer")
PLACES = st.integers(0, 4)
TOLD = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)


def kind_of(name: str) -> Any:
    return "agent"


def fresh() -> SessionState:
    return SessionState(session_id="s", agent="a", metadata={}, created_at=0, epoch="e", tag="t")


class Policies(RuleBasedStateMachine):
    """A session: its state, its log, and a model of who waits and who is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.state = fresh()
        self.log: list[Event] = []
        self.numbers = itertools.count(1)
        self.queue: list[str] = []  # the model
        self.texts: dict[str, str] = {}
        self.turn: list[str] = []  # texts of the turn at work
        self.said_to: dict[str, str | None] = {}  # which run was meant, by the one that waits

    def new(self, prefix: str) -> str:
        return f"{prefix}{next(self.numbers)}"

    def happen(self, *events: Event) -> None:
        for event in events:
            apply(self.state, event)
            self.state.seq += 1
            self.log.append(event)

    def do(self, decided: Decided) -> Decided:
        running = self.state.current
        self.happen(*decided.events)
        if decided.begins is not None:
            assert self.state.current == decided.begins
        if decided.ends is not None:
            assert decided.ends == running
        return decided

    # --- what clients ask --------------------------------------------------------------------

    @rule(policy=st.sampled_from(POLICIES), back=st.none() | PLACES)
    def send(self, policy: Any, back: int | None) -> None:
        self._say(policy, back)

    def _say(self, policy: Any, back: int | None) -> None:
        state, text = self.state, self.new("text ")
        rewind_to = None
        if back is not None and state.messages and policy != "steer":
            rewind_to = state.messages[back % len(state.messages)].message_id
        command = Send(
            type="send",
            id=self.new("c"),
            session_id="s",
            text=text,
            policy=policy,
            rewind_to=rewind_to,
        )
        ids = NewIds(self.new("run_"), self.new("msg_"))
        before, current = list(self.queue), state.current
        waits_for_human = state.status == "interrupted"
        said = [message.message_id for message in state.messages]
        try:
            decided = self.do(decide.send(state, command, ids, kind_of))
        except CommandRefused:
            assert policy == "reject"
            assert current is not None
            return
        assert decided.run_id == ids.run_id
        self.texts[ids.run_id] = text
        self.said_to[ids.run_id] = current if policy == "steer" else None
        if current is None or policy in {"interrupt", "rollback"}:
            assert decided.begins == ids.run_id
            assert self.queue == before
        elif rewind_to is not None and waits_for_human:
            self.queue = [*before, ids.run_id]
            assert decided.begins == self.queue.pop(0)
        else:
            assert decided.begins is None
            self.queue = [*before, ids.run_id]
        if policy == "rollback" and current is not None:
            turn = {m.message_id for m in state.messages if m.text in self.turn}
            assert not turn
            assert current not in {message.run_id for message in state.messages}
        elif policy == "interrupt" and rewind_to is None:
            assert [message.message_id for message in state.messages][: len(said)] == said
        self._turn_begins(decided)

    @rule(policies=st.lists(st.sampled_from(["enqueue", "steer"]), min_size=2, max_size=4))
    def crowd(self, policies: list[Any]) -> None:
        for policy in policies:
            self._say(policy, None)

    def _turn_begins(self, decided: Decided) -> None:
        if decided.begins is not None and decided.begins in self.texts:
            self.turn = [self.texts[decided.begins]]

    @rule(place=PLACES, mode=st.sampled_from(["now", "after_step"]), active=st.booleans())
    def cancel(self, place: int, mode: Any, active: bool) -> None:
        named = None if active or not self.queue else self.queue[place % len(self.queue)]
        command = Cancel(type="cancel", id=self.new("c"), session_id="s", run_id=named, mode=mode)
        decided = self.do(decide.cancel(self.state, command, kind_of))
        if named is not None:
            self.queue.remove(named)
        self._next(decided)

    def _next(self, decided: Decided) -> None:
        if decided.ends is not None:
            assert decided.begins == (self.queue.pop(0) if self.queue else None)
            self._turn_begins(decided)

    @rule(drop=st.sets(PLACES, max_size=2), order=st.permutations(range(5)), size=PLACES)
    def edit(self, drop: set[int], order: list[int], size: int) -> None:
        dropped = [run_id for n, run_id in enumerate(self.queue) if n in drop]
        left = [run_id for run_id in self.queue if run_id not in dropped]
        first = [left[n] for n in order[:size] if n < len(left)]
        command = EditQueue(
            type="edit_queue",
            id=self.new("c"),
            session_id="s",
            drop=tuple(dropped),
            order=tuple(first),
        )
        decided = self.do(decide.edit_queue(self.state, command))
        self.queue = [*first, *(run_id for run_id in left if run_id not in first)]
        reordered = [e for e in decided.events if isinstance(e, InputReordered)]
        assert [list(event.run_ids) for event in reordered] == (
            [self.queue] if self.queue != left else []
        )

    @rule(place=PLACES, nobody=st.booleans())
    def edit_too_late(self, place: int, nobody: bool) -> None:
        gone = sorted(self.texts.keys() - set(self.queue))
        run_id = "run_of_nobody" if nobody or not gone else gone[place % len(gone)]
        command = EditQueue(
            type="edit_queue", id=self.new("c"), session_id="s", drop=(*self.queue, run_id)
        )
        queued = {event.run_id for event in self.log if isinstance(event, InputQueued)}
        with pytest.raises(NotQueued if run_id in queued else (NotQueued, RunUnknown)):
            decide.edit_queue(self.state, command)

    @precondition(lambda self: self.state.status == "idle")
    @rule()
    def go_on(self) -> None:
        last = self.state.runs.get(self.state.last or "")
        command = Continue(type="continue", id=self.new("c"), session_id="s")
        ids = NewIds(self.new("run_"), "")
        try:
            self.do(decide.continue_run(self.state, command, ids))
        except CommandRefused:
            assert last is None or last.status == "completed"

    # --- what the run does -------------------------------------------------------------------

    def of(self) -> dict[str, Any]:
        run = self.state.current_run
        assert run is not None
        return {"run_id": run.run_id, "path": (run.agent,)}

    def works(self) -> bool:
        return self.state.status == "running"

    @precondition(works)
    @rule(whole=st.booleans())
    def speak(self, whole: bool) -> None:
        run = self.state.current_run
        assert run is not None
        if self.state.open.messages:
            (message_id,) = self.state.open.messages
        else:
            message_id = self.new("said_")
            turn = run.turns + 1
            self.happen(MessageStarted(**self.of(), message_id=message_id, turn=turn, agent="a"))
        self.happen(MessageDelta(**self.of(), message_id=message_id, text="word "))
        if whole:
            text = self.state.open.messages[message_id].text
            self.happen(
                MessageCompleted(**self.of(), message_id=message_id, text=text),
                ModelCompleted(
                    **self.of(), message_id=message_id, content=text, usage=TOLD, turn=run.turns + 1
                ),
            )

    @precondition(lambda self: self.works() and not self.state.open.messages)
    @rule()
    def hear(self) -> None:
        """The agent is between two steps, and takes what was said to it."""
        run = self.state.current_run
        assert run is not None
        mine = [run_id for run_id in self.queue if self.said_to[run_id] == run.run_id]
        decided = self.do(decide.steer(self.state))
        heard = [event for event in decided.events if isinstance(event, InputSteered)]
        if run.stopping is not None:
            assert heard == []
            return
        texts = [self.texts[run_id] for run_id in mine]
        assert [event.message.content for event in heard] == texts
        assert [m.text for m in self.state.messages][
            len(self.state.messages) - len(mine) :
        ] == texts
        for run_id in mine:
            self.queue.remove(run_id)
        self.turn += texts

    @precondition(works)
    @rule()
    def pause(self) -> None:
        self.happen(*self.state.open.closing(ErrorInfo(code="x", message="x")))
        interrupted = RunInterrupted(**self.of(), reason="approval")
        self.do(decide.pause(self.state, interrupted))

    @precondition(lambda self: self.state.status == "interrupted")
    @rule()
    def resume(self) -> None:
        self.happen(RunResumed(**self.of(), from_seq=self.state.seq))

    @precondition(works)
    @rule(well=st.booleans())
    def end(self, well: bool) -> None:
        of = self.of()
        failure = ErrorInfo(code="failed", message="no")
        last: Event = (
            RunCompleted(**of, output="", usage=Usage(), message_count=1, num_turns=1)
            if well
            else RunFailed(**of, error=failure)
        )
        events = (*self.state.open.closing(failure), last)
        self._next(self.do(decide.end(self.state, events, of["run_id"], kind_of)))

    @rule()
    def restart(self) -> None:
        """Another process folds the log, and takes the run over."""
        loaded = fresh()
        for event in self.log:
            apply(loaded, event)
            loaded.seq += 1
        assert loaded.model_dump() == self.state.model_dump()
        assert loaded.snapshot() == self.state.snapshot()
        self.state = loaded
        run = loaded.current_run
        if run is not None and run.status == "running":
            decided = self.do(decide.take_over(loaded, run, kind_of, "restart"))
            if decided.ends is not None:
                self._next(decided)

    # --- what always holds -------------------------------------------------------------------

    @invariant()
    def the_queue_is_the_models(self) -> None:
        assert [item.run_id for item in self.state.queue] == self.queue
        assert [item.position for item in self.state.queue] == list(range(1, len(self.queue) + 1))
        assert self.state.queued_runs.keys() == set(self.queue)
        assert self.state.current is not None or not self.queue

    @invariant()
    def each_run_ends_once_and_one_is_active(self) -> None:
        begun, ends = [], Counter[str]()
        active: str | None = None
        for event in self.log:
            if isinstance(event, RunStarted):
                assert active is None
                active = event.run_id
                begun.append(event.run_id)
            elif isinstance(event, RUN_ENDS):
                ends[event.run_id] += 1
                active = None if event.run_id == active else active
        assert active == self.state.current
        assert len(begun) == len(set(begun))
        assert set(ends.values()) <= {1}
        steered = {
            event.run_id
            for event in self.log
            if isinstance(event, InputDequeued) and event.reason == "steered"
        }
        over = self.texts.keys() - set(self.queue) - {self.state.current} - steered
        assert over <= ends.keys()
        assert not steered & ends.keys()

    @invariant()
    def each_input_is_heard_once(self) -> None:
        heard = [e.command_id for e in self.log if isinstance(e, InputAccepted | InputSteered)]
        assert len(heard) == len(set(heard))

    @invariant()
    def what_was_rolled_back_is_gone_and_stays_paid(self) -> None:
        gone = {
            message_id
            for event in self.log
            if isinstance(event, HistoryRolledBack)
            for message_id in event.message_ids
        }
        assert not gone & {message.message_id for message in self.state.messages}
        calls = sum(isinstance(event, ModelCompleted) for event in self.log)
        assert (self.state.usage or Usage()).total_tokens == 2 * calls


TestPolicies = Policies.TestCase
TestPolicies.settings = settings(max_examples=120, stateful_step_count=30)


@pytest.mark.rule("send.steer", "cancel.after_step")
def test_a_run_that_was_told_to_stop_just_before_it_asks_takes_nothing() -> None:
    state = fresh()
    asked = [
        Send(type="send", id=f"c{n}", session_id="s", text="hi", policy=policy)
        for n, policy in enumerate(("enqueue", "steer"))
    ]
    stop = Cancel(type="cancel", id="stop", session_id="s", mode="after_step")
    for number, command in enumerate(asked):
        ids = NewIds(f"run_{number}", f"msg_{number}")
        for event in decide.send(state, command, ids, kind_of).events:
            apply(state, event)
    assert len(decide.steer(state).events) == 2
    for event in decide.cancel(state, stop, kind_of).events:
        apply(state, event)
    assert decide.steer(state).events == ()
