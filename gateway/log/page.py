"""How much one read returns. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.log.entry import Entry

__all__ = ["PAGE_BYTES", "page"]

PAGE_BYTES = 256 * 1024
"""Bytes of bodies in one page: what a reader that has stopped reading may hold in memory."""


def page(entries: Iterable[Entry], limit: int) -> list[Entry]:
    """Return the first entries: at most `limit`, at most `PAGE_BYTES`, at least one if any.

    No more of `entries` is consumed than is needed to know.
    """
    taken: list[Entry] = []
    room = PAGE_BYTES
    for entry in entries:
        room -= len(entry.body)
        if room < 0 and taken:
            break
        taken.append(entry)
        if len(taken) >= limit:
            break
    return taken
