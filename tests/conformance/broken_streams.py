"""Servers whose logs and streams are broken in one thing each. The docstring says what they do."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from tests.conformance.proxy import Asked, Honest, Reply, Where

Object = dict[str, Any]
STREAMS = {"sse", "client", "ndjson", "websocket"}


class DropsAnEvent(Honest):
    """Its SSE streams leave out the sixth event of each log."""

    rule = "log.order"

    def objects(self, where: Where, data: Object) -> list[Object]:
        return [] if where == "sse" and data.get("seq") == 6 else [data]


class RepeatsAnEvent(Honest):
    """Its SSE streams have the sixth event twice."""

    rule = "sse.resume"

    def objects(self, where: Where, data: Object) -> list[Object]:
        return [data] * (1 + (where == "sse" and data.get("seq") == 6))


class SwapsTwoEvents(Honest):
    """Its NDJSON streams have the seventh event before the sixth."""

    rule = "resume.no_hole"

    def __init__(self) -> None:
        self._held: list[Object] = []

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where == "ndjson" and data.get("seq") == 6:
            self._held.append(data)
            return []
        held, self._held = self._held, []
        return [data, *held]


class ChangesAByte(Honest):
    """Its WebSockets have blanks in their JSON."""

    rule = "ws.equal"

    def frame(self, where: Where, frame: bytes) -> bytes:
        return frame.replace(b'"v":1,', b'"v": 1,') if where == "websocket" else frame


class RoundsTimes(Honest):
    """Its pages have other times than its streams."""

    rule = "wire.same"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where == "page":
            data["ts"] = data["ts"][:-5] + "Z"
        return [data]


class ForgetsItsWords(Honest):
    """Each time that it reads its log it has other times."""

    rule = "log.immutable"

    def __init__(self) -> None:
        self._reads = 0

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where == "page":
            self._reads += 1
            data["ts"] = f"{data['ts'][:-4]}{self._reads % 1000:03}Z"
        return [data]


class SpeaksBeforeItCommits(Honest):
    """Its streams are one event ahead of its log."""

    rule = "log.commit"

    def answer(self, asked: Asked, reply: Reply) -> None:
        if reply.body.startswith(b'{"events":[{'):
            page = reply.json
            page["events"].pop()
            page["cursor"] = page["events"][-1]["cursor"] if page["events"] else "0"
            reply.json = page


class HasLongCursors(Honest):
    """Its cursors are too long."""

    rule = "cursor.form"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if "cursor" in data:
            data["cursor"] += "0" * 64
        return [data]


class EndsTwice(Honest):
    """It completes a run that it has completed."""

    rule = "run.one_end"

    def objects(self, where: Where, data: Object) -> list[Object]:
        return [data] * (1 + (data["type"] == "run.completed")) if where == "page" else [data]


class LeavesToolsOpen(Honest):
    """It does not say that a tool is done."""

    rule = "run.boundaries"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where != "snapshot" and data["type"] == "tool.completed":
            data["type"] = "tool.was_done"
        return [data]


class LosesThePath(Honest):
    """What a graph's node says has the path of the graph."""

    rule = "path.below"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where != "snapshot" and data["type"] == "message.completed":
            data["path"] = data["path"][:1]
        return [data]


class SkipsANode(Honest):
    """It does not say that nodes begin."""

    rule = "graph.run"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where != "snapshot" and data["type"] == "node.started":
            data["type"] = "node.was_begun"
        return [data]


class HidesNodes(Honest):
    """Its snapshots show no nodes."""

    rule = "snapshot.nodes"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where == "snapshot" and data.get("run"):
            data["run"].pop("nodes", None)
        return [data]


class HoldsTheFirstWord(Honest):
    """It waits for more before it says the first word."""

    rule = "delta.coalesce"

    def __init__(self) -> None:
        self._speaking: set[str] = set()

    async def pace(self, where: Where, data: Object) -> None:
        if data["type"] == "message.delta" and data["message_id"] not in self._speaking:
            self._speaking.add(data["message_id"])
            await asyncio.sleep(2.0)


class DisownsItsParent(Honest):
    """A run that goes on does not say from which."""

    rule = "run.continued"

    def objects(self, where: Where, data: Object) -> list[Object]:
        data.pop("parent_run_id", None)
        return [data]


class NamesControlFrames(Honest):
    """Its control frames have an id."""

    rule = "control.no_id"

    def frame(self, where: Where, frame: bytes) -> bytes:
        is_control = where == "sse" and b'"type":"stream.' in frame
        return b"id: somewhere.1.else\n" + frame if is_control else frame


class NumbersControlObjects(Honest):
    """Its control objects have a seq."""

    rule = "control.no_id"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where != "snapshot" and data["type"].startswith("stream."):
            data["seq"] = 1
        return [data]


class LosesHeaders(Honest):
    """It does not tell proxies to leave its streams alone."""

    rule = "sse.headers"

    def head(self, asked: Asked, headers: dict[str, str]) -> None:
        del headers["X-Accel-Buffering"]


class CompressesStreams(Honest):
    """It compresses its streams."""

    rule = "sse.headers"

    def head(self, asked: Asked, headers: dict[str, str]) -> None:
        headers["Content-Encoding"] = "gzip"


class HasNoPrime(Honest):
    """Its streams begin without an id."""

    rule = "sse.prime"

    def frame(self, where: Where, frame: bytes) -> bytes:
        return frame.partition(b"id:")[0] + b"\n" if frame.startswith(b"retry:") else frame


class CallsAllBackAtOnce(Honest):
    """All of its clients are to come back at the same time."""

    rule = "sse.prime"

    def frame(self, where: Where, frame: bytes) -> bytes:
        return frame.replace(frame.split(b"\n")[0], b"retry: 2000") if b"retry:" in frame else frame


class NamesItsFrames(Honest):
    """Its frames have an event name that nobody asked for."""

    rule = "sse.frame"

    def frame(self, where: Where, frame: bytes) -> bytes:
        return b"event: message\n" + frame if where == "sse" and b"data:" in frame else frame


class ForgetsWhereItWas(Honest):
    """It passes over `Last-Event-ID`."""

    rule = "sse.resume"

    def ask(self, asked: Asked) -> None:
        asked.headers.pop("Last-Event-ID", None)


class HidesWhatIsGone(Honest):
    """It does not tell a session that was deleted from one that never was."""

    rule = "sse.end"

    def answer(self, asked: Asked, reply: Reply) -> None:
        reply.status = 404 if reply.status == 410 else reply.status


class NamesFramesOfMany(Honest):
    """The frames of a client's stream have the id of one session."""

    rule = "sse.many"

    def frame(self, where: Where, frame: bytes) -> bytes:
        return b"id: a.1.b\n" + frame if where == "client" and b"data:" in frame else frame


class HangsUpOnNonsense(Honest):
    """It closes a WebSocket on which it does not understand something."""

    rule = "ws.bad_input"

    def message(self, text: str) -> str | None:
        try:
            orjson.loads(text)
        except ValueError:
            return None
        return text


class Deflates(Honest):
    """It compresses each message of a WebSocket."""

    rule = "ws.heartbeat"
    compress = True


class GoesOnInSilence(Honest):
    """A cursor that cannot be served is taken for "only what comes next"."""

    rule = "reset.honest"

    def objects(self, where: Where, data: Object) -> list[Object]:
        return [] if data.get("reason") in {"fork", "epoch_changed", "cursor_ahead"} else [data]


class ReplaysAll(Honest):
    """A reader without a cursor gets the whole log."""

    rule = "join.late"

    def ask(self, asked: Asked) -> None:
        if asked.path.endswith("/events") and "Last-Event-ID" not in asked.headers:
            asked.path += "?after=0"


class SkipsOnResume(Honest):
    """A reader that comes back with a cursor misses the event after it."""

    rule = "resume.exact"

    def __init__(self) -> None:
        self._resumes = False

    def ask(self, asked: Asked) -> None:
        is_stream = asked.headers.get("Accept") in {"text/event-stream", "application/x-ndjson"}
        if is_stream and "after=" in asked.path and "after=0" not in asked.path:
            self._resumes = True

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where in STREAMS and self._resumes and "seq" in data:
            self._resumes = False
            return []
        return [data]


class LosesAMessage(Honest):
    """Its snapshots do not have the last message."""

    rule = "snapshot.fold"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where == "snapshot":
            data["messages"] = data["messages"][:-1]
        return [data]


class LetsTheSlowWait(Honest):
    """While one client is slow, nobody hears anything."""

    rule = "slow.isolated"

    async def pace(self, where: Where, data: Object) -> None:
        if data["type"] == "run.completed" and len(data["output"]) > 100_000:
            await asyncio.sleep(10)


class SaysNothing(Honest):
    """Its streams stay silent; it does not hang whoever waits for them."""

    rule = "join.late"

    def frame(self, where: Where, frame: bytes) -> bytes:
        return b""
