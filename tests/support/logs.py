"""Short words for tests that write and read logs."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.log.engine import Answer, Appended, Engine, Fence, NewSession, Write
from gateway.log.entry import Entry
from gateway.log.position import Position

NEW = NewSession(agent="echo", metadata={"team": "blue"}, digest="d1")
FIRST, SECOND = Fence("run_1", 1, "n1"), Fence("run_1", 2, "n2")


class SetClock:
    """A clock that shows what it is told."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now


async def make(engine: Engine, session_id: str = "s", *bodies: bytes) -> Appended:
    """Create a session whose log starts with these bodies."""
    return await engine.append(Write(session_id, bodies, create=NEW))


async def add(engine: Engine, *bodies: bytes, session_id: str = "s") -> Appended:
    return await engine.append(Write(session_id, bodies))


def answer(command_id: str = "c1", digest: str = "b1") -> Answer:
    return Answer(command_id, digest, "run_1")


async def start(engine: Engine, session_id: str = "s") -> Position:
    return (await engine.head(session_id)).start


async def tail(engine: Engine, session_id: str = "s") -> Position:
    return (await engine.head(session_id)).tail


async def kept(engine: Engine, session_id: str = "s", *, limit: int = 1000) -> list[Entry]:
    """Read all that is kept, page by page."""
    position, found = await start(engine, session_id), list[Entry]()
    while page := await engine.read(session_id, position, limit=limit):
        found += page
        position = page[-1].position
    return found


def bodies(entries: Iterable[Entry]) -> list[bytes]:
    return [entry.body for entry in entries]


def same(left: Iterable[Entry], right: Iterable[Entry]) -> bool:
    """Say whether these are the same entries, also if they are not the same objects."""
    return [(e.session_id, e.position, e.at, e.body) for e in left] == [
        (e.session_id, e.position, e.at, e.body) for e in right
    ]
