"""Clients that come back: an `EventSource` asks again by itself, with the same URL, whatever happened.

A run is never begun a second time for that. The first bytes of a stream name its run and where it
stands, each message after them says how far the client is, and a browser hands the last such id back
in `Last-Event-ID`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.codecs.codec import Codec, Projection
from gateway.codecs.framing import bare, run_id_of
from gateway.errors import CommandMalformed, CursorMalformed, NotPermitted, RunUnknown
from gateway.frontends.names import RunName, session_id_for
from gateway.frontends.turns import Turn, new_command_id
from gateway.log.follow import kept
from gateway.log.position import Position
from gateway.log.serde import load
from gateway.sessions.ids import new_session_id
from gateway.sessions.manager import RunPlace
from gateway.transports.following import is_end
from gateway.transports.services import Services
from gateway.transports.sse import id_frame
from gateway.transports.stream import retry_ms

__all__ = ["Comeback", "come_back", "first_bytes", "last_event_id", "refuse_other_sites", "turn_of"]

LONGEST_KEY = 128


@dataclass(frozen=True, slots=True)
class Comeback:
    """A run, and up to where the client has it.

    Attributes:
        place: The run.
        after: The last that the client has.
    """

    place: RunPlace
    after: Position


def first_bytes(place: RunPlace, after: Position) -> bytes:
    """Return what a stream begins with: when to come back, and with which id."""
    return b"retry: %d\n%b" % (
        retry_ms(),
        id_frame(run_id_of(place.session_id, place.run_id, after)),
    )


def last_event_id(request: web.Request) -> str | None:
    """Return the id of the last message that the client has, if it says so.

    `?last_event_id=` is for clients that cannot send the header.
    """
    return request.headers.get("Last-Event-ID") or request.query.get("last_event_id") or None


async def come_back(services: Services, event_id: str, codec: Codec[None]) -> Comeback | None:
    """Return where a client goes on that has all up to `event_id`.

    Returns None if nothing more comes: the run has ended, or waits for a human, and the client has
    all that was said of it. The answer to that is 204, which stops an `EventSource`.

    Args:
        services: The server's parts.
        event_id: The client's last.
        codec: How the run is told; one that can begin anywhere.

    Raises:
        CursorMalformed: If the id is none of ours.
        SessionUnknown, SessionGone: If there is no such session.
        CursorInvalid: If its log is not kept so far back.
    """
    name, after = _parse(event_id)
    says_more, ends = False, False
    projection = Projection(codec, bare)
    async for entry in kept(services.manager.engine, name.session_id, after):
        event = entry.encoded(load)
        if event is not None and event.run_id == name.run_id:
            says_more = bool(projection.feed(entry)) or says_more
            ends = is_end(entry) or ends
    try:
        place = await services.manager.run(name.session_id, name.run_id)
    except RunUnknown:  # it ended before others did
        place = RunPlace(name.session_id, name.run_id, "", "completed", (after,))
    if place.status in {"running", "queued"} or (ends and says_more):
        return Comeback(place, after)
    return None


def _parse(event_id: str) -> tuple[RunName, Position]:
    name, _, cursor = event_id.partition("/")
    try:
        return RunName.parse(name), Position.parse(cursor)
    except RunUnknown:
        raise CursorMalformed from None


def turn_of(
    wire: str,
    *,
    session: str | None,
    key: str | None,
    text: str,
    agent: str | None,
    options: Mapping[str, Any],
) -> Turn:
    """Return the turn of a request.

    Args:
        wire: The protocol.
        session: What the client calls its conversation, if it has one.
        key: The client's idempotency key. Without a conversation, the key stands for one of its own,
            so that the same request again finds the run of the first.
        text: What the user says.
        agent: Who is to answer, if the client says so.
        options: Run options.

    Raises:
        CommandMalformed: If the key is empty, or too long.
    """
    if key is not None and not 1 <= len(key) <= LONGEST_KEY:
        raise CommandMalformed(f"an idempotency key has 1 to {LONGEST_KEY} characters")
    if session is not None:
        session_id = session_id_for(session)
    else:
        session_id = new_session_id() if key is None else session_id_for(f"{wire}: {key}")
    return Turn(
        session_id=session_id,
        is_nameless=session is None and key is None,
        can_answer=False,
        agent=agent,
        command_id=new_command_id() if key is None else key,
        text=text,
        options=options,
    )


def refuse_other_sites(request: web.Request) -> None:
    """Refuse a GET that a page of another site makes without asking, as for an image.

    These GETs begin runs. A browser says in `Sec-Fetch-Site` where a request comes from; one that
    has an `Origin` was looked at already.

    Raises:
        NotPermitted: If it comes from another site.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site in {"cross-site", "same-site"} and "Origin" not in request.headers:
        raise NotPermitted("a page of another site may not do this")
