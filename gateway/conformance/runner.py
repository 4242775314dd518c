"""Runs checks: side by side, each within its time, those that need a restart last."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence

from gateway.conformance.check import (
    Broken,
    Check,
    NotChecked,
    NotObservable,
    Phase,
    Result,
)
from gateway.conformance.streams import Ended
from gateway.conformance.target import Target

__all__ = ["judge"]

AT_ONCE = 8
"""Checks that run side by side; slow ones wait more than they work, and are not counted."""

RESTART_SECONDS = 60.0
"""What a server gets to stop and to be ready again."""

STOP_MARGIN = 30.0
"""Seconds beside that for what comes before and after."""

SIGNALS: dict[Phase, str] = {"stop": "TERM", "kill": "KILL"}


async def judge(
    target: Target,
    checks: Sequence[Check],
    *,
    quick: bool = False,
    restart: str | None = None,
    tell: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run checks, and return what came of each, in their order.

    Args:
        target: The server.
        checks: Which.
        quick: Whether slow ones are left out.
        restart: A shell command that sends the server the signal `$SIGNAL` and starts it again.
        tell: Called with each result as it comes.
    """
    found: dict[Check, Result] = {}
    free = asyncio.Semaphore(AT_ONCE)

    async def one(check: Check) -> None:
        why = _why_not(target, check, quick=quick, restart=restart)
        if why:
            found[check] = Result(check, "not checked", reason=why)
        elif check.slow or check.phase != "any":
            found[check] = await _run(target, check)
        else:
            async with free:
                found[check] = await _run(target, check)
        tell(found[check])

    for phase in ("any", "stop", "kill"):
        due = [check for check in checks if check.phase == phase]
        pause = _Pause(target, restart or "", SIGNALS.get(phase, ""), len(due))
        target.restart = pause.wait
        async with asyncio.TaskGroup() as tasks:
            for check in sorted(due, key=lambda each: not each.slow):
                task = tasks.create_task(one(check))
                task.add_done_callback(pause.leave)
    return [found[check] for check in checks]


def _why_not(target: Target, check: Check, *, quick: bool, restart: str | None) -> str:
    """Return why a check cannot run; empty if it can."""
    for role in check.needs:
        if role not in target.agents:
            return f"needs an agent like `{role}` that the server has; name it with --{role} NAME"
    if quick and check.slow:
        return "takes longer than a few seconds; run it without --quick"
    if restart is None and check.phase != "any":
        return "needs the server to be restarted; see --restart"
    return ""


async def _run(target: Target, check: Check) -> Result:
    began = time.monotonic()
    limit = check.limit + (0 if check.phase == "any" else RESTART_SECONDS + STOP_MARGIN)
    try:
        async with asyncio.timeout(limit):
            await check.run(target)
    except Exception as error:  # noqa: BLE001 - whatever a server says, a check has a result
        return _result(check, _first(error), time.monotonic() - began)
    return Result(check, "holds", time.monotonic() - began)


def _first(error: Exception) -> Exception:
    """Return what went wrong first, of what went wrong side by side."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _result(check: Check, error: Exception, seconds: float) -> Result:
    match error:
        case Broken():
            return Result(check, "broken", seconds, error.expected, error.seen, error.request)
        case NotChecked():
            return Result(check, "not checked", seconds, reason=str(error))
        case NotObservable():
            return Result(check, "not observable", seconds, reason=str(error))
        case Ended():
            return Result(check, "broken", seconds, check.promise, str(error), error.request)
        case TimeoutError():
            seen = f"it was not done in {seconds:.0f} s"
        case OSError():
            seen = f"the connection was lost: {error}"
        case _:
            # An answer may have any shape; this one has another than the rule gives it.
            seen = f"an answer of another shape ({type(error).__name__}: {error})"
    return Result(check, "broken", seconds, check.promise, seen)


class _Pause:
    """Where checks meet before the server is restarted: it is done once, for all of them."""

    def __init__(self, target: Target, command: str, signal: str, members: int) -> None:
        self._target = target
        self._command = command
        self._signal = signal
        self._members = members
        self._waiting = 0
        self._restarting: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()

    async def wait(self) -> None:
        """Return once the server was restarted, and is ready.

        Raises:
            NotChecked: If the command fails, or the server does not come back.
        """
        self._waiting += 1
        self._look()
        await self._begun.wait()
        assert self._restarting is not None  # noqa: S101 - begun means that
        await asyncio.shield(self._restarting)

    def leave(self, _: object) -> None:
        """Say that a check is over: nobody waits for it."""
        self._members -= 1
        self._look()

    def _look(self) -> None:
        if self._restarting is None and 0 < self._waiting >= self._members:
            self._restarting = asyncio.create_task(self._restart())
            self._begun.set()

    async def _restart(self) -> None:
        process = await asyncio.create_subprocess_shell(
            self._command,
            env={**os.environ, "SIGNAL": self._signal},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(RESTART_SECONDS):
                code = await process.wait()
                if code:
                    raise NotChecked(f"the command of --restart ended with {code}")
                while True:
                    try:
                        (await self._target.ask("GET", "/readyz")).must_be(200)
                        return
                    except Broken:
                        await asyncio.sleep(0.1)
        except TimeoutError:
            raise NotChecked("the server was not ready again within a minute") from None
