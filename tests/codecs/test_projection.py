"""What readers share of what a codec makes, and what they do not; frames and their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from gateway.codecs.codec import Frame, Projection
from gateway.codecs.framing import bare, line, sse, sse_with_id
from gateway.log.entry import Entry
from runtime.events import Event
from tests.support.legal_runs import entries_of, legal_log


@dataclass(frozen=True)
class Counter:
    """Numbers the events from wherever it began, each in two messages."""

    def begin(self) -> int:
        return 0

    def encode(self, state: int, event: Event, entry: Entry) -> tuple[int, Sequence[Frame]]:
        count = state + 1
        return count, (Frame(b"%d" % count, "number"), Frame(event.type.encode()))

    def cut(self, state: int, reason: str) -> Sequence[Frame]:
        return (Frame(f"{reason} after {state}".encode()),)


def some_entries() -> list[Entry]:
    return entries_of(legal_log(Random(1)))[:4]  # noqa: S311 - repeatable


def test_a_reader_that_began_elsewhere_gets_its_own_messages() -> None:
    entries = some_entries()
    first, later = Projection(Counter(), bare), Projection(Counter(), bare)
    assert [first.feed(entry)[0] for entry in entries] == [b"1", b"2", b"3", b"4"]
    assert [later.feed(entry)[0] for entry in entries[2:]] == [b"1", b"2"]
    joined = Projection(Counter(), bare, state=2)
    assert [joined.feed(entry)[0] for entry in entries[2:]] == [b"3", b"4"]


def test_each_style_frames_for_itself() -> None:
    entry = some_entries()[0]
    kind = b"session.created"
    assert Projection(Counter(), line).feed(entry) == (b"1\n", kind + b"\n")
    assert Projection(Counter(), sse).feed(entry) == (
        b"event: number\ndata: 1\n\n",
        b"data: session.created\n\n",
    )


def test_only_the_last_message_of_an_entry_says_that_the_client_has_all_of_it() -> None:
    entry = some_entries()[0]
    assert Projection(Counter(), sse_with_id).feed(entry) == (
        b"event: number\ndata: 1\n\n",
        b"id: ses_story/epoch.1.0a0b0c0d\ndata: session.created\n\n",
    )


def test_what_is_cut_is_told_from_the_state_where_it_was_cut() -> None:
    projection = Projection(Counter(), sse)
    for entry in some_entries():
        projection.feed(entry)
    assert projection.cut("shutdown") == b"data: shutdown after 4\n\n"


def test_an_event_of_a_newer_version_is_passed_over() -> None:
    entry = some_entries()[0]
    newer = Entry(entry.session_id, entry.position, entry.at, b'{"type":"not.known.yet","a":1}')
    projection = Projection(Counter(), bare)
    assert projection.feed(newer) == ()
    assert projection.state == 0
