"""What a process knows of the logs that it follows: right, or asked again; in whatever order it came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engines.postgres.rings import NEVER, Found, Question, Rings, Then
from gateway.log.engine import Head
from gateway.log.entry import Entry
from gateway.log.position import NO_TAG, Position
from gateway.log.recent import Recent

FETCHED, BACKLOG, KEPT = 3, 7, 12
"""Small, so that what happens at these limits happens often."""

WAKES = {Then.WAKE, Then.WAKE_AND_FETCH}
FETCHES = {Then.FETCH, Then.WAKE_AND_FETCH}

Commit = tuple[Position, Sequence[Entry]]


@dataclass
class Store:
    """One log as a store has it: it may lose its end, be trimmed, deleted and made again."""

    epoch: str = "e0"
    start: int = 0
    entries: tuple[Entry, ...] = ()
    there: bool = True
    tags: int = 0

    @property
    def tail(self) -> Position:
        return self.at(len(self.entries))

    @property
    def head(self) -> Head | None:
        return Head(self.at(self.start), self.tail) if self.there else None

    def at(self, seq: int) -> Position:
        return self.entries[seq - 1].position if seq else Position(self.epoch, 0, NO_TAG)

    def append(self, count: int) -> Commit:
        before = self.tail
        self.tags += 1
        self.entries += tuple(
            Entry("s", Position(self.epoch, before.seq + n, f"{self.tags:08x}"), 0, b"{}")
            for n in range(1, count + 1)
        )
        return before, self.entries[before.seq :]

    def has(self, position: Position) -> bool:
        """Say whether a reader may go on from there."""
        if not self.there or not self.start <= position.seq <= len(self.entries):
            return False
        return self.at(position.seq) == position

    def fetch(self, asked: Question) -> Found | None:
        assert asked.known is not None
        head, after = self.head, asked.known.seq
        if head is None:
            return None
        tag = self.at(after).tag if self.start <= after <= len(self.entries) else None
        return Found(head, tag, self.entries[after:][:FETCHED])

    def differs(self, asked: Question) -> bool:
        kept = self.start if asked.kept is None else asked.kept
        return not self.there or self.tail != asked.known or self.start > kept


class Node:
    """A process that follows one log of a store in which others write too."""

    def __init__(self) -> None:
        self.now = 0.0
        self.store = Store()
        self.rings = Rings(Recent(entries=KEPT), backlog=BACKLOG)
        self.followed = self.rings.follow("s")
        self.followed.waiters += 1
        self.untold: list[Commit] = []
        self.looking: Callable[[], Then] | None = None
        self.wants: Then | None = Then.LOOK
        self.tails = [self.store.tail]
        """Every position that ever was one, also in histories that were lost."""

    def wanted(self) -> Then | None:
        """Return what kind of look is wanted next."""
        return self.wants

    def learn(self, learn: Callable[[], Then]) -> None:
        """Learn something; whatever changes what is known wakes who waits."""
        self.now += 1
        known = self.followed.known
        then = learn()
        assert then in WAKES or known in {None, self.followed.known}
        if then in FETCHES:
            self.wants = Then.FETCH
        elif then is Then.LOOK:
            self.wants = self.wants or then

    def append(self, count: int) -> Commit | None:
        if not self.store.there:
            return None
        commit = self.store.append(count + 1)
        self.tails += [entry.position for entry in commit[1]]
        return commit

    def commit(self, count: int) -> None:
        if commit := self.append(count):
            self.untold.append(commit)

    def tell(self, number: int) -> None:
        """Tell of a commit of this process; not always in their order."""
        if self.untold:
            before, entries = self.untold.pop(number % len(self.untold))
            self.learn(lambda: self.rings.committed(before, entries, self.now))

    def hint(self, number: int) -> None:
        """Hear a hint: of now, of long ago, of a history that was lost, or for no reason."""
        tail = self.tails[-1 - number % len(self.tails)] if number else None
        self.learn(lambda: self.rings.heard("s", tail))

    def look(self, _: int) -> None:
        """Begin a look: what the store says is of this moment, and arrives later."""
        asked = self.rings.question("s", self.now)
        if self.looking or asked is None:
            return
        if self.wants is Then.FETCH and asked.known is not None:
            found = self.store.fetch(asked)
            self.looking = lambda: self.rings.fetched(asked, found)
        elif self.store.differs(asked):
            head = self.store.head
            self.looking = lambda: self.rings.differs(asked, head)
        else:
            self.looking = lambda: self.rings.agreed(asked)
        self.wants = None

    def see(self, _: int = 0) -> None:
        """Take in what was found."""
        if looking := self.looking:
            self.looking = None
            self.learn(looking)

    def trim(self, number: int) -> None:
        if self.store.there and len(self.store.entries) > 1:
            through = number % len(self.store.entries)
            self.store.start = max(self.store.start, through)
            if number % 2:
                self.rings.trimmed("s", through)

    def lose(self, count: int) -> None:
        """Lose what the standby that takes over did not have."""
        kept = max(self.store.start, len(self.store.entries) - count)
        self.store.entries = self.store.entries[:kept]

    def delete(self, number: int) -> None:
        self.store.there = False
        if number % 2:
            self.learn(lambda: self.rings.deleted("s"))

    def make_again(self, _: int) -> None:
        if not self.store.there:
            self.store = Store(f"e{self.store.tags + 1}", tags=self.store.tags + 1)
            self.tails.append(self.store.tail)

    def settle(self) -> None:
        """Be told everything, and look until nothing is wanted any more."""
        while self.untold:
            self.tell(0)
        self.see()
        self.wants = self.wants or Then.LOOK
        looks = 0
        while self.wanted() is not None:
            self.look(0)
            self.see()
            looks += 1
            assert looks < 5 + BACKLOG, "it looks for ever"

    def check(self, *, settled: bool) -> None:
        """What is served is the log, in order; where the reader's position is not in it, nothing is."""
        for after in self.tails:
            page = self.rings.read("s", after, 4)
            if page is None:
                continue
            if settled:
                assert self.store.has(after)
            true = self.store.entries[after.seq :][: len(page)]
            assert [entry.position for entry in page] == [entry.position for entry in true]


def do(node: Node, steps: Sequence[tuple[str, int]], *, safe: bool) -> None:
    for name, number in steps:
        getattr(node, name)(number)
        if safe:
            node.check(settled=False)
    node.settle()
    node.check(settled=True)
    assert node.followed.known == (node.store.tail if node.store.there else None)


COMMON = ("commit", "commit", "tell", "tell", "append", "hint", "look", "see", "look", "see")


def steps(*names: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 9)), max_size=40)


@pytest.mark.rule("log.order")
@pytest.mark.fault("F16", holds=("I3",))
@settings(max_examples=200)
@given(steps(*COMMON, "trim"))
def test_in_no_order_of_commits_looks_and_hints_is_a_wrong_entry_served(
    taken: list[tuple[str, int]],
) -> None:
    do(Node(), taken, safe=True)


@pytest.mark.rule("log.order")
@settings(max_examples=200)
@given(steps(*COMMON, "trim", "lose", "delete", "make_again", "make_again"))
def test_of_a_log_that_was_lost_or_deleted_nothing_is_served_after_the_next_look(
    taken: list[tuple[str, int]],
) -> None:
    do(Node(), taken, safe=False)


def followed(*told: int) -> Node:
    """Return a node that knows the log, of which it was told commits of so many entries."""
    node = Node()
    node.settle()
    for count in told:
        node.commit(count - 1)
        node.tell(0)
    assert node.followed.known == node.store.tail
    return node


def served(node: Node, after: int) -> list[int] | None:
    page = node.rings.read("s", node.store.at(after), 99)
    return None if page is None else [entry.seq for entry in page]


def test_a_hole_before_a_commit_of_ours_is_fetched_so_that_the_ring_goes_on_from_where_readers_are() -> (
    None
):
    node = followed(1)
    node.append(0)
    node.commit(0)
    node.tell(0)
    assert node.wanted() is Then.FETCH
    assert not node.rings.fresh("s", 0)
    node.look(0)
    node.see()
    assert node.wanted() is None
    assert served(node, 0) == [1, 2, 3]


def test_what_was_fetched_before_it_was_told_stays_the_same_object() -> None:
    node = followed(1)
    node.commit(2)
    node.hint(1)
    node.look(0)
    node.see()
    known = node.rings.read("s", node.store.at(1), 9)
    node.tell(0)
    assert node.wanted() is None
    again = node.rings.read("s", node.store.at(1), 9)
    assert known is not None
    assert again is not None
    assert all(one is other for one, other in zip(known, again, strict=True))


def test_a_fetch_that_cut_a_commit_in_two_is_completed_by_being_told_of_it() -> None:
    node = followed(1)
    node.commit(FETCHED)  # one more than is fetched
    node.hint(1)
    node.look(0)
    node.see()
    assert node.wanted() is Then.FETCH
    assert served(node, 1) == [2, 3, 4]
    node.tell(0)
    assert served(node, 1) == [2, 3, 4, 5]


@pytest.mark.parametrize("fetch", [False, True])
def test_an_answer_that_is_older_than_a_commit_undoes_nothing(*, fetch: bool) -> None:
    node = followed(1)
    node.wants = Then.FETCH if fetch else Then.LOOK
    node.look(0)
    node.commit(0)
    node.tell(0)
    node.see()
    assert node.wanted() is None, "the commit itself has shown that all is well"
    assert served(node, 0) == [1, 2]


@pytest.mark.parametrize("fetch", [False, True])
def test_an_answer_that_goes_beyond_a_commit_that_came_meanwhile_asks_for_more(
    *, fetch: bool
) -> None:
    node = followed(1)
    node.commit(0)
    node.append(0)
    node.wants = Then.FETCH if fetch else Then.LOOK
    node.look(0)
    node.tell(0)
    node.see()
    assert fetch or node.wanted() is Then.FETCH
    node.settle()
    assert served(node, 0) == [1, 2, 3]


def test_only_a_hint_of_what_is_not_known_asks_the_store() -> None:
    node = followed(1, 1, 1)
    epoch = node.store.epoch
    for seq in range(4):
        assert node.rings.heard("s", node.store.at(seq)) is Then.REST
    assert node.rings.heard("s", Position(epoch, 4, "0badf00d")) is Then.FETCH
    assert node.rings.fresh("s", 0)
    for wrong in (Position(epoch, 3, "0badf00d"), Position("other", 1, "0badf00d")):
        node.followed.looked = node.now
        assert node.rings.heard("s", wrong) is Then.FETCH
        assert not node.rings.fresh("s", 0), "it is looked at before it is served"
    assert node.rings.heard("s", None) is Then.LOOK
    assert node.rings.heard("unknown", None) is Then.REST


def test_what_nobody_waits_for_is_neither_kept_nor_looked_at() -> None:
    node = followed(1)
    node.rings.follow("idle").left = 5.0
    assert set(node.rings.due(float("inf"))) == {"s", "idle"}
    node.rings.forget(before=5.0)
    assert len(node.rings) == 2
    node.rings.forget(before=6.0)
    assert node.rings.due(float("inf")) == ["s"]
    node.followed.waiters, node.followed.left = 0, 0.0
    asked = node.rings.question("s", node.now)
    node.rings.forget(before=6.0)
    assert asked is not None
    before, entries = node.store.append(1)
    assert node.rings.committed(before, entries, node.now) is Then.REST
    for then in (node.rings.agreed(asked), node.rings.differs(asked, None)):
        assert then is Then.REST
    assert node.rings.fetched(asked, None) is Then.REST
    assert node.rings.question("s", node.now) is None
    assert not node.rings.fresh("s", NEVER)
