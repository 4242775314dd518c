"""Agentlang: golden bytes of `POST /{module}/{event}`."""

from __future__ import annotations

import orjson
import pytest

from gateway.codecs.codec import Projection
from gateway.codecs.framing import sse
from gateway.codecs.native import event_json
from gateway.codecs.sources.agentlang import AgentlangCodec, outcome
from gateway.codecs.waiting import waits_for_human
from runtime.events import (
    AgentCompleted,
    AgentStarted,
    Custom,
    ErrorInfo,
    Event,
    MessageDelta,
    ModelCompleted,
    ModelFailed,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from runtime.messages import Usage
from tests.codecs.telling import entries_of, told

R, P = "run_1", ("flow",)
INSIDE = ("flow", "plan", "planner")
CODEC = AgentlangCodec()
DOWN = ErrorInfo(code="model_down", message="the model is down", status_code=503)


def completed(output: str = "done", final_output: object = None) -> RunCompleted:
    return RunCompleted(
        run_id=R,
        path=P,
        output=output,
        final_output=final_output,
        usage=Usage(),
        message_count=1,
        num_turns=1,
    )


def test_a_flow_is_told_to_the_byte() -> None:
    events: list[Event] = [
        RunStarted(run_id=R, path=P, graph="flow"),
        NodeStarted(run_id=R, path=P, node="plan", kind="flow_step", agent="planner"),
        AgentStarted(run_id=R, path=INSIDE, agent="planner"),
        MessageDelta(run_id=R, path=INSIDE, message_id="m", text="Boil"),
        ModelCompleted(
            run_id=R,
            path=INSIDE,
            content="Boil water.",
            usage=Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7),
            turn=1,
        ),
        AgentCompleted(run_id=R, path=INSIDE, agent="planner", output="Boil water."),
        NodeCompleted(
            run_id=R,
            path=P,
            node="plan",
            kind="flow_step",
            updates={"plan": "Boil water."},
            result="Boil water.",
            duration_ms=3.5,
        ),
        Custom(run_id=R, path=INSIDE, name="custom_progress_update", payload={"foo": "bar"}),
        completed(final_output={"cups": 2}),
    ]
    assert told(CODEC, *events).decode() == (
        "event: flow_step_start\n"
        'data: {"step":"plan","agent":"planner"}\n'
        "\n"
        "event: agent_start\n"
        'data: {"agent":"planner"}\n'
        "\n"
        "event: llm_response\n"
        'data: {"agent":"planner","content":"Boil water.",'
        '"tokens":{"input":5,"output":2,"total":7}}\n'
        "\n"
        "event: agent_complete\n"
        'data: {"agent":"planner"}\n'
        "\n"
        "event: flow_step_complete\n"
        'data: {"step":"plan","result":"Boil water."}\n'
        "\n"
        "event: custom_progress_update\n"
        'data: {"foo":"bar"}\n'
        "\n"
        "event: result\n"
        'data: {"cups":2}\n'
        "\n"
    )


def test_an_agent_of_a_step_is_told_by_its_step() -> None:
    assert told(
        CODEC,
        AgentStarted(run_id=R, path=P, agent="a", step="plan"),
        AgentCompleted(run_id=R, path=P, agent="a", step="plan"),
    ) == (
        b'event: agent_start\ndata: {"step":"plan"}\n\n'
        b'event: agent_complete\ndata: {"step":"plan"}\n\n'
    )


@pytest.mark.parametrize(
    ("path", "agent"),
    [
        ((), "assistant"),
        (("assistant",), "assistant"),
        (("assistant", "call_1:researcher"), "researcher"),
        (("graph", "plan", "planner"), "planner"),
    ],
)
def test_a_response_names_the_agent_that_the_model_works_for(
    path: tuple[str, ...], agent: str
) -> None:
    events: list[Event] = [
        RunStarted(run_id=R, agent="assistant"),
        ModelCompleted(run_id=R, path=path, turn=1),
    ]
    assert told(CODEC, *events).decode() == (
        f'event: llm_response\ndata: {{"agent":"{agent}","content":""}}\n\n'
    )


def test_failures_on_the_way_are_told_and_say_if_it_is_tried_again() -> None:
    assert told(
        CODEC,
        ModelFailed(run_id=R, path=INSIDE, error=DOWN, will_retry=True),
        ModelFailed(run_id=R, path=INSIDE, error=DOWN, will_retry=False),
        NodeFailed(run_id=R, path=P, node="plan", kind="flow_step", error=DOWN, will_retry=True),
        NodeFailed(run_id=R, path=P, node="plan", kind="flow_step", error=DOWN),
        NodeFailed(run_id=R, path=P, node="other", error=DOWN),
    ).decode() == (
        'event: error\ndata: {"agent":"planner","error":"the model is down","willRetry":true}\n\n'
        'event: error\ndata: {"agent":"planner","error":"the model is down"}\n\n'
        'event: error\ndata: {"step":"plan","error":"the model is down","willRetry":true}\n\n'
        'event: error\ndata: {"step":"plan","error":"the model is down"}\n\n'
        'event: error\ndata: {"step":"other","error":"the model is down"}\n\n'
    )


ENDS: list[tuple[Event, int, str, str]] = [
    (completed("done"), 200, "result", '"done"'),
    (completed("[1]", [1, None]), 200, "result", "[1,null]"),
    (completed("", 0), 200, "result", "0"),
    (
        RunFailed(run_id=R, error=DOWN),
        503,
        "error",
        '{"error":"the model is down","statusCode":503}',
    ),
    (
        RunFailed(run_id=R, error=ErrorInfo(code="x", message="bad")),
        500,
        "error",
        '{"error":"bad","statusCode":500}',
    ),
    (
        RunFailed(run_id=R, error=ErrorInfo(code="x", message="odd", status_code=200)),
        500,
        "error",
        '{"error":"odd","statusCode":500}',
    ),
    (
        RunCancelled(run_id=R, reason="timeout"),
        499,
        "error",
        '{"error":"cancelled: timeout","statusCode":499}',
    ),
    (
        RunInterrupted(run_id=R, reason="approval"),
        409,
        "error",
        f'{{"error":"{waits_for_human("ses_1")}","statusCode":409}}',
    ),
]


@pytest.mark.rows("L5")
@pytest.mark.parametrize(("event", "status", "name", "body"), ENDS)
def test_the_last_event_is_the_plain_answer_to_the_byte(
    event: Event, status: int, name: str, body: str
) -> None:
    end = outcome(event, "ses_1")
    assert end is not None
    assert (end.status, end.body.decode()) == (status, body)
    assert told(CODEC, event).decode() == f"event: {name}\ndata: {body}\n\n"


def test_nothing_else_is_an_outcome() -> None:
    assert outcome(RunStarted(run_id=R, agent="a"), "ses_1") is None


@pytest.mark.rows("W-L7")
@pytest.mark.parametrize("name", ["x\ndata: 1", "x\rid: 2", "x\r\n\r\ny", "x\0", "", "result"])
def test_no_name_that_code_reports_under_can_break_or_end_the_stream(name: str) -> None:
    frame = told(CODEC, Custom(run_id=R, name=name, payload=1))
    head, data, *end = frame.split(b"\n")
    assert (head, end) == (b"event: custom", [b"", b""])
    assert orjson.loads(data.removeprefix(b"data: ")) == {"name": name, "payload": 1}


@pytest.mark.parametrize("name", ["another-type", "two words", "ünïcode", "error"])
def test_any_other_name_is_kept(name: str) -> None:
    frame = told(CODEC, Custom(run_id=R, name=name, payload=None))
    assert frame.decode() == f"event: {name}\ndata: null\n\n"


@pytest.mark.rows("W-L7")
def test_all_else_is_told_under_its_own_type_to_those_who_ask() -> None:
    delta = MessageDelta(run_id=R, path=INSIDE, message_id="m", text="Boil")
    assert told(CODEC, delta) == b""
    native = event_json(entries_of([delta])[0])
    assert told(AgentlangCodec(everything=True), delta) == (
        b"event: message.delta\ndata: " + native + b"\n\n"
    )
    assert told(AgentlangCodec(everything=True), completed()) == (
        b'event: result\ndata: "done"\n\n'
    )


def test_a_server_that_cannot_go_on_says_so() -> None:
    assert Projection(CODEC, sse).cut("shutdown") == (
        b"event: error\n"
        b'data: {"error":"the server cannot go on with this answer: shutdown","statusCode":503}\n'
        b"\n"
    )
