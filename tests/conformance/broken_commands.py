"""Servers whose HTTP and commands are broken in one thing each. The docstring says what they do."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import orjson

from tests.conformance.proxy import Asked, Honest, Proxy, Reply, Where

Object = dict[str, Any]


class RefusesInHtml(Honest):
    """Its refusals are pages for people."""

    rule = "http.problem"

    def answer(self, asked: Asked, reply: Reply) -> None:
        if reply.status >= 400:
            reply.headers["Content-Type"] = "text/html"


class AnswersWith200(Honest):
    """Its refusals have the status 200."""

    rule = "http.problem"

    def answer(self, asked: Asked, reply: Reply) -> None:
        reply.status = 200 if reply.status == 404 else reply.status


class HasItsOwnWords(Honest):
    """Its WebSocket has other codes than its HTTP."""

    rule = "http.problem"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if data.get("type") == "nack":
            data["error"]["code"] = data["error"]["code"].upper()
        return [data]


class TakesForms(Honest):
    """It takes a command as any media type."""

    rule = "http.json_only"

    def ask(self, asked: Asked) -> None:
        if "Content-Type" in asked.headers:
            asked.headers["Content-Type"] = "application/json"


class IgnoresFields(Honest):
    """It passes over fields that it does not know."""

    rule = "http.json_only"

    def ask(self, asked: Asked) -> None:
        if b"unheard_of" in asked.body:
            asked.json = {n: v for n, v in asked.json.items() if n != "unheard_of"}


class WelcomesStrangers(Honest):
    """It does not look at the origin."""

    rule = "origin"

    def ask(self, asked: Asked) -> None:
        asked.headers.pop("Origin", None)


class AnswersToAnyName(Honest):
    """It does not look at the host."""

    rule = "origin"

    def ask(self, asked: Asked) -> None:
        asked.headers.pop("Host", None)


class ObeysTwice(Honest):
    """It takes each command for a new one."""

    rule = "command.once"

    def ask(self, asked: Asked) -> None:
        if asked.path.endswith("/commands") and asked.json and "id" in asked.json:
            asked.json = {**asked.json, "id": secrets.token_hex(8)}


class MakesNothingOfKeys(Honest):
    """It does not know the `Idempotency-Key`."""

    rule = "command.same"

    def ask(self, asked: Asked) -> None:
        if asked.headers.pop("Idempotency-Key", None):
            asked.json = {**asked.json, "id": secrets.token_hex(8)}


class PointsElsewhere(Honest):
    """Its acks have the cursor of nothing."""

    rule = "command.ack"

    def answer(self, asked: Asked, reply: Reply) -> None:
        if reply.status == 202 and "cursor" in (said := reply.json):
            epoch, seq, tag = said["cursor"].split(".")
            reply.json = {**said, "cursor": f"{epoch}.{int(seq) + 1}.{tag}"}


class PromisesToCancel(Honest):
    """It acknowledges a cancel and does nothing."""

    rule = "cancel.bounded"

    def ask(self, asked: Asked) -> Reply | None:
        if not (asked.path.endswith("/commands") and b'"cancel"' in asked.body):
            return None
        ack = {"type": "ack", "id": asked.json["id"], "session_id": "", "run_id": "", "cursor": "0"}
        return Reply(202, {"Content-Type": "application/json"}, orjson.dumps(ack))


class HidesTheCut(Honest):
    """A partial answer looks like a whole one."""

    rule = "cancel.bounded"

    def objects(self, where: Where, data: Object) -> list[Object]:
        data.pop("incomplete", None)
        return [data]


class StopsAtOnce(Honest):
    """It takes `after_step` for `now`."""

    rule = "cancel.after_step"

    def ask(self, asked: Asked) -> None:
        asked.body = asked.body.replace(b"after_step", b"now")


class CancelsWhenAlone(Honest):
    """It ends a run whose client is gone."""

    rule = "disconnect.not_cancel"

    async def left(self, proxy: Proxy, asked: Asked) -> None:
        if asked.path.endswith("/messages"):
            path = asked.path.replace("/messages", "/commands")
            body = {"type": "cancel", "id": secrets.token_hex(8)}
            task = asyncio.create_task(_post(proxy, path, body))
            await asyncio.shield(task)


async def _post(proxy: Proxy, path: str, body: Object) -> None:
    async with proxy.http.post(proxy.upstream + path, json=body):
        pass


class TakesEveryDecision(Honest):
    """It acknowledges decisions that come too late."""

    rule = "approval.shared"

    def answer(self, asked: Asked, reply: Reply) -> None:
        if b"approval_resolved" in reply.body:
            reply.status = 202


class AsksInSecret(Honest):
    """Its snapshots do not have what waits for a human."""

    rule = "approval.shared"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where == "snapshot":
            data["approvals"] = []
        return [data]


class ConfusesNodesWithCalls(Honest):
    """The approval of a node has a call_id."""

    rule = "approval.node"

    def objects(self, where: Where, data: Object) -> list[Object]:
        if where == "snapshot":
            for approval in data["approvals"]:
                approval.setdefault("call_id", "call-1")
        return [data]


class DoesNotSayWhatItWants(Honest):
    """It does not say that it wants the result of a client's tool."""

    rule = "approval.client_tool"

    def objects(self, where: Where, data: Object) -> list[Object]:
        for approval in data["approvals"] if where == "snapshot" else ():
            approval.pop("wants", None)
        return [data]


class ForgetsTheHistory(Honest):
    """Its first event does not have what was said elsewhere."""

    rule = "history.imported"

    def objects(self, where: Where, data: Object) -> list[Object]:
        data.pop("history", None)
        return [data]


class TakesResultsForWords(Honest):
    """The result of a tool becomes a message of the user."""

    rule = "send.result"

    def ask(self, asked: Asked) -> None:
        if b'"result": {"call_id"' in asked.body:
            body = asked.json
            asked.json = {**body, "text": body.pop("result")["content"]}


class NamesMessagesItself(Honest):
    """It does not take the client's message_id."""

    rule = "send.message_id"

    def ask(self, asked: Asked) -> None:
        if asked.path.endswith("/commands") and b'"message_id"' in asked.body:
            asked.json = {name: v for name, v in asked.json.items() if name != "message_id"}


class NeverGoesBack(Honest):
    """It passes over `rewind_to`."""

    rule = "history.rolled_back"

    def ask(self, asked: Asked) -> None:
        if b'"rewind_to"' in asked.body:
            drop = {"rewind_to", "message_id"}
            asked.json = {name: v for name, v in asked.json.items() if name not in drop}


class AlwaysEnqueues(Honest):
    """It takes `rollback` for `enqueue`."""

    rule = "send.policies"

    def ask(self, asked: Asked) -> None:
        asked.body = asked.body.replace(b'"rollback"', b'"enqueue"')


class NeverMindsWhoLeft(Honest):
    """It lets every run go on, whoever has left."""

    rule = "disconnect.cancel_after"

    def ask(self, asked: Asked) -> None:
        if b'"on_disconnect"' in asked.body:
            asked.json = {n: v for n, v in asked.json.items() if n != "on_disconnect"}


class ForksAtTheEnd(Honest):
    """It passes over where a `fork` is to be."""

    rule = "fork.history"

    def ask(self, asked: Asked) -> None:
        if b'"fork"' in asked.body:
            asked.json = {n: v for n, v in asked.json.items() if n != "at"}


class ForgetsWhatItDeleted(Honest):
    """It does not know a session that it deleted."""

    rule = "retention.window"

    def answer(self, asked: Asked, reply: Reply) -> None:
        if reply.status == 410:
            reply.status = 404


class LetsItWait(Honest):
    """It takes `steer` for `enqueue`, and says that it does not."""

    rule = "send.steer"

    def ask(self, asked: Asked) -> None:
        asked.body = asked.body.replace(b'"steer"', b'"enqueue"')

    def objects(self, where: Where, data: Object) -> list[Object]:
        for item in data["queue"] if where == "snapshot" else ():
            item["policy"] = "steer"
        return [data]


class NeverReorders(Honest):
    """It passes over the order of an `edit_queue`."""

    rule = "queue.edit"

    def ask(self, asked: Asked) -> None:
        if b'"edit_queue"' in asked.body:
            asked.json = {name: v for name, v in asked.json.items() if name != "order"}
