"""A conversation on a server, seen as one in this process is."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from gateway.remote.errors import RemoteRefused
from gateway.remote.server import RemoteServer
from gateway.remote.session import Back, Lost, RemoteSession, Reset
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


class RemoteTalk:
    """A session on a server. It is a `Talk`.

    Attributes:
        session_id: The session.
    """

    def __init__(
        self,
        server: RemoteServer,
        offers: Sequence[Offer],
        snapshot: Mapping[str, Any],
        agent: str | None,
    ) -> None:
        """Use `open`."""
        self._server = server
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
            RemoteFault: If the server cannot be asked, or says no.
            AgentUnknown: If the server does not offer the agent.
            ValueError: If `url` is none.
        """
        server = RemoteServer(url)
        try:
            offers = [Offer(each["name"], each["description"]) for each in await server.agents()]
            _check_offered(agent, offers)
            snapshot = await server.join(session_id or _new_session_id(), agent)
        except BaseException:
            await server.aclose()
            raise
        return cls(server, offers, snapshot, agent)

    def _take(self, snapshot: Mapping[str, Any]) -> None:
        """Stand where a snapshot stands."""
        self.session_id = str(snapshot["session_id"])
        self._session = RemoteSession(self._server, self.session_id, str(snapshot["cursor"]))
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
        return f"session {self.session_id} on {self._server.url}"

    @property
    def way_on(self) -> str:
        """How to decide later."""
        return (
            "decide from a terminal with: "
            f"tidegate chat --url {self._server.url} --session {self.session_id}"
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
        command: dict[str, Any] = {"type": "send", "text": text}
        if self._chosen is not None:
            command["agent"] = self._chosen
        return self._follow(command, None)

    def decide(self, decisions: Mapping[str, Decision]) -> AsyncGenerator[Heard, None]:
        """Answer all approvals and follow the run that goes on."""
        decided = [
            {"approval_id": approval_id, "decision": _DECISIONS[decision.kind]}
            | ({"message": decision.message} if decision.message is not None else {})
            | ({"arguments": decision.arguments} if decision.arguments is not None else {})
            | ({"result": decision.result} if decision.kind == "answered" else {})
            for approval_id, decision in decisions.items()
        ]
        command = {"type": "continue", "run_id": self._run_id, "decisions": decided}
        return self._follow(command, self._run_id)

    async def _follow(
        self, command: Mapping[str, Any], run_id: str | None
    ) -> AsyncGenerator[Heard, None]:
        try:
            async for heard in self._run(command, run_id):
                yield heard
        except RemoteRefused as refused:
            if command["type"] != "continue" or refused.code not in _DECIDED_BY_OTHERS:
                raise
            yield Notice(f"{refused}; following what comes of it")
            async for heard in self._run(None, run_id):
                yield heard

    async def _run(
        self, command: Mapping[str, Any] | None, run_id: str | None
    ) -> AsyncGenerator[Heard, None]:
        async with aclosing(self._session.run(command, run_id=run_id)) as followed:
            async for each in followed:
                match each:
                    case Lost():
                        yield Notice("... the connection is lost; trying again")
                    case Back():
                        yield Notice("... connected again")
                    case Reset():
                        self._take_approvals(each.snapshot)
                        yield _restated(each, self._session.run_id)
                    case ApprovalResolved(by=by) if by not in {None, self._session.command_id}:
                        self._note(each)
                        yield Notice(f"... it was {each.decision} elsewhere")
                    case _:
                        self._note(each)
                        yield each

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
        self._session.cancel()

    async def renew(self) -> None:
        """Begin a new session."""
        self._take(await self._server.join(_new_session_id(), self._chosen))

    async def aclose(self) -> None:
        """Close the connections; the session stays."""
        await self._server.aclose()


def _new_session_id() -> str:
    # Chosen here, so that asking again after a lost answer does not make two.
    return f"chat_{secrets.token_hex(8)}"


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
