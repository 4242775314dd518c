"""Every engine against a plain model, step by step, in sequences that nobody thought of."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway.errors import (
    CommandConflict,
    CursorInvalid,
    Fenced,
    GatewayError,
    SessionConflict,
    SessionGone,
    SessionUnknown,
)
from gateway.log.engine import Answer, Fence, NewSession, SessionStatus, Write
from gateway.log.position import NO_TAG, Position
from tests.contract.conftest import ENGINES
from tests.support.logs import SetClock, kept

EXAMPLES = {"postgres": 12}
"""Of an engine that is asked over a connection: a step takes twenty questions."""

SESSIONS = st.sampled_from(["a", "b"])
BODIES = st.lists(st.binary(max_size=4), max_size=4)
FENCES = st.sampled_from([Fence("run_1", 1, "n1"), Fence("run_1", 2, "n2")])
ANSWERS = st.builds(
    Answer,
    st.sampled_from(["c1", "c2", "c3"]),
    st.sampled_from(["b1", "b1", "b2"]),
    st.sampled_from([None, "run_1"]),
)


@dataclass
class Model:
    """A session as one would write it on paper."""

    digest: str
    epoch: str = ""
    bodies: list[bytes] = field(default_factory=list)
    tags: list[str] = field(default_factory=lambda: [NO_TAG])
    times: list[int] = field(default_factory=list)
    trimmed: int = 0
    claim: Fence | None = None
    until: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    status: SessionStatus = "idle"
    title: str | None = None

    def position(self, seq: int) -> Position:
        return Position(self.epoch, seq, self.tags[seq])

    @property
    def tail(self) -> Position:
        return self.position(len(self.bodies))

    def is_left_alone(self, now: int) -> bool:
        return self.until <= now if self.claim else self.status == "running"

    def refusal(self, write: Write) -> type[GatewayError] | None:
        if write.create is not None:
            return SessionConflict if write.create.digest != self.digest else None
        if write.answer is not None and write.answer.command_id in self.answers:
            first = self.answers[write.answer.command_id]
            return CommandConflict if first.digest != write.answer.digest else None
        if write.fence is not None and write.fence != self.claim:
            return Fenced
        if write.claim is not None and write.fence is None and self.claim is not None:
            return Fenced
        return None

    def repeats(self, write: Write) -> bool:
        return write.create is not None or (
            write.answer is not None and write.answer.command_id in self.answers
        )


class EngineMachine(RuleBasedStateMachine):
    """Does each step to the engine and to the model, and compares what is to be seen."""

    engine_name: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = SetClock()
        self.models: dict[str, Model] = {}
        self.gone: set[str] = set()
        self.directory = tempfile.TemporaryDirectory()
        self.stack = AsyncExitStack()
        opened = ENGINES[self.engine_name](Path(self.directory.name), self.clock)
        self.engine = self.run(self.stack.enter_async_context(opened))

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()
        self.directory.cleanup()

    def missing(self, session_id: str) -> type[GatewayError] | None:
        if session_id in self.gone:
            return SessionGone
        return None if session_id in self.models else SessionUnknown

    def refused(self, error: type[GatewayError], work: Any) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            self.run(work)
        assert type(caught.value) is error
        return caught.value

    @rule(seconds=st.integers(-10, 10))
    def tick(self, seconds: int) -> None:
        self.clock.now += seconds * 1000

    @rule(session_id=SESSIONS, digest=st.sampled_from(["d1", "d1", "d2"]), bodies=BODIES)
    def create(self, session_id: str, digest: str, bodies: list[bytes]) -> None:
        new = NewSession("echo", {"n": len(bodies)}, digest)
        self.write(Write(session_id, bodies, create=new))

    @rule(
        session_id=SESSIONS,
        bodies=BODIES,
        fence=st.none() | FENCES,
        claim=st.none() | FENCES,
        release=st.booleans(),
        answer=st.none() | ANSWERS,
        status=st.sampled_from([None, "running", "closed"]),
        title=st.none() | st.text("ab", max_size=2),
    )
    def append(self, session_id: str, bodies: list[bytes], **parts: Any) -> None:
        self.write(Write(session_id, bodies, **parts))

    def write(self, write: Write) -> None:
        model = self.models.get(write.session_id)
        if model is None:
            if write.create is None or write.session_id in self.gone:
                error = SessionGone if write.session_id in self.gone else SessionUnknown
                self.refused(error, self.engine.append(write))
                return
            model = Model(write.create.digest)
            self.do(write, model)
            self.models[write.session_id] = model
        elif refusal := model.refusal(write):
            self.refused(refusal, self.engine.append(write))
        elif model.repeats(write):
            appended = self.run(self.engine.append(write))
            assert (appended.repeated, appended.entries) == (True, ())
            assert appended.tail == model.tail
            if write.answer is not None:
                assert appended.answer == model.answers[write.answer.command_id]
        else:
            self.do(write, model)

    def do(self, write: Write, model: Model) -> None:
        """Do a write that must succeed, and learn the epoch and tag that only the engine knows."""
        before = len(model.bodies)
        appended = self.run(self.engine.append(write))
        model.epoch = model.epoch or appended.tail.epoch
        for seq, (entry, body) in enumerate(
            zip(appended.entries, write.bodies, strict=True), before + 1
        ):
            assert (entry.seq, entry.body, entry.session_id) == (seq, body, write.session_id)
            assert entry.position.tag == appended.tail.tag
            model.bodies.append(body)
            model.tags.append(entry.position.tag)
            model.times.append(entry.at)
        assert appended.tail == model.tail
        assert not appended.repeated
        if write.answer is not None:
            place = model.position(before + 1 if write.bodies else before)
            model.answers[write.answer.command_id] = replace(write.answer, position=place)
            assert appended.answer == model.answers[write.answer.command_id]
        claimed = model.claim is not None
        model.claim = write.claim or (None if write.release else model.claim)
        if write.claim is not None:
            model.until = self.clock.now + 20_000
        elif write.release or (write.status == "running" and not claimed):
            model.until = self.clock.now
        model.status = write.status or model.status
        model.title = model.title if write.title is None else write.title

    @rule(
        session_id=SESSIONS, seq=st.integers(0, 30), limit=st.integers(1, 5), odd=st.integers(0, 5)
    )
    def read(self, session_id: str, seq: int, limit: int, odd: int) -> None:
        error = self.missing(session_id)
        if error is not None:
            self.refused(error, self.engine.read(session_id, Position("e", seq, NO_TAG), limit=1))
            return
        model = self.models[session_id]
        tag = model.tags[seq] if seq < len(model.tags) else model.tags[-1]
        after = Position(model.epoch, seq, tag)
        reason = None
        if odd == 0:
            after, reason = replace(after, epoch="other"), "epoch_changed"
        elif seq < model.trimmed:
            reason = "trimmed"
        elif seq > len(model.bodies):
            reason = "cursor_ahead"
        elif odd == 1:
            after, reason = replace(after, tag="other"), "fork"
        if reason is not None:
            refusal = self.refused(CursorInvalid, self.engine.read(session_id, after, limit=limit))
            assert isinstance(refusal, CursorInvalid)
            assert refusal.reason == reason
            return
        page = self.run(self.engine.read(session_id, after, limit=limit))
        assert [entry.body for entry in page] == model.bodies[seq : seq + limit]

    @rule(session_id=SESSIONS, through=st.integers(0, 12))
    def trim(self, session_id: str, through: int) -> None:
        error = self.missing(session_id)
        if error is not None:
            self.refused(error, self.engine.trim(session_id, through))
            return
        model = self.models[session_id]
        model.trimmed = max(model.trimmed, min(through, len(model.bodies) - 1))
        self.run(self.engine.trim(session_id, through))

    @rule(claims=st.dictionaries(SESSIONS, FENCES), lease=st.sampled_from([20, 20, 1.5, 0]))
    def heartbeat(self, claims: dict[str, Fence], lease: float) -> None:
        ours = {
            name
            for name, claim in claims.items()
            if name in self.models and self.models[name].claim == claim
        }
        assert self.run(self.engine.heartbeat(claims, lease=lease)) == ours
        for name in ours:
            self.models[name].until = self.clock.now + int(lease * 1000)

    @rule(session_id=SESSIONS, likely=st.integers(0, 4))
    def delete(self, session_id: str, likely: int) -> None:
        if session_id not in self.models and session_id not in self.gone:
            self.refused(SessionUnknown, self.engine.delete(session_id))
        elif likely == 0:
            self.run(self.engine.delete(session_id))
            self.models.pop(session_id, None)
            self.gone.add(session_id)

    @invariant()
    def all_that_can_be_seen_is_as_in_the_model(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        listed = await self.engine.sessions(limit=10, after=None)
        assert [record.session_id for record in listed] == list(self.models)[::-1]
        for record in listed:
            model = self.models[record.session_id]
            assert (record.digest, record.claim) == (model.digest, model.claim)
            assert (record.status, record.title) == (model.status, model.title)
            head = await self.engine.head(record.session_id)
            assert head.tail == model.tail
            assert head.start == model.position(model.trimmed)
            entries = await kept(self.engine, record.session_id, limit=3)
            assert [entry.body for entry in entries] == model.bodies[model.trimmed :]
            assert [entry.at for entry in entries] == model.times[model.trimmed :]
            assert model.times == sorted(model.times)
            for command_id in ("c1", "c2", "c3"):
                found = await self.engine.answer(record.session_id, command_id)
                assert found == model.answers.get(command_id)
        left = [(orphan.session_id, orphan.claim) for orphan in await self.engine.orphans()]
        assert left == [
            (name, model.claim)
            for name, model in sorted(self.models.items(), key=lambda item: item[1].until)
            if model.is_left_alone(self.clock.now)
        ]


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_does_what_the_model_does(name: str) -> None:
    machine = type("Machine", (EngineMachine,), {"engine_name": name})
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            derandomize=True,
            database=None,
            max_examples=EXAMPLES.get(name, 100),
            stateful_step_count=30,
        ),
    )
