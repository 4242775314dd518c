"""Clients that cannot answer a human's question: what they say in the meantime is refused at once."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.codecs.waiting import waits_for_human
from runtime.events import ApprovalRequested, RunInterrupted
from tests.frontends.serving import ask, serving
from tests.support.puppet import Part, Puppet

MESSAGES = [{"role": "user", "content": "x"}]
# The path, the body, and the status of the run that waits.
WIRES = {
    "Stratus": ("/chat", {"message": "x", "session_id": "s"}, 200),
    "Sekuire": ("/chat/stream", {"message": "x", "session_id": "s"}, 200),
    "Agentlang": ("/agents/assistant", {"message": "x", "session_id": "s"}, 409),
    "AgentMesh": ("/api/graph/stream", {"messages": MESSAGES, "session_id": "s"}, 200),
}


async def _waiting(part: Part) -> None:
    await part.emit(ApprovalRequested(run_id=part.run_id, approval_id="apr_1", node="n"))
    await part.emit(RunInterrupted(run_id=part.run_id, reason="r", pending=("apr_1",)))


@pytest.mark.parametrize(("path", "body", "status"), WIRES.values(), ids=WIRES)
async def test_what_is_said_while_a_run_waits_for_a_human_is_refused_and_not_kept_waiting(
    path: str, body: dict[str, Any], status: int
) -> None:
    async with serving(Puppet(_waiting, "assistant")) as place:
        await ask(place, path, body, Idempotency_Key="first")
        refused, text = await ask(place, path, body, Idempotency_Key="second")
        again, _ = await ask(place, path, body, Idempotency_Key="first")
        snapshot = await place.manager.snapshot("s")
    assert refused.status == 409
    assert waits_for_human("s") in orjson.loads(text).values()
    assert again.status == status, "the same request again finds its run"
    assert not snapshot.queue
    assert [message.role for message in snapshot.messages] == ["user"]
