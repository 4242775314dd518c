"""Of the log: cursors, writing, waking."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["CURSORS", "WAKING", "WRITING"]

RULES = "gateway/engines/rules.py"
READS = ("tests/contract/test_engine_read.py",)
COMMANDS = ("tests/contract/test_engine_commands.py",)

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
    Mutant(
        "our own readers do not keep the write-ahead log growing",
        "gateway/engines/sqlite/wal.py",
        "            with self._resting():\n",
        "            if self._resting:\n",
        ("tests/engines/test_sqlite_pruning.py",),
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
