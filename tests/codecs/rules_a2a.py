"""What a client of A2A 1.0 relies on, in a stream of one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from a2a.types import StreamResponse
from a2a.utils.proto_utils import validate_proto_required_fields
from google.protobuf.json_format import ParseDict

from gateway.codecs.codec import Frame

TERMINAL = {"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED"}
WAITING = "TASK_STATE_INPUT_REQUIRED"


def parsed(result: dict[str, Any]) -> StreamResponse:
    """Return what the SDK makes of an object; unknown fields and missing ones are errors."""
    response: StreamResponse = ParseDict(result, StreamResponse(), ignore_unknown_fields=False)
    validate_proto_required_fields(response)
    return response


def check_a2a(frames: Sequence[Frame], cut: bool) -> None:
    """Raise AssertionError unless a client may take these as one stream."""
    bodies = [orjson.loads(frame.data) for frame in frames]
    assert all(body["jsonrpc"] == "2.0" for body in bodies)
    assert all(("result" in body) != ("error" in body) for body in bodies)
    errors = [place for place, body in enumerate(bodies) if "error" in body]
    assert errors == ([len(bodies) - 1] if cut else []), "an error ends a stream that was cut"
    results = [body["result"] for body in bodies if "result" in body]
    for result in results:
        parsed(result)
    check_order([next(iter(result.items())) for result in results], ended=not cut)


def check_order(told: Sequence[tuple[str, dict[str, Any]]], *, ended: bool) -> None:
    """Check what was told: one task first, then updates, and an end that is the last."""
    kinds = [kind for kind, _ in told]
    assert kinds[:1] == ["task"][: len(kinds)], "the task comes first"
    assert "task" not in kinds[1:]
    assert "message" not in kinds
    _check_states(told, ended=ended)
    _check_artifacts(told)
    if told:
        ids = {(it.get("taskId") or it["id"], it["contextId"]) for _, it in told}
        assert len(ids) == 1, "one task"


def _check_states(told: Sequence[tuple[str, dict[str, Any]]], *, ended: bool) -> None:
    states = [it["status"]["state"] for kind, it in told if kind != "artifactUpdate"]
    over = [place for place, state in enumerate(states) if state in TERMINAL]
    assert over in ([], [len(states) - 1]), "one end, and nothing after it"
    if over:
        assert told[-1][0] in {"statusUpdate", "task"}, "the end is the last that is told"
    if ended:
        assert states[-1] in {*TERMINAL, WAITING}
    stamps = [it["status"]["timestamp"] for kind, it in told if kind != "artifactUpdate"]
    assert stamps == sorted(stamps)


def _check_artifacts(told: Sequence[tuple[str, dict[str, Any]]]) -> None:
    known: set[str] = set()
    done: set[str] = set()
    if told and told[0][0] == "task":
        known = {artifact["artifactId"] for artifact in told[0][1].get("artifacts", ())}
    for kind, it in told:
        if kind != "artifactUpdate":
            continue
        artifact_id = it["artifact"]["artifactId"]
        if it.get("append"):
            assert artifact_id in known, "there is nothing yet to append to"
            assert artifact_id not in done, "the last chunk was told"
        known.add(artifact_id)
        if it.get("lastChunk"):
            done.add(artifact_id)
