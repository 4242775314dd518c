"""A conversation on a server, seen as one in this process is."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from gateway.client.client import Client
from gateway.client.errors import Refused, SessionUnknown
from gateway.client.items import Disconnected, Entry, Reconnected, Reset
from gateway.client.run import Run
from runtime.cli.speech import Told
from runtime.cli.talk import Heard, Notice, Offer, Restated
from runtime.errors import AgentUnknown
from runtime.events import ApprovalRequested, ApprovalResolved, RunStarted
from runtime.journal import spoken_below
from runtime.runnable import Decision

__all__ = ["RemoteTalk"]

_DECISIONS = {
    "approved": "approve",
    "rejected": "reject",
    "edited": "edit",
    "answered": "answer",
}

_DECIDED_BY_OTHERS = frozenset({"approval_resolved", "run_not_resumable", "run_active"})
"""Refusals of a decision that came too late."""

_PATIENCE_SECONDS = 300.0
"""A server that does not come back for this long is not waited for any more: restarts and deploys
take seconds, and a script should end some time."""


class RemoteTalk:
    """A session on a server. It is a `Talk`.

    Attributes:
        session_id: The session.
    """

    def __init__(
        self,
        client: Client,
        offers: Sequence[Offer],
        snapshot: Mapping[str, Any],
        agent: str | None,
    ) -> None:
        """Use `open`."""
        self._client = client
        self._run: Run | None = None
        self._offers = tuple(offers)
        self._chosen = agent
        self._agent = agent or str(snapshot["agent"])
        self._approvals: dict[str, ApprovalRequested] = {}
        self._take(snapshot)

    @classmethod
    async def open(cls, url: str, session_id: str | None, agent: str | None) -> RemoteTalk:
        """Join a session, or make one.

        Args:
            url: The server.
            session_id: The session; None for a new one.
            agent: Who answers; None for the session's own, or the server's default.

        Raises:
            ClientFault: If the server cannot be asked, or says no.
            AgentUnknown: If the server does not offer the agent.
            ValueError: If `url` is none.
        """
        client = Client(url, patience=_PATIENCE_SECONDS)
        try:
            offers = [Offer(each["name"], each["description"]) for each in await client.agents()]
            _check_offered(agent, offers)
            snapshot = await _join(client, session_id, agent)
        except BaseException:
            await client.aclose()
            raise
        return cls(client, offers, snapshot, agent)

    def _take(self, snapshot: Mapping[str, Any]) -> None:
        """Stand where a snapshot stands."""
        self.session_id = str(snapshot["session_id"])
        self._session = self._client.session(self.session_id)
        self._cursor = str(snapshot["cursor"])
        self._take_approvals(snapshot)
        self._run_id = (snapshot.get("run") or {}).get("run_id")

    def _take_approvals(self, snapshot: Mapping[str, Any]) -> None:
        self._approvals = {
            each["approval_id"]: ApprovalRequested.model_validate(each)
            for each in snapshot.get("approvals", ())
        }

    @property
    def agent(self) -> str:
        """Who answers."""
        return self._agent

    @property
    def where(self) -> str:
        """Where the conversation is kept."""
        return f"session {self.session_id} on {self._client.url}"

    @property
    def way_on(self) -> str:
        """How to decide later."""
        return (
            "decide from a terminal with: "
            f"tidegate chat --url {self._client.url} --session {self.session_id}"
        )

    @property
    def approvals(self) -> Sequence[ApprovalRequested]:
        """What waits for a human's word."""
        return tuple(self._approvals.values())

    def offers(self) -> Sequence[Offer]:
        """Return whom the server offers."""
        return self._offers

    def choose(self, name: str) -> None:
        """Let another agent answer.

        Raises:
            AgentUnknown: If the server does not offer it.
        """
        _check_offered(name, self._offers)
        self._chosen = self._agent = name

    def say(self, text: str) -> AsyncGenerator[Heard, None]:
        """Say something and follow the run that answers."""
        chosen = {} if self._chosen is None else {"agent": self._chosen}
        return self._follow(self._session.command_run("send", text=text, **chosen))

    def decide(self, decisions: Mapping[str, Decision]) -> AsyncGenerator[Heard, None]:
        """Answer all approvals and follow the run that goes on."""
        decided = [
            {"approval_id": approval_id, "decision": _DECISIONS[decision.kind]}
            | ({"message": decision.message} if decision.message is not None else {})
            | ({"arguments": decision.arguments} if decision.arguments is not None else {})
            | ({"result": decision.result} if decision.kind == "answered" else {})
            for approval_id, decision in decisions.items()
        ]
        return self._decide(decided)

    async def _decide(self, decided: Sequence[Mapping[str, Any]]) -> AsyncGenerator[Heard, None]:
        run_id, after = str(self._run_id), self._cursor
        run = self._session.command_run("continue", after=after, run_id=run_id, decisions=decided)
        try:
            async with aclosing(self._follow(run)) as heard:
                async for each in heard:
                    yield each
        except Refused as refused:
            if refused.code not in _DECIDED_BY_OTHERS:
                raise
            yield Notice(f"{refused}; following what comes of it")
            run = self._session.follow_run(run_id, after=after)
            async with aclosing(self._follow(run)) as heard:
                async for each in heard:
                    yield each

    async def _follow(self, run: Run) -> AsyncGenerator[Heard, None]:
        self._run = run
        told = None
        async with aclosing(run.events()) as items:
            async for item in items:
                match item:
                    case Disconnected():
                        yield Notice("... the connection is lost; trying again")
                    case Reconnected():
                        yield Notice("... connected again")
                    case Reset():
                        self._take_approvals(item.snapshot)
                        yield _restated(item, run.run_id)
                    case Entry(event=ApprovalResolved() as event) if event.by not in {
                        None,
                        run.command_id,
                    }:
                        self._note(event)
                        yield Notice(f"... it was {event.decision} elsewhere")
                    case Entry(event=event) if event is not None:
                        self._note(event)
                        told = event
                        yield event
                    case Entry():
                        pass  # of a type that this client is too old for
        self._cursor = run.cursor or self._cursor
        if run.end is not None and run.end is not told:
            yield run.end  # it was told by a snapshot

    def _note(self, event: Heard) -> None:
        match event:
            case RunStarted():
                self._run_id = event.run_id
                self._approvals.clear()
            case ApprovalRequested():
                self._approvals[event.approval_id] = event
            case ApprovalResolved():
                self._approvals.pop(event.approval_id, None)
            case _:
                pass

    def stop(self) -> None:
        """Ask the run to end."""
        if self._run is not None:
            self._run.cancel()

    async def renew(self) -> None:
        """Begin a new session."""
        self._take(await _join(self._client, None, self._chosen))

    async def aclose(self) -> None:
        """Close the connections; the session stays."""
        await self._client.aclose()


async def _join(client: Client, session_id: str | None, agent: str | None) -> dict[str, Any]:
    """Return the snapshot of a session, which is made if it is not there."""
    if session_id is not None:
        try:
            return await client.session(session_id).snapshot()
        except SessionUnknown:
            pass
    # An id that is chosen here, so that asking again after a lost answer does not make two.
    made = await client.create(session_id or f"chat_{secrets.token_hex(8)}", agent=agent)
    return await made.snapshot()


def _check_offered(name: str | None, offers: Sequence[Offer]) -> None:
    names = [offer.name for offer in offers]
    if name is not None and name not in names:
        raise AgentUnknown(name, names)


def _restated(reset: Reset, run_id: str | None) -> Restated:
    """Return what a snapshot says of a run."""
    snapshot = reset.snapshot
    messages = [
        Told(each["message_id"], each["text"], each.get("turn"))
        for each in snapshot.get("messages", ())
        if _own(each, run_id) and each["role"] == "assistant" and not each.get("superseded")
    ]
    messages += [
        Told(each["message_id"], each["text"], each.get("turn"), whole=False)
        for each in snapshot.get("open", {}).get("messages", ())
        if _own(each, run_id)
    ]
    tools = {
        call["call_id"]: call["name"]
        for each in snapshot.get("messages", ())
        for call in each.get("tool_calls", ())
    }
    return Restated(reset.reason, tuple(messages), tools)


def _own(message: Mapping[str, Any], run_id: str | None) -> bool:
    return message.get("run_id") == run_id and not spoken_below(message.get("path") or ())
