"""Drives the pure part of the Python library through the cases of `tests/vectors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gateway.client.backoff import Retry
from gateway.client.endings import Answered, Broken, Closed, Ending, Finished, Nacked, Stop
from gateway.client.items import Entry, Reset
from gateway.client.pending import PendingCommand
from gateway.client.resume import Alive, Drop, Heard, Leave, Resume, RetryField, Up
from gateway.client.transports import TRANSPORTS

__all__ = ["FOLDER", "Case", "cases", "expected", "played"]

FOLDER = Path(__file__).parents[1] / "vectors"

Case = Mapping[str, Any]


def cases() -> list[Case]:
    return [
        case
        for path in sorted(FOLDER.glob("*.yaml"))
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


def expected(case: Case) -> list[list[str]]:
    """Return what is to be done at the beginning, and at each step."""
    commands = any("command" in step for step in case["steps"])
    begins = [] if commands else [f"connect {case.get('after', 'anew')}"]
    return [begins, *(step.get("then", []) for step in case["steps"])]


def played(case: Case) -> list[list[str]]:
    """Return what the library did."""
    commands = any("command" in step for step in case["steps"])
    client = Sender() if commands else Reader(case)
    told = [client.done]
    for step in case["steps"]:
        client.done = []
        client.take(step)
        told.append(client.done)
    return told


def waiting(retry: Retry) -> str:
    return f"wait {retry.seconds(0):g}..{retry.seconds(1):g}"


class Reader:
    """The shell around `Resume`, with a clock that only the case moves."""

    def __init__(self, case: Case) -> None:
        transport = TRANSPORTS[case.get("over", "websocket")]
        self._resume = Resume("s", case.get("after"), heartbeat=transport.heartbeat)
        self._now = 0.0
        self._heard_at = 0.0
        self._up_at: float | None = None
        self._connected = False
        self.done: list[str] = []
        self._connect()

    def _connect(self) -> None:
        self._connected, self._heard_at, self._up_at = True, self._now, None
        self.done.append(f"connect {self._resume.cursor or 'anew'}")

    def take(self, step: Case) -> None:
        match step:
            case {"events": events}:
                for each in events:
                    self._hear(event(each))
            case {"silence": seconds}:
                self._now += seconds
                silence = self._now - self._heard_at
                if self._connected and silence > self._resume.silence_seconds - 1e-9:
                    self._end(Broken())
            case {"quiet": seconds}:
                for _ in range(seconds):
                    self._now += 1
                    self._hear(Alive())
            case {"timer": _}:
                self._connect()
            case {"broken": _} | {"close": _} | {"answer": _} | {"nack": _}:
                self._end(ending(step))
            case _:
                self._hear(heard(step))

    def _hear(self, each: Heard) -> None:
        if not self._connected:
            return
        self._heard_at = self._now
        if isinstance(each, Up):
            self._up_at = self._now
        match self._resume.hear(each):
            case Entry(seq=seq):
                self.done.append(f"apply {seq}")
                self._resume.applied()
            case Reset() as reset:
                self.done.append(f"reset {reset.reason} {reset.cursor}")
                self._resume.applied()
            case Drop(seq):
                self.done.append(f"drop {seq}")
            case Leave(why):
                self._end(why)
            case None:
                pass

    def _end(self, why: Ending) -> None:
        self._connected = False
        lived = 0.0 if self._up_at is None else self._now - self._up_at
        match self._resume.ended(why, lived=lived):
            case Retry() as retry:
                self.done.append(waiting(retry))
            case Stop(error):
                self.done.append(f"stop {error.code}")
            case Finished():
                self.done.append("end")


def event(each: int | Case) -> Mapping[str, Any]:
    it: Case = {"seq": each} if isinstance(each, int) else each
    seq = it["seq"]
    return {
        "type": it.get("type", "custom"),
        "session_id": it.get("session", "s"),
        "seq": seq,
        "cursor": f"{it.get('epoch', 'e')}.{seq}.t",
    }


def heard(step: Case) -> Heard:
    match step:
        case {"up": up}:
            return Up(up.get("heartbeat_s"))
        case {"retry_ms": milliseconds}:
            return RetryField(milliseconds / 1000)
        case {"frame": dict() as frame}:
            return frame
        case {"reset": reset}:
            return {
                "type": "stream.reset",
                "session_id": "s",
                "reason": reset["reason"],
                "cursor": reset["cursor"],
                "snapshot": {"status": reset.get("status", "idle")},
            }
        case {"closing": closing}:
            return {"type": "stream.closing", "session_id": "s", **closing}
        case _:
            raise AssertionError(step)


def ending(step: Case) -> Ending:
    match step:
        case {"close": code}:
            return Closed(code)
        case {"nack": nack}:
            return Nacked(nack["code"], "no", nack.get("retryable", False))
        case _:
            return answer(step)


def answer(step: Case) -> Answered | Broken:
    if "answer" not in step:
        return Broken()
    it = step["answer"]
    return Answered(it["status"], it.get("code", ""), "no", it.get("retry_after"))


class Sender:
    """The shell around `PendingCommand`."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._given = 0
        self._ids: list[str] = []
        self._pending: PendingCommand | None = None

    def take(self, step: Case) -> None:
        if "command" in step:
            self._given += 1
            self._pending = PendingCommand(step["command"], f"fresh{self._given}")
            self._send()
        elif "timer" in step:
            self._send()
        elif step.get("answer", {}).get("status") == 202:
            self.done.append("acked")
        else:
            assert self._pending is not None
            match self._pending.failed(answer(step)):
                case Retry() as retry:
                    self.done.append(waiting(retry))
                case Stop(error):
                    self.done.append(f"refused {error.code}")

    def _send(self) -> None:
        assert self._pending is not None
        identifier = self._pending.body["id"]
        if identifier not in self._ids:
            self._ids.append(identifier)
        self.done.append(f"send {self._ids.index(identifier) + 1}")
