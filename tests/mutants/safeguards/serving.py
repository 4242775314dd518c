"""Of transports, frontends and client libraries."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["CLIENTS", "KEEPING", "STREAMS"]


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
        "                    if self._idle >= patience:\n",
        "                    if self._idle >= patience * 1000:\n",
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
