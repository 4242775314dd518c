"""AgentMesh: golden bytes of `POST /api/graph/stream`, one for each row of its table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.codecs.codec import Projection
from gateway.codecs.framing import line, sse
from gateway.codecs.sources.agentmesh import NOTHING, AgentMeshCodec
from runtime.events import (
    Custom,
    ErrorInfo,
    Event,
    MessageDelta,
    NodeCompleted,
    NodeFailed,
    NodeUpdate,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from runtime.messages import Usage
from tests.codecs.telling import entries_of, told

R, P = "run_1", ("flow",)
GRAPH = RunStarted(run_id=R, path=P, graph="flow")
AGENT = RunStarted(run_id=R, path=("bot",), agent="bot")


def completed(**more: Any) -> RunCompleted:
    return RunCompleted(
        run_id=R, path=P, usage=Usage(), message_count=0, num_turns=0, **{"output": "done", **more}
    )


def results(*events: Event) -> list[dict[str, Any]]:
    return [json.loads(text) for text in told(AgentMeshCodec(), *events, style=line).splitlines()]


@pytest.mark.rows("A33", "A37")
def test_a_run_is_told_as_the_results_of_a_graph() -> None:
    stream = told(
        AgentMeshCodec(),
        GRAPH,
        NodeUpdate(run_id=R, path=P, node="process", updates={"progress": 0.5}),
        NodeCompleted(
            run_id=R, path=P, node="process", updates={"status": "complete"}, duration_ms=1
        ),
        NodeCompleted(run_id=R, path=P, node="idle", duration_ms=1),
        completed(final_output={"n": 1}, last_node="process"),
    )
    assert stream == (
        b'data: {"Node":"process","Updates":{"progress":0.5},"Output":null}\n\n'
        b'data: {"Node":"process","Updates":{"status":"complete"},"Output":null}\n\n'
        b'data: {"Node":"idle","Updates":null,"Output":null}\n\n'
        b'data: {"Node":"process","Updates":null,"Output":{"n":1}}\n\n'
    )


@pytest.mark.rows("A33")
def test_as_lines_each_result_parses_alone() -> None:
    events: list[Event] = [
        GRAPH,
        completed(),
        RunFailed(run_id=R, error=ErrorInfo(code="x", message="no\nway")),
    ]
    assert told(AgentMeshCodec(), *events, style=line) == (
        b'{"Node":"","Updates":null,"Output":"done"}\n{"Node":"","Error":"no\\nway"}\n'
    )
    assert json.loads(NOTHING) == {"Node": "", "Updates": None, "Output": None}


@pytest.mark.rows("A33")
def test_tokens_say_which_node_speaks() -> None:
    def delta(*path: str) -> MessageDelta:
        return MessageDelta(run_id=R, path=path, message_id="m", text="Hel")

    token = {"type": "token", "content": "Hel"}
    assert results(
        GRAPH, delta("flow", "chat", "bot"), delta("flow", "a", "inner", "b", "bot")
    ) == [
        {"Node": "chat", "Updates": token, "Output": None},
        {"Node": "a/b", "Updates": token, "Output": None},
    ]
    assert results(AGENT, delta("bot")) == [{"Node": "bot", "Updates": token, "Output": None}]


def test_what_is_not_the_runs_own_speech_is_no_token() -> None:
    asked = MessageDelta(run_id=R, path=("bot", "call_0:helper"), message_id="m", text="x")
    deep = MessageDelta(
        run_id=R, path=("flow", "a", "bot", "call_0:helper"), message_id="m", text="x"
    )
    answer = MessageDelta(run_id=R, path=P, message_id="m", text="done")
    assert results(AGENT, asked) == []
    assert results(GRAPH, deep, answer) == [], "the graph's own answer is its output"


def test_a_graph_inside_does_not_change_whose_run_it_is() -> None:
    inner = RunStarted(run_id=R, path=("bot", "call_0:flow"), graph="flow")
    answer = MessageDelta(run_id=R, path=("bot",), message_id="m", text="x")
    assert [result["Node"] for result in results(AGENT, inner, answer)] == ["bot"]


def test_custom_events_are_updates() -> None:
    events = [
        Custom(run_id=R, path=("flow", "a"), name="custom_metric", payload={"value": 125.3}),
        Custom(run_id=R, path=P, name="tick"),
    ]
    told_ = [
        {
            "Node": "a",
            "Updates": {"event_type": "custom_metric", "payload": {"value": 125.3}},
            "Output": None,
        },
        {"Node": "", "Updates": {"event_type": "tick", "payload": None}, "Output": None},
    ]
    assert results(GRAPH, *events) == told_
    assert results(AGENT, Custom(run_id=R, path=("bot",), name="tick"))[0]["Node"] == "bot"


@pytest.mark.rows("A38", "A33")
@pytest.mark.parametrize(
    ("end", "node", "message"),
    [
        (
            RunFailed(
                run_id=R, error=ErrorInfo(code="node_failed", message="critical: x", node="b")
            ),
            "b",
            "critical: x",
        ),
        (RunFailed(run_id=R, error=ErrorInfo(code="x", message="no model")), "", "no model"),
        (RunCancelled(run_id=R, reason="cancel"), "", "the run was cancelled"),
        (RunCancelled(run_id=R, reason="timeout"), "", "the run was not done in time"),
        (
            RunCancelled(run_id=R, reason="disconnect"),
            "",
            "the run was cancelled: its client was gone",
        ),
        (
            RunCancelled(run_id=R, reason="shutdown"),
            "",
            "the run was cancelled: the server stopped",
        ),
        (
            RunCancelled(run_id=R, reason="superseded"),
            "",
            "the run was cancelled: another one took its place",
        ),
    ],
)
def test_a_failure_is_one_error_named_so(end: Event, node: str, message: str) -> None:
    swept = NodeFailed(run_id=R, path=P, node="c", error=ErrorInfo(code="x", message="y"))
    body = json.dumps({"Node": node, "Error": message}, separators=(",", ":"))
    assert told(AgentMeshCodec(), GRAPH, swept, end, style=sse) == (
        f"event: error\ndata: {body}\n\n".encode()
    )
    assert told(AgentMeshCodec(), GRAPH, swept, end, style=line) == f"{body}\n".encode()


def test_an_agent_that_runs_alone_is_its_own_node_to_the_end() -> None:
    failed = RunFailed(run_id=R, error=ErrorInfo(code="x", message="no model"))
    assert results(AGENT, failed) == [{"Node": "bot", "Error": "no model"}]
    assert results(AGENT, completed())[0]["Node"] == "bot"
    assert results(AGENT, completed(last_agent="billing"))[0]["Node"] == "billing"


def test_a_pause_is_a_result_that_says_where_to_answer() -> None:
    pause = RunInterrupted(run_id=R, path=P, reason="ok?", node="b", pending=("apr_1",))
    assert results(GRAPH, pause) == [
        {
            "Node": "b",
            "Updates": {
                "type": "interrupt",
                "reason": "ok?",
                "approvals": ["apr_1"],
                "session_id": "ses_1",
                "run_id": R,
            },
            "Output": None,
        }
    ]
    alone = RunInterrupted(run_id=R, path=("bot",), reason="approval")
    assert results(AGENT, alone)[0]["Node"] == "bot"


def test_an_output_that_is_a_falsehood_is_an_output() -> None:
    assert results(GRAPH, completed(output="", final_output=0))[0]["Output"] == 0
    assert results(GRAPH, completed(output="", final_output=None))[0]["Output"] == ""


@pytest.mark.rows("A38", "W-A6")
def test_a_stream_that_is_cut_ends_with_an_error() -> None:
    projection = Projection(AgentMeshCodec(), sse)
    for entry in entries_of([GRAPH]):
        projection.feed(entry)
    assert projection.cut("shutdown") == (
        b'event: error\ndata: {"Node":"","Error":'
        b'"the server is stopping; the run goes on when it is back"}\n\n'
    )
    assert b"the stream was cut: engine_unavailable" in projection.cut("engine_unavailable")
