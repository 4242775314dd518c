"""The safeguards, and the tests that notice when one is gone."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MUTANTS"]

RULES = "gateway/engines/rules.py"
READS = ("tests/contract/test_engine_read.py",)
COMMANDS = ("tests/contract/test_engine_commands.py",)
PRESENCE = ("tests/sessions/test_presence.py",)

CURSORS = (
    Mutant(
        "a cursor's tag is compared",
        RULES,
        "    if after.tag != tag:\n",
        "    if tag is None:\n",
        READS,
    ),
    Mutant(
        "a cursor's epoch is compared",
        RULES,
        "    if after.epoch != head.tail.epoch:\n",
        "    if not after.epoch:\n",
        READS,
    ),
    Mutant(
        "a cursor before what is kept is refused",
        RULES,
        "    if after.seq < head.start.seq:\n",
        "    if after.seq < 0:\n",
        READS,
    ),
    Mutant(
        "a cursor past the tail is refused",
        RULES,
        "    if after.seq > head.tail.seq:\n",
        "    if after.seq > head.tail.seq + 1_000_000:\n",
        READS,
    ),
    Mutant(
        "each append draws a tag of its own",
        "gateway/engines/stamps.py",
        '    """Return 32 random bits that name one append."""\n    return secrets.token_hex(4)\n',
        '    """Return 32 random bits that name one append."""\n    return "0badf00d"\n',
        ("tests/contract/test_engine_append.py",),
    ),
)

WRITING = (
    Mutant(
        "the fence: only the current claim writes",
        RULES,
        "    if write.fence is not None and write.fence != standing.claim:\n",
        "    if write.fence is not None and standing.claim is None:\n",
        COMMANDS,
    ),
    Mutant(
        "the nonce of a claim is compared",
        RULES,
        "    if write.fence is not None and write.fence != standing.claim:\n",
        "    if write.fence is not None and (\n"
        "        standing.claim is None or write.fence.attempt != standing.claim.attempt\n"
        "    ):\n",
        COMMANDS,
    ),
    Mutant(
        "nobody claims what somebody has claimed",
        RULES,
        "    if write.claim is not None and write.fence is None and standing.claim is not None:\n",
        "    if write.claim is not None and not standing.digest:\n",
        COMMANDS,
    ),
    Mutant(
        "a command that comes twice has one effect",
        RULES,
        "    if write.answer is not None and remembered is not None:\n",
        "    if write.answer is not None and remembered is not None and write.create is not None:\n",
        COMMANDS,
    ),
    Mutant(
        "the same command id with another body is a conflict",
        RULES,
        "        if write.answer.digest != remembered.digest:\n",
        "        if not remembered.digest:\n",
        COMMANDS,
    ),
    Mutant(
        "a session that was deleted stays deleted",
        "gateway/engines/memory.py",
        "        if session_id in self._gone:\n            raise SessionGone(session_id)\n",
        "        if session_id in ():\n            raise SessionGone(session_id)\n",
        READS,
    ),
    Mutant(
        "one job that fails does not take the others of its transaction along",
        "gateway/engines/sqlite/writer.py",
        "        return [outcome for job in jobs for outcome in self._commit([job])]\n",
        '        return [_Failed(EngineUnavailable("one failed")) for _ in jobs]\n',
        ("tests/engines/test_sqlite_writer.py",),
    ),
)

WAKING = (
    Mutant(
        "readers are woken by a commit",
        "gateway/engines/sqlite/engine.py",
        "            self._recent.put(before, appended.entries)\n"
        "            self._bell.ring(session_id)\n",
        "            self._recent.put(before, appended.entries)\n",
        ("tests/contract/test_engine_wait.py",),
    ),
    Mutant(
        "a reader that was not woken looks again by itself",
        "gateway/log/bell.py",
        "            self._ticker = loop.call_later(WAIT_LIMIT, self.ring_all)\n",
        "            self._ticker = loop.call_later(3600, self.ring_all)\n",
        ("tests/log/test_bell.py",),
    ),
    Mutant(
        "the cache of recent entries has no holes",
        "gateway/log/recent.py",
        "        if window is None or window.tail != before:\n",
        "        if window is None:\n",
        ("tests/log/test_recent.py",),
    ),
)

STREAMS = (
    Mutant(
        "who comes back over SSE is known by its last event",
        "gateway/transports/negotiate.py",
        "    return parse_after(last_event_id or after)\n",
        "    return parse_after(after or last_event_id)\n",
        ("tests/transport/test_sse.py",),
    ),
    Mutant(
        "the first frame of SSE says where the client stands",
        "gateway/transports/sse.py",
        '    await response.write(first + (b"\\n" if start is None else id_frame(str(start))))\n',
        '    await response.write(first + b"\\n")\n',
        ("tests/transport/test_sse.py",),
    ),
    Mutant(
        "control objects have no id on SSE",
        "gateway/transports/sse.py",
        "    if control.is_reset and control.position is not None:\n",
        "    if control.position is not None:\n",
        ("tests/transport/test_sse.py",),
    ),
    Mutant(
        "a reader whose cursor cannot be served is reset, and does not just go on",
        "gateway/transports/reading.py",
        "                    position, reason = None, error.reason\n",
        "                    position, reason = (await self._engine.head(self._session_id)).tail, error.reason\n",
        ("tests/transport/test_reading.py",),
    ),
    Mutant(
        "clients are told different times to come back",
        "gateway/transports/stream.py",
        "    return random.randint(*_RETRY_MS)",
        "    return _RETRY_MS[0]",
        ("tests/transport/test_sse.py", "tests/transport/test_drain.py"),
    ),
    Mutant(
        "a client that takes no byte is cut",
        "gateway/transports/outlet.py",
        "                elif now - self._progress_at >= patience:\n",
        "                elif now - self._progress_at >= patience * 1000:\n",
        ("tests/transport/test_slow_clients.py",),
    ),
    Mutant(
        "little waits in the server for a slow client",
        "gateway/transports/outlet.py",
        "        if self._held() > self._limit:\n",
        "        if self._held() > self._limit * 1000:\n",
        ("tests/transport/test_slow_clients.py",),
    ),
    Mutant(
        "pages of other origins are refused",
        "gateway/http/guard.py",
        "    if not _is_own(origin, name, port, loopback=loopback):\n",
        "    if not origin:\n",
        ("tests/http/test_guard.py",),
    ),
)

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

KEEPING = (
    Mutant(
        "the log of an active run is not trimmed",
        "gateway/sessions/retention.py",
        "        if excess.active:\n",
        "        if not excess.session_id:\n",
        ("tests/sessions/test_retention.py",),
    ),
    Mutant(
        "a trimmed log begins with a state",
        "gateway/sessions/retention.py",
        "        await self._engine.trim(excess.session_id, through, store(state))\n",
        "        await self._engine.trim(excess.session_id, through)\n",
        ("tests/sessions/test_retention.py",),
    ),
    Mutant(
        "answers are remembered for a day",
        "gateway/sessions/retention.py",
        "LIFETIMES = Lifetimes(answers=25 * HOUR_MS,",
        "LIFETIMES = Lifetimes(answers=HOUR_MS,",
        ("tests/sessions/test_retention.py",),
    ),
    Mutant(
        "two servers never use one directory",
        "gateway/engines/sqlite/lock.py",
        "        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)\n",
        ("tests/engines/test_sqlite.py",),
    ),
    Mutant(
        "nobody hears of an entry before its commit",
        "gateway/engines/sqlite/writer.py",
        '                self._db.execute("COMMIT")\n                return outcomes\n',
        "                self._loop.call_soon_threadsafe(_deliver, jobs, outcomes)\n"
        '                __import__("time").sleep(0.05)\n'
        '                self._db.execute("COMMIT")\n                return outcomes\n',
        ("tests/engines/test_sqlite_writer.py",),
    ),
    Mutant(
        "a reader that looks at the store cannot miss a commit meanwhile",
        "gateway/engines/sqlite/engine.py",
        "            if seq is not None and seq <= after.seq:\n                await ring\n",
        "            if seq is not None and seq <= after.seq:\n"
        "                await self._bell.wait(session_id)\n",
        ("tests/engines/test_sqlite_writer.py", "tests/contract/test_engine_wait.py"),
    ),
)

CLIENTS = (
    Mutant(
        "a client notices a hole",
        "gateway/client/resume.py",
        "        if self.cursor is None or (self._seq is not None and seq > self._seq + 1):\n",
        "        if self.cursor is None:\n",
        ("tests/client/test_vectors.py",),
    ),
    Mutant(
        "a client drops what comes twice",
        "gateway/client/resume.py",
        "        if self._seq is not None and seq <= self._seq:\n",
        "        if self._seq is not None and seq < 0:\n",
        ("tests/client/test_vectors.py",),
    ),
    Mutant(
        "a client's cursor is that of what was applied, not of what came",
        "gateway/client/resume.py",
        '        self._taken = Entry(seq, frame["cursor"], frame["type"], frame)\n',
        '        self._taken = Entry(seq, frame["cursor"], frame["type"], frame)\n'
        '        self.cursor = frame["cursor"]\n',
        ("tests/client/test_following.py",),
    ),
    Mutant(
        "clients come back at different times, the first time, too",
        "gateway/client/backoff.py",
        "        return max(self.at_least, dice * self.at_most)\n",
        "        return max(self.at_least, self.at_most)\n",
        ("tests/client/test_vectors.py",),
    ),
    Mutant(
        "a command is sent again under the same id",
        "gateway/client/pending.py",
        "        if passes(ending.status):\n            return",
        '        if passes(ending.status):\n            self.body["id"] = self.id + "x"\n            return',
        ("tests/client/test_vectors.py",),
    ),
    Mutant(
        "the page's client waits a random time",
        "static/js/backoff.js",
        "  return random() * Math.min(",
        "  return Math.min(",
        ("tests/client/test_vectors.py",),
    ),
)

POSTGRES = (
    Mutant(
        "what was sent on a connection that was given up is not done later",
        "gateway/engines/postgres/migrations/0001_append.sql",
        "    IF EXISTS (SELECT FROM retired WHERE lane = p_lane) THEN\n",
        "    IF false THEN\n",
        ("tests/engines/test_postgres_appender.py",),
    ),
    Mutant(
        "an append whose wait for a standby was cancelled is not acknowledged",
        "gateway/engines/postgres/lane.py",
        "        elif self._is_doubtful:\n",
        "        elif False:\n",
        ("tests/engines/test_postgres_synchronous.py",),
    ),
    Mutant(
        "two nodes do not wait for each other when they look for runs",
        "gateway/engines/postgres/leases.py",
        "    FOR NO KEY UPDATE SKIP LOCKED\n",
        "    FOR NO KEY UPDATE\n",
        ("tests/engines/test_postgres_leases.py",),
    ),
    Mutant(
        "what was fetched is put behind what is known only if it belongs there",
        "gateway/engines/postgres/rings.py",
        "    if tail.epoch != known.epoch or found.tag != known.tag:\n",
        "    if tail.epoch != known.epoch:\n",
        ("tests/engines/test_postgres_rings.py",),
    ),
    Mutant(
        "a commit of this process does not bridge what others wrote before it",
        "gateway/engines/postgres/rings.py",
        "        if known is None or known == before:\n",
        "        if True:\n",
        ("tests/engines/test_postgres_rings.py",),
    ),
    Mutant(
        "a head with another tag is another history",
        "gateway/engines/postgres/heads.py",
        " or row[5] != known.tag or row[1] != known.epoch:\n",
        " or row[1] != known.epoch:\n",
        ("tests/engines/test_postgres_following.py",),
    ),
    Mutant(
        "all is looked at when hints come again",
        "gateway/engines/postgres/hints.py",
        "            self._connected()\n",
        "            pass\n",
        ("tests/engines/test_postgres_hints.py",),
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

MUTANTS: tuple[Mutant, ...] = (
    *CURSORS,
    *WRITING,
    *WAKING,
    *STREAMS,
    *RUNS,
    *NODES,
    *ELSEWHERE,
    *POSTGRES,
    *KEEPING,
    *CLIENTS,
)
