"""Of runs, on one machine and on several."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["ELSEWHERE", "NODES", "RUNS"]

PRESENCE = ("tests/sessions/test_presence.py",)

RUNS = (
    Mutant(
        "what a run says after its end is refused",
        "gateway/sessions/folded.py",
        "        if claim != self.claim:\n            raise Fenced",
        "        if claim is None:\n            raise Fenced",
        ("tests/sessions/test_runs.py", "tests/sessions/test_cancel.py"),
    ),
    Mutant(
        "a run that lost a delta to a failing store goes no further",
        "gateway/sessions/writer.py",
        "                    self._broken = claim  # there may be a hole: the run must not go on\n",
        "                    pass\n",
        ("tests/sessions/test_runs.py",),
    ),
    Mutant(
        "a cancel closes what is open",
        "gateway/sessions/decide/ends.py",
        "    return (*state.open.closing(CANCELLED), cancelled)\n",
        "    return (cancelled,)\n",
        ("tests/sessions/test_cancel.py",),
    ),
    Mutant(
        "a command is obeyed even if its caller goes away",
        "gateway/sessions/manager.py",
        "in_time(self._command_timeout, asyncio.shield(task))\n",
        "in_time(self._command_timeout, task)\n",
        ("tests/sessions",),
    ),
    Mutant(
        "a run is given up when three attempts have died",
        "gateway/sessions/decide/take_over.py",
        "    if died >= MAX_ATTEMPTS:\n",
        "    if died >= MAX_ATTEMPTS * 1000:\n",
        ("tests/sessions/test_takeover.py",),
    ),
    Mutant(
        "a hand-over is no death",
        "gateway/sessions/decide/take_over.py",
        "    died = run.attempt - run.handed_over\n",
        "    died = run.attempt\n",
        ("tests/sessions/test_survive_hand_over.py",),
    ),
    Mutant(
        "what could not be handed over is not kept either",
        "gateway/sessions/leases.py",
        "        await self.aclose()\n        await self.drop()\n",
        "",
        ("tests/sessions/test_nodes_outage.py",),
    ),
    Mutant(
        "nothing begins in a server that stops",
        "gateway/sessions/gate.py",
        "        if self._open.is_set() or not isinstance(event, BEGINNINGS):\n",
        "        if self._open.is_set() or isinstance(event, BEGINNINGS):\n",
        ("tests/sessions/test_survive_hand_over.py",),
    ),
    Mutant(
        "a process renews the claims of its runs",
        "gateway/sessions/leases.py",
        "                await self._renew()\n",
        "                pass\n",
        ("tests/sessions/test_survive_leases.py",),
    ),
    Mutant(
        "a run that goes on elsewhere is stopped here",
        "gateway/sessions/leases.py",
        "            await session.look()\n",
        "            pass\n",
        ("tests/sessions/test_survive_leases.py",),
    ),
    Mutant(
        "runs that nobody works on are looked for now and then",
        "gateway/sessions/leases.py",
        "            self._look_now.clear()\n            await self._look()\n",
        "            self._look_now.clear()\n",
        ("tests/sessions/test_survive_leases.py",),
    ),
    Mutant(
        "a tool that had started is not run again unless it may be",
        "runtime/agent/plan.py",
        "    if started and (tool is None or not tool.repeatable):\n",
        "    if started and tool is None:\n",
        ("tests/sessions/test_survive_hand_over.py",),
    ),
    Mutant(
        "a run that nobody follows any more ends if it was begun so",
        "gateway/sessions/decide/leave.py",
        "        if has_lasted(seconds):\n",
        "        if has_lasted(seconds + 3600):\n",
        ("tests/sessions/test_controllers.py",),
    ),
    Mutant(
        "a server that stops does not take its clients for gone",
        "gateway/sessions/controllers.py",
        "        self._stopped = True\n",
        "        self._stopped = False\n",
        ("tests/sessions/test_controllers.py",),
    ),
)

NODES = (
    Mutant(
        "an append says where the log ends that it was decided on",
        "gateway/sessions/appends.py",
        "        expect=state.position,\n",
        "        expect=None,\n",
        ("tests/sessions/test_nodes_commands.py",),
    ),
    Mutant(
        "a command is decided on all that other nodes have written",
        "gateway/sessions/writer.py",
        "            if tries or turn.looks or self._engine.shared:\n",
        "            if tries or turn.looks:\n",
        ("tests/sessions/test_nodes_commands.py",),
    ),
    Mutant(
        "what was done and not acknowledged is not said again",
        "gateway/sessions/catching_up.py",
        "        return before == self.write.expect and bool(bodies) and found == [*bodies]\n",
        "        return False\n",
        ("tests/sessions/test_nodes_outage.py",),
    ),
    Mutant(
        "what was not done is said again",
        "gateway/sessions/catching_up.py",
        "        return before == self.write.expect and bool(bodies) and found == [*bodies]\n",
        "        return True\n",
        ("tests/sessions/test_nodes_outage.py",),
    ),
    Mutant(
        "a node with a run follows what other nodes decide about it",
        "gateway/sessions/working.py",
        "        if self._engine.shared and self._watching is None:\n",
        "        if self._engine.shared and self._watching is not None:\n",
        ("tests/sessions/test_nodes_commands.py",),
    ),
    Mutant(
        "a run waits for a store that several nodes share",
        "gateway/sessions/writer.py",
        "                if not self._engine.shared or self._closed or isinstance(error, EngineClosed):\n",
        "                if self._engine.shared:\n",
        ("tests/sessions/test_nodes_outage.py",),
    ),
    Mutant(
        "a run whose log lost what it had said does not go on",
        "gateway/sessions/folded.py",
        "            self._torn = news.claim\n",
        "            self._torn = None\n",
        ("tests/sessions/test_nodes_outage.py",),
    ),
    Mutant(
        "a session whose log is replaced while it is loaded is loaded anew",
        "gateway/sessions/loading.py",
        "        with suppress(CursorInvalid):\n",
        "        with suppress():\n",
        ("tests/sessions/test_nodes_outage.py",),
    ),
    Mutant(
        "a node that stops lets go of its own claims alone",
        "gateway/sessions/leases.py",
        "if (own := held.own_claim)}\n",
        "if (own := held.claim)}\n",
        ("tests/sessions/test_nodes_take_over.py",),
    ),
    Mutant(
        "a run that waited for a node costs no attempt",
        "gateway/sessions/decide/take_over.py",
        '    if reason == "handed_over" and run.released != run.attempt:\n',
        '    if reason == "handed_over" and run.released == run.attempt:\n',
        ("tests/sessions/test_nodes_places.py",),
    ),
    Mutant(
        "a session with many inputs does not keep its place while others wait",
        "gateway/sessions/room.py",
        "(self.others_wait and not waited)",
        "(self.others_wait and waited)",
        ("tests/sessions/test_nodes_places.py",),
    ),
    Mutant(
        "nothing begins under a claim that nobody renewed for long",
        "gateway/sessions/leases.py",
        "            session.hold()\n",
        "            pass\n",
        ("tests/sessions/test_nodes_outage.py",),
    ),
)

ELSEWHERE = (
    Mutant(
        "a run is kept by who is connected to another node",
        "gateway/sessions/controllers.py",
        "        if self._is_attended() or (self._elsewhere is not None and self._elsewhere.is_attended):\n",
        "        if self._is_attended():\n",
        PRESENCE,
    ),
    Mutant(
        "nodes have a beat's time to say who is there",
        "gateway/sessions/presence.py",
        "            self._judged_from = self._presence.next_certain()\n",
        "            self._judged_from = 0.0\n",
        PRESENCE,
    ),
    Mutant(
        "after an outage nodes have time again to say who is there",
        "gateway/sessions/presence.py",
        "        self.certain_from = self.next_certain()\n",
        "        self.certain_from = 0.0\n",
        PRESENCE,
    ),
    Mutant(
        "a node that stops does not say that its clients have left",
        "gateway/sessions/presence.py",
        "        if gone and not self._stopped:\n",
        "        if gone:\n",
        PRESENCE,
    ),
    Mutant(
        "the store is told which sessions are judged",
        "gateway/sessions/appends.py",
        "        judged=judged_after(state, decided.events),\n",
        "        judged=None,\n",
        PRESENCE,
    ),
    Mutant(
        "a reader waits for a store that is away",
        "gateway/log/follow.py",
        "            if outage.failed(now):\n                yield StoreAway()\n",
        "            raise\n",
        ("tests/log/test_follow.py",),
    ),
    Mutant(
        "a client's streams hear of what was subscribed to on another node",
        "gateway/transports/listeners.py",
        "            if engine.shared and client.watching is None:\n",
        "            if engine.shared and client.watching is not None:\n",
        ("tests/transport/test_nodes_clients.py",),
    ),
    Mutant(
        "a stop that overtakes its run is known on every node",
        "gateway/frontends/agui/routes.py",
        "        return await self._notes.get(key) == _STOP\n",
        "        return await self._notes.get(key) == key[0]\n",
        ("tests/frontends/test_nodes_state.py",),
    ),
    Mutant(
        "a command does not wait for ever for a store that does not answer",
        "gateway/log/outage.py",
        "        async with asyncio.timeout(seconds):\n",
        "        async with asyncio.timeout(seconds * 1000):\n",
        ("tests/transport/test_nodes_outage.py",),
    ),
)
