"""What an AG-UI request does to a session: a new input, or answers to what its run waits for."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.commands import Ack, ApprovalDecision, Cancel, parse_command
from gateway.errors import CommandConflict, CommandMalformed, RunNotResumable, SessionUnknown
from gateway.frontends.agui.input import Asked, Said, command_id_of, decision_of
from gateway.frontends.names import session_id_for
from gateway.frontends.turns import Turn, stop, take_turn
from gateway.log.position import Position
from gateway.sessions.manager import RunPlace
from gateway.sessions.snapshot import ApprovalView, Snapshot
from gateway.transports.following import run_of
from gateway.transports.services import Services

__all__ = ["Begun", "begin"]


class Begun:
    """The run that a request began, or went on with.

    Attributes:
        place: It.
        anew: Whether a stream of all that this request made it say can be told from its beginning;
            else the client may have some of it.
    """

    def __init__(self, place: RunPlace, *, anew: bool) -> None:
        self.place = place
        self.anew = anew


async def begin(services: Services, agent: str, asked: Asked) -> Begun:
    """Do what a request asks for, once however often it is sent.

    Raises:
        GatewayError: If it is refused.
    """
    services.streams.check()
    session_id = session_id_for(asked.place.thread_id)
    command_id = command_id_of(asked.place.run_id or "")
    answer = await services.manager.engine.answer(session_id, command_id)
    snapshot = await _snapshot(services, session_id)
    turning = _Turning(services, agent, asked, snapshot)
    if answer is None:
        return await turning.first()
    if asked.said is not None and not asked.resume:
        return Begun(await turning.again(asked.said), anew=False)
    ack = Ack(
        id=command_id, session_id=session_id, run_id=answer.run_id, cursor=str(answer.position)
    )
    return Begun(await run_of(services, ack), anew=False)


async def _snapshot(services: Services, session_id: str) -> Snapshot | None:
    try:
        return await services.manager.snapshot(session_id)
    except SessionUnknown:
        return None


class _Turning:
    """One request on its way into a session."""

    def __init__(
        self,
        services: Services,
        agent: str,
        asked: Asked,
        snapshot: Snapshot | None,
    ) -> None:
        self._services = services
        self._agent = agent
        self._asked = asked
        self._session_id = session_id_for(asked.place.thread_id)
        self._command_id = command_id_of(asked.place.run_id or "")
        self._snapshot = snapshot

    async def first(self) -> Begun:
        """Take the turn; nobody has asked for it before."""
        asked = self._asked
        if asked.resume and self._snapshot is None:
            raise SessionUnknown(self._session_id)
        decisions = self._decisions()
        said = asked.said if asked.said is not None and self._is_new(asked.said) else None
        if asked.resume and said is not None:
            return Begun(await self._send_instead(said), anew=True)
        if decisions and (asked.resume or asked.said is None):
            return await self._answer(decisions)
        if asked.said is None:
            return Begun(await self._answer_history(), anew=True)
        await self._give_way(decisions)
        rewind_to = None if said is not None else asked.said.message_id
        return Begun(await self._send(asked.said, rewind_to=rewind_to), anew=True)

    async def _answer(self, decisions: tuple[ApprovalDecision, ...]) -> Begun:
        assert self._snapshot is not None  # noqa: S101 - its approvals are decided
        place = await self._take(decisions)
        resumed = place.segments[-1].seq > Position.parse(self._snapshot.cursor).seq
        return Begun(place, anew=resumed)

    async def _send_instead(self, said: Said) -> RunPlace:
        """Send a message in place of answers to interrupts, all of which were dismissed."""
        if any(entry.status != "cancelled" for entry in self._asked.resume):
            raise CommandMalformed(
                "`resume`: the interrupts are answered first, and what the user says then; a new "
                "message goes only with interrupts that are cancelled"
            )
        await stop(self._services, self._session_id)
        return await self._send(said)

    async def again(self, said: Said) -> RunPlace:
        """Repeat an input that was taken before: another one under its id is refused."""
        try:
            return await self._send(said)
        except CommandConflict:
            return await self._send(said, rewind_to=said.message_id)

    def _is_new(self, said: Said) -> bool:
        """Tell whether the session does not have a message yet."""
        known = () if self._snapshot is None else self._snapshot.messages
        heard = [m for m in known if m.role == "user"]
        if said.message_id is None:
            return not heard or heard[-1].text != said.text
        return all(m.message_id != said.message_id for m in heard)

    # --- what the run waits for ----------------------------------------------------------------

    @property
    def _waits(self) -> Sequence[ApprovalView]:
        return () if self._snapshot is None else self._snapshot.approvals

    def _decisions(self) -> tuple[ApprovalDecision, ...]:
        """Return what the request decides: by `resume`, and by results of the client's own tools.

        A result is looked for in the whole conversation: a client need not ask for a run at once
        when it has one.
        """
        asked = {view.approval_id: view for view in self._waits}
        decisions = {
            entry.interrupt_id: decision_of(entry, asked.get(entry.interrupt_id))
            for entry in self._asked.resume
        }
        for view in self._waits:
            result = self._asked.results.get(view.call_id or "")
            if view.wants == "result" and result is not None:
                answer = ApprovalDecision(
                    approval_id=view.approval_id, decision="answer", result=result
                )
                decisions.setdefault(view.approval_id, answer)
        return tuple(decisions.values())

    async def _give_way(self, decisions: tuple[ApprovalDecision, ...]) -> None:
        """End a run that waits for results of the client's tools, since the user goes on without.

        The results that there are become part of the conversation.

        Raises:
            RunNotResumable: If a human's decision is waited for.
        """
        if self._snapshot is None or self._snapshot.status != "interrupted":
            return
        for view in self._waits:
            if view.wants is None:
                raise RunNotResumable(
                    f"the conversation waits for an answer to {view.approval_id!r}: "
                    f"{view.reason or view.tool or view.node}; answer it with `resume`"
                )
        if len(decisions) < len(self._waits):
            await stop(self._services, self._session_id)
            return
        answering = {
            "type": "continue",
            "id": f"{self._command_id[:100]}-answers",
            "session_id": self._session_id,
            "decisions": decisions,
        }
        await self._services.manager.obey(parse_command(answering))
        await self._services.manager.obey(
            Cancel(
                type="cancel",
                id=f"{self._command_id[:100]}-end",
                session_id=self._session_id,
                mode="after_step",
            )
        )

    # --- turns ---------------------------------------------------------------------------------

    async def _send(self, said: Said, rewind_to: str | None = None) -> RunPlace:
        return await take_turn(
            self._services,
            Turn(
                session_id=self._session_id,
                command_id=self._command_id,
                agent=self._agent,
                text=said.text,
                message_id=said.message_id,
                rewind_to=rewind_to,
                history=self._asked.history,
                instructions=self._asked.instructions,
                tools=self._asked.tools,
                options=self._asked.options,
                cancels=self._asked.cancels,
            ),
        )

    async def _take(self, decisions: tuple[ApprovalDecision, ...]) -> RunPlace:
        return await take_turn(
            self._services,
            Turn(
                session_id=self._session_id,
                command_id=self._command_id,
                decisions=decisions,
                cancels=self._asked.cancels,
            ),
        )

    async def _answer_history(self) -> RunPlace:
        """Go on with a conversation that ends with the result of a call that no run waits for."""
        call_id = self._asked.answers[-1] if self._asked.answers else ""
        return await take_turn(
            self._services,
            Turn(
                session_id=self._session_id,
                command_id=self._command_id,
                agent=self._agent,
                result={"call_id": call_id, "content": self._asked.results.get(call_id, "")},
                history=self._asked.history,
                instructions=self._asked.instructions,
                tools=self._asked.tools,
                options=self._asked.options,
                cancels=self._asked.cancels,
            ),
        )
