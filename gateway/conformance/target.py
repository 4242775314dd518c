"""The server that is looked at: requests, sessions, commands and logs, as they are on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from gateway.conformance.check import Broken, NotChecked, Role
from gateway.conformance.events import ENDS, Event, decoded, page_events, shown

__all__ = ["JSON", "PATIENCE", "Answer", "NoServer", "Target", "opened"]

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds within which a server that is well does what takes it no time: long for any network."""

HEAD_SECONDS = 0.5
"""How long an answer that may go on for ever is listened to once it has begun."""

POLL_SECONDS = 0.05
"""How often a log is looked at for something that is to come."""

READ_BUFFER = 2**23
"""Bytes of one line: an event with a long text, on a server with other limits than ours."""

PAGE = 1000
"""Events of one page."""

CLEANERS = 8
"""Sessions that are deleted at once."""

JSON = "application/json"


class NoServer(Exception):
    """There is no server at the address, or none of this protocol; the text is one line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered. `request` is how it reads in a report."""

    request: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The object in the body.

        Raises:
            Broken: If there is none.
        """
        return decoded(self.body, self.request).data

    @property
    def shown(self) -> str:
        """How it reads in a report."""
        return f"{self.status} {shown(self.body)}".strip()

    def must_be(self, *statuses: int, because: str = "") -> Answer:
        """Require its status.

        Raises:
            Broken: If it has another.
        """
        if self.status not in statuses:
            wanted = " or ".join(map(str, statuses))
            raise Broken(f"{wanted}{because and f' ({because})'}", self.shown, self.request)
        return self

    def must_be_refused(self, code: str, *statuses: int) -> Answer:
        """Require a refusal with this `code`.

        Raises:
            Broken: If it is another answer.
        """
        self.must_be(*statuses, because=code)
        if self.json.get("code") != code:
            raise Broken(f"the code {code!r}", self.shown, self.request)
        return self


class Target:
    """One server.

    Attributes:
        url: Its address, without a slash at the end.
        http: For what has no method here.
        agents: Who plays each role.
        restart: Returns once the server was stopped and is there again.
        left: How many things could not be deleted at the end.
    """

    def __init__(self, url: str, http: aiohttp.ClientSession, agents: Mapping[Role, str]) -> None:
        """Make it; use `opened`."""
        self.url = url
        self.http = http
        self.agents = agents
        self.restart: Callable[[], Awaitable[None]] = _nobody
        self.left = 0
        self._made: set[str] = set()
        self._subscribed: set[tuple[str, str]] = set()
        self._stories: dict[object, asyncio.Task[Any]] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    # --- requests ------------------------------------------------------------------------------

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: float = PATIENCE,
        listen: float = PATIENCE / 2,
    ) -> Answer:
        """Ask, and return the answer; of one that goes on, what there is in the time.

        Args:
            method: Of HTTP.
            path: Below the address.
            body: An object, sent as JSON.
            raw: Other bytes.
            headers: More headers.
            limit: Seconds.
            listen: Seconds of those for the body, once the answer has begun.
        """
        sent = json.dumps(body, ensure_ascii=False).encode() if body is not None else raw
        said = {"Content-Type": JSON} if body is not None else {}
        said |= headers or {}
        named = {name: value for name, value in said.items() if value != JSON}
        request = " ".join(
            [method, path, *(f"{name}: {value}" for name, value in named.items())]
            + ([shown(sent)] if sent else [])
        )
        content = bytearray()
        try:
            async with (
                asyncio.timeout(limit),
                self.http.request(
                    method, self.url + path, data=sent, headers=said, allow_redirects=False
                ) as response,
            ):
                status, heads = response.status, response.headers
                with contextlib.suppress(TimeoutError, aiohttp.ClientPayloadError):
                    async with asyncio.timeout(listen):
                        async for part in response.content.iter_any():
                            content += part
                return Answer(request, status, heads, bytes(content))
        except TimeoutError:
            raise Broken("an answer", f"none in {limit:g} s", request) from None
        except aiohttp.ClientError as error:
            raise Broken("an answer", f"{type(error).__name__}: {error}", request) from None

    async def head(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Return how an answer begins that may go on for ever."""
        return await self.ask("GET", path, headers=headers, listen=HEAD_SECONDS)

    # --- sessions ------------------------------------------------------------------------------

    def new_id(self) -> str:
        """Return an id for a session; it will be deleted at the end."""
        session_id = f"conformance-{secrets.token_hex(6)}"
        self._made.add(session_id)
        return session_id

    async def session(self, role: Role | None = None, **more: Any) -> str:
        """Make a session.

        Raises:
            Broken: If that does not work.
        """
        session_id = self.new_id()
        agent = {} if role is None else {"agent": self.agents[role]}
        body = {"session_id": session_id, **agent, **more}
        (await self.ask("POST", "/v1/sessions", body)).must_be(201)
        return session_id

    async def command(self, session_id: str, type: str, **fields: Any) -> Answer:
        """Give a command; it gets an id if it has none."""
        body = {"type": type, "id": f"cmd-{secrets.token_hex(6)}", **fields}
        return await self.ask("POST", f"/v1/sessions/{session_id}/commands", body)

    async def send(self, session_id: str, text: str, **fields: Any) -> dict[str, Any]:
        """Say something; return the ack.

        Raises:
            Broken: If it is refused.
        """
        return (await self.command(session_id, "send", text=text, **fields)).must_be(202).json

    async def snapshot(self, session_id: str) -> dict[str, Any]:
        """Return a session's snapshot.

        Raises:
            Broken: If there is none.
        """
        return (await self.ask("GET", f"/v1/sessions/{session_id}")).must_be(200).json

    async def log(self, session_id: str, after: str = "0") -> list[Event]:
        """Return a session's log, page by page.

        Raises:
            Broken: If it cannot be had, or has no end.
        """
        events: list[Event] = []
        async with asyncio.timeout(PATIENCE):
            while True:
                path = f"/v1/sessions/{session_id}/events?after={after}&limit={PAGE}"
                answer = (await self.ask("GET", path, headers={"Accept": JSON})).must_be(200)
                page = page_events(answer.body, answer.request)
                events += page
                if answer.json.get("caught_up") or not page:
                    return events
                after = str(answer.json.get("cursor"))

    async def until(
        self, session_id: str, found: Callable[[Event], object], what: str, limit: float = 10.0
    ) -> list[Event]:
        """Return a session's log once it has an event.

        Args:
            session_id: The session.
            found: Whether this is the event.
            what: How it is called in a report.
            limit: Seconds.

        Raises:
            Broken: If it does not come.
        """
        events: list[Event] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while True:
                    after = events[-1].cursor if events else "0"
                    page = await self.log(session_id, after)
                    events += page
                    if any(map(found, page)):
                        return events
                    await asyncio.sleep(POLL_SECONDS)
        last = shown(events[-1].raw) if events else "an empty log"
        seen = f"none in {limit:g} s; the log ends with {last}"
        raise Broken(f"{what} in the log", seen, f"GET /v1/sessions/{session_id}/events?after=0")

    async def ended(self, session_id: str, run_id: str) -> list[Event]:
        """Return a session's log once a run has ended or waits.

        Raises:
            Broken: If it does neither.
        """
        ends = {*ENDS, "run.interrupted"}
        return await self.until(
            session_id,
            lambda event: event.type in ends and event.get("run_id") == run_id,
            f"the end of {run_id}",
        )

    async def decided(self, session_id: str, run_id: object) -> list[Event]:
        """Return a session's log once a run, whose approvals were decided, has ended.

        Raises:
            Broken: If it does not end.
            NotChecked: If it fails, which agents may.
        """
        log = await self.until(
            session_id,
            lambda event: event.type in ENDS and event.get("run_id") == run_id,
            f"the end of {run_id}",
        )
        if log[-1].type == "run.failed":
            raise NotChecked(f"the agent of {session_id} failed: {shown(log[-1].raw)}")
        return log

    async def say(self, session_id: str, text: str, **fields: Any) -> list[Event]:
        """Say something, and return the log once the run has ended or waits."""
        return await self.ended(session_id, (await self.send(session_id, text, **fields))["run_id"])

    async def subscribe(self, client_id: str, session_id: str, after: str | None) -> None:
        """Put a session on a client's stream.

        Raises:
            Broken: If that does not work.
        """
        self._subscribed.add((client_id, session_id))
        path = f"/v1/clients/{client_id}/subscriptions/{session_id}"
        body = {} if after is None else {"after": after}
        (await self.ask("PUT", path, body)).must_be(200, 201, 204)

    # --- what is shared, and what is left ------------------------------------------------------

    async def once(self, story: Callable[[Target], Awaitable[T]]) -> T:
        """Return what a story comes to; it happens once, for all checks that look at it."""
        if story not in self._stories:
            self._stories[story] = asyncio.create_task(_awaited(story(self)))
        result: T = await asyncio.shield(self._stories[story])
        return result

    async def clean_up(self) -> None:
        """Delete what was made, as far as the server lets it; `left` counts the rest."""
        for story in self._stories.values():
            story.cancel()
        if self._stories:
            await asyncio.wait(self._stories.values())
        paths = [f"/v1/clients/{cid}/subscriptions/{sid}" for cid, sid in self._subscribed]
        paths += [f"/v1/sessions/{session_id}" for session_id in self._made]
        self.left, free = len(paths), asyncio.Semaphore(CLEANERS)

        async def delete(path: str) -> None:
            async with free:
                with contextlib.suppress(Broken):
                    (await self.ask("DELETE", path)).must_be(200, 204, 404, 410)
                    self.left -= 1

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as tasks:
                for path in paths:
                    tasks.create_task(delete(path))


async def _nobody() -> None:
    raise NotChecked("needs the server to be restarted; see --restart")


async def _awaited(work: Awaitable[T]) -> T:
    return await work


@asynccontextmanager
async def opened(url: str, names: Mapping[Role, str]) -> AsyncIterator[Target]:
    """Find out who is there, and run a block with it. What was made is deleted at the end.

    Args:
        url: The server's address.
        names: Which agents play the roles; those that it has not, play none.

    Raises:
        NoServer: If nobody is there who speaks this protocol.
    """
    url = url.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise NoServer(f"{url!r} is no address: give one such as http://127.0.0.1:8080")
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=READ_BUFFER,
    ) as http:
        target = Target(url, http, {})
        try:
            answer = (await target.ask("GET", "/v1/agents")).must_be(200)
            listed = [str(agent["name"]) for agent in answer.json["agents"]]
        except Broken as broken:
            raise NoServer(f"no Tidegate at {url}: {broken.request}: {broken.seen}") from None
        except (KeyError, TypeError):
            raise NoServer(f"no Tidegate at {url}: GET /v1/agents lists no agents") from None
        target.agents = {role: name for role, name in names.items() if name in listed}
        try:
            yield target
        finally:
            await target.clean_up()
