"""What AG-UI clients are told of each turn that a run can take."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.codecs.agui import AguiCodec, AguiState
from gateway.codecs.codec import Frame
from runtime.events import (
    AgentCompleted,
    AgentHandoff,
    AgentStarted,
    ApprovalResolved,
    Custom,
    Event,
    GuardrailTripped,
    InputSteered,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelRetrying,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RunAttemptStarted,
    RunCancelled,
    RunFailed,
    RunInterrupted,
    RunResumed,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolUnknownOutcome,
)
from runtime.messages import Message, ToolCall, Usage
from tests.codecs.agui_telling import (
    BROKEN,
    COMPLETED,
    GRAPH,
    NAMES,
    RUN,
    STARTED,
    ask,
    ends,
    model_done,
    one,
    say,
    told,
)
from tests.codecs.rules_agui import check_agui
from tests.codecs.telling import AT, entries_of


def test_an_answer_to_the_byte() -> None:
    events: list[Event] = [
        STARTED,
        ReasoningStarted(**RUN, message_id="rsn"),
        ReasoningDelta(**RUN, message_id="rsn", text="hm"),
        ReasoningCompleted(**RUN, message_id="rsn", text="hm"),
        MessageStarted(**RUN, message_id="msg", agent="assistant"),
        MessageDelta(**RUN, message_id="msg", text="Hel\n"),
        ToolCallStarted(**RUN, call_id="call", name="add", message_id="msg"),
        ToolCallDelta(**RUN, call_id="call", arguments="{}"),
        ToolCallReady(**RUN, call_id="call", name="add", arguments="{}"),
        MessageCompleted(**RUN, message_id="msg", text="Hel\n"),
        ToolCompleted(**RUN, call_id="call", name="add", result={"a": 1}, duration_ms=1),
        COMPLETED,
    ]
    codec = AguiCodec(NAMES)
    state = codec.begin()
    frames: list[Frame] = []
    for event, entry in zip(events, entries_of(events), strict=True):
        state, said = codec.encode(state, event, entry)
        frames += said
    check_agui(frames, False)
    at = f'"timestamp":{AT}'
    assert [frame.data.decode() for frame in frames] == [
        f'{{"type":"RUN_STARTED",{at},"threadId":"t1","runId":"r1","protocolVersion":"1.0"}}',
        f'{{"type":"REASONING_START",{at},"messageId":"rsn"}}',
        f'{{"type":"REASONING_MESSAGE_START",{at},"messageId":"rsn","role":"reasoning"}}',
        '{"type":"REASONING_MESSAGE_CONTENT","messageId":"rsn","delta":"hm"}',
        f'{{"type":"REASONING_MESSAGE_END",{at},"messageId":"rsn"}}',
        f'{{"type":"REASONING_END",{at},"messageId":"rsn"}}',
        (
            f'{{"type":"TEXT_MESSAGE_START",{at},"messageId":"msg","role":"assistant",'
            '"name":"assistant"}'
        ),
        '{"type":"TEXT_MESSAGE_CONTENT","messageId":"msg","delta":"Hel\\n"}',
        (
            f'{{"type":"TOOL_CALL_START",{at},"toolCallId":"call","toolCallName":"add",'
            '"parentMessageId":"msg"}'
        ),
        '{"type":"TOOL_CALL_ARGS","toolCallId":"call","delta":"{}"}',
        f'{{"type":"TOOL_CALL_END",{at},"toolCallId":"call"}}',
        f'{{"type":"TEXT_MESSAGE_END",{at},"messageId":"msg"}}',
        (
            f'{{"type":"TOOL_CALL_RESULT",{at},"messageId":"call-result","toolCallId":"call",'
            '"content":"{\\"a\\":1}","role":"tool"}'
        ),
        (
            f'{{"type":"RUN_FINISHED",{at},"metadata":{{"tidegate":{{"finishReason":"stop"}}}},'
            '"threadId":"t1","runId":"r1","result":"Hello","outcome":{"type":"success"}}'
        ),
    ]


def test_what_was_never_opened_is_neither_continued_nor_closed() -> None:
    assert (
        told(
            STARTED,
            MessageDelta(**RUN, message_id="x", text="x"),
            MessageCompleted(**RUN, message_id="x", text="x"),
            ReasoningDelta(**RUN, message_id="x", text="x"),
            ReasoningCompleted(**RUN, message_id="x", text="x"),
            ToolCallDelta(**RUN, call_id="x", arguments="x"),
            ToolCallReady(**RUN, call_id="x", name="x", arguments="x"),
            NodeCompleted(**RUN, node="x", duration_ms=1),
            NodeFailed(**RUN, node="x", error=BROKEN),
            AgentCompleted(**RUN, agent="x"),
        )
        == []
    )


def test_what_is_open_is_not_opened_again() -> None:
    opened: list[Event] = [
        MessageStarted(**RUN, message_id="m"),
        ReasoningStarted(**RUN, message_id="r"),
        ToolCallStarted(**RUN, call_id="c", name="add"),
        NodeStarted(**GRAPH, node="n"),
        AgentStarted(run_id="run_1", path=("graph", "n"), agent="n"),
    ]
    assert told(STARTED, *opened, *opened) == told(STARTED, *opened)


# --- ends ----------------------------------------------------------------------------------------


def test_a_failure_is_an_error_with_what_it_took() -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3, reasoning_tokens=1)
    spent = model_done("m", usage=usage, model="big")
    assert ends(spent, RunFailed(**RUN, error=BROKEN)) == {
        "type": "RUN_ERROR",
        "message": "it broke",
        "code": "model_error",
        "usage": [
            {
                "model": "big",
                "inputTokens": 1,
                "outputTokens": 2,
                "totalTokens": 3,
                "reasoningTokens": 1,
            }
        ],
    }


@pytest.mark.parametrize("reason", ["cancel", "disconnect", "superseded"])
def test_a_run_that_somebody_stopped_is_no_failure(reason: Any) -> None:
    event = RunCancelled(**RUN, reason=reason)
    end = {
        "type": "RUN_FINISHED",
        "threadId": "t1",
        "runId": "r1",
        "metadata": {"tidegate": {"status": "cancelled", "reason": reason}},
    }
    assert ends(event) == end | {"outcome": {"type": "cancelled"}}
    assert ends(event, modern=False) == end


@pytest.mark.parametrize("reason", ["timeout", "shutdown"])
def test_a_run_that_nobody_wanted_to_stop_is_an_error(reason: Any) -> None:
    end = ends(RunCancelled(**RUN, reason=reason))
    assert (end["type"], end["code"]) == ("RUN_ERROR", reason)


def test_tokens_are_counted_for_each_model_and_segment() -> None:
    one_token = Usage(prompt_tokens=1, completion_tokens=0, total_tokens=1)
    asked: list[Event] = [
        model_done("a", usage=one_token, model="big"),
        model_done("b", usage=one_token, model="small"),
        model_done("c", usage=one_token, model="big"),
        model_done("d"),
    ]
    end = ends(*asked, COMPLETED)
    assert [(e["model"], e["inputTokens"]) for e in end["usage"]] == [("big", 2), ("small", 1)]
    paused: list[Event] = [
        *asked,
        ask(call_id="c"),
        RunInterrupted(**RUN, reason="x", pending=("apr_1",)),
    ]
    resumed = RunResumed(**RUN, from_seq=1)
    last = ends(*paused, resumed, asked[1], COMPLETED)
    assert [(e["model"], e["inputTokens"]) for e in last["usage"]] == [("small", 1)]


def test_a_result_that_is_an_object_is_the_result() -> None:
    final = COMPLETED.model_copy(update={"final_output": {"a": 0}})
    assert ends(final)["result"] == {"a": 0}
    assert ends(COMPLETED)["result"] == "Hello"


def test_a_stream_that_is_cut_says_so_unless_it_was_over() -> None:
    codec = AguiCodec(NAMES)
    for state in (AguiState(), AguiState(phase="on")):
        (frame,) = codec.cut(state, "shutdown")
        error = orjson.loads(frame.data)
        assert (error["type"], error["code"]) == ("RUN_ERROR", "shutdown")
        assert "stopping" in error["message"]
    assert "stopping" not in codec.cut(AguiState(), "slow_client")[0].data.decode()
    assert codec.cut(AguiState(phase="over"), "shutdown") == ()


# --- pauses --------------------------------------------------------------------------------------


def test_questions_are_interrupts_and_calls_of_the_clients_tools_are_not() -> None:
    asks = (
        ask("apr_1", call_id="call_1", tool="pay", arguments="{}", expires_at="2027-01-01"),
        ask("apr_2", call_id="call_2", tool="pick", wants="result"),
        ask("apr_3", node="risky", reason="Go on?"),
        ask("apr_4", call_id="call_4"),
    )
    pause = RunInterrupted(**RUN, reason="x", pending=("apr_1", "apr_2", "apr_3"))
    end = ends(*asks, pause)
    first, second = end["outcome"]["interrupts"]
    assert end["outcome"]["type"] == "interrupt"
    assert {key: first[key] for key in ("id", "reason", "message", "toolCallId", "expiresAt")} == {
        "id": "apr_1",
        "reason": "tool_call",
        "message": "Call pay?",
        "toolCallId": "call_1",
        "expiresAt": "2027-01-01",
    }
    assert "editedArgs" in first["responseSchema"]["properties"]
    assert (second["id"], second["reason"], second["message"]) == (
        "apr_3",
        "confirmation",
        "Go on?",
    )
    assert "value" in second["responseSchema"]["properties"]
    assert second["metadata"] == {"tidegate": {"node": "risky"}}
    assert ends(asks[1], pause)["outcome"] == {
        "type": "success",
        "pendingToolCallIds": ["call_2"],
    }
    assert "outcome" not in ends(asks[1], pause, modern=False)
    assert ends(asks[0], pause, modern=False)["outcome"]["type"] == "interrupt"


def test_a_question_is_shown_when_it_is_asked_and_gone_when_it_is_settled() -> None:
    settled = ApprovalResolved(**RUN, approval_id="apr_1", decision="approved", by="me")
    shown, gone = told(STARTED, ask(call_id="call_1", tool="pay"), settled)
    assert (shown["name"], shown["value"]["id"]) == ("approval.requested", "apr_1")
    assert gone["name"] == "approval.resolved"
    assert gone["value"] == {"approvalId": "apr_1", "decision": "approved", "by": "me"}
    pause = RunInterrupted(**RUN, reason="x", pending=("apr_1",))
    assert ends(ask(call_id="call_1"), settled, pause)["outcome"] == {"type": "success"}
    assert told(STARTED, ask(call_id="c", wants="result")) == []


def test_a_run_that_goes_on_is_another_run_to_a_client() -> None:
    pause = RunInterrupted(**RUN, reason="x", pending=("apr_1",))
    settled = ApprovalResolved(**RUN, approval_id="apr_1", decision="approved")
    asked: list[Event] = [STARTED, ask(call_id="c"), pause, settled]
    kinds = [m["type"] for m in told(*asked, RunResumed(**RUN, from_seq=1), COMPLETED)]
    assert kinds == ["CUSTOM", "RUN_FINISHED", "RUN_STARTED", "RUN_FINISHED"]
    stopped = told(*asked, RunCancelled(**RUN, reason="cancel"))
    assert [m["type"] for m in stopped] == ["CUSTOM", "RUN_FINISHED", "RUN_STARTED", "RUN_FINISHED"]
    assert stopped[-1]["outcome"] == {"type": "cancelled"}


# --- what is said anew ---------------------------------------------------------------------------


def superseded(messages: list[dict[str, Any]]) -> list[str]:
    return [m["messageId"] for m in messages if m.get("activityType") == "superseded"]


ATTEMPT = RunAttemptStarted(
    run_id="run_1", path=(), attempt=2, supersedes=1, from_step=1, reason="restart"
)


def test_what_a_dead_process_had_not_finished_is_taken_off_the_screen() -> None:
    messages = told(
        STARTED,
        *say("m1", "done"),
        model_done("m1"),
        *say("m2", "whole, but its step is not done"),
        ToolCallStarted(**RUN, call_id="c", name="add", message_id="m3"),
        ToolCallReady(**RUN, call_id="c", name="add", arguments="{}"),
        *say("m4", "hal", incomplete=True, superseded=True),
        ATTEMPT,
    )
    assert superseded(messages) == ["m4", "m2", "m3"]
    assert messages[-3]["value"] == {"attempt": 2, "reason": "restart"}
    end = next(m for m in messages if m["type"] == "TEXT_MESSAGE_END" and m["messageId"] == "m4")
    assert end["metadata"] == {"tidegate": {"incomplete": True, "superseded": True}}


def test_what_a_finished_node_had_said_stays() -> None:
    below: Any = {"run_id": "run_1", "path": ("graph", "n", "writer")}
    done = NodeCompleted(**GRAPH, node="n", duration_ms=1)
    begun = [STARTED, NodeStarted(**GRAPH, node="n"), *say("m1", "x", below)]
    assert superseded(told(*begun, done, ATTEMPT)) == []
    assert superseded(told(*begun, ATTEMPT)) == ["m1"]


def test_what_a_node_had_said_before_it_is_tried_again_is_taken_off_the_screen() -> None:
    below: Any = {"run_id": "run_1", "path": ("graph", "n", "writer")}
    beside: Any = {"run_id": "run_1", "path": ("graph", "other", "writer")}
    messages = told(
        STARTED,
        NodeStarted(**GRAPH, node="n"),
        NodeStarted(**GRAPH, node="other"),
        *say("m1", "x", below),
        model_done("m1", of=below),
        *say("m2", "y", beside),
        NodeFailed(**GRAPH, node="n", error=BROKEN, will_retry=True),
        NodeStarted(**GRAPH, node="n"),
        NodeFailed(**GRAPH, node="n", error=BROKEN),
    )
    assert superseded(messages) == ["m1"]
    retry = next(m for m in messages if m.get("activityType") == "node_retry")
    assert retry["content"] == {
        "node": "n",
        "error": {"code": "model_error", "message": "it broke"},
    }
    assert [m["stepName"] for m in messages if m["type"] == "STEP_STARTED"] == ["n", "other"]
    (finished,) = [m for m in messages if m["type"] == "STEP_FINISHED"]
    assert finished["metadata"]["tidegate"]["status"] == "failed"


def test_a_message_that_was_stopped_says_so() -> None:
    *_, end = told(STARTED, *say("m", "x", incomplete=True))
    assert end["metadata"] == {"tidegate": {"incomplete": True}}


# --- tools ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "content", "code"),
    [
        (ToolCompleted(**RUN, call_id="c", name="x", result="text", duration_ms=1), "text", None),
        (ToolCompleted(**RUN, call_id="c", name="x", result=None, duration_ms=1), "null", None),
        (
            ToolFailedEvent(**RUN, call_id="c", name="x", error=BROKEN),
            "error: it broke",
            "model_error",
        ),
        (
            ToolUnknownOutcome(**RUN, call_id="c", name="x"),
            "error: the server stopped while",
            "unknown_outcome",
        ),
    ],
)
def test_what_came_of_a_call_is_what_the_model_is_told(
    event: Event, content: str, code: str | None
) -> None:
    result = one(STARTED, event)
    assert (result["messageId"], result["toolCallId"]) == ("c-result", "c")
    assert result["content"].startswith(content)
    error = result.get("metadata", {}).get("tidegate", {}).get("error", {})
    assert error.get("code") == code
    assert told(STARTED, event, codec=AguiCodec(NAMES, answered=frozenset({"c"}))) == []


def test_a_tool_that_is_tried_again_has_no_result_yet() -> None:
    assert (
        told(STARTED, ToolFailedEvent(**RUN, call_id="c", name="x", error=BROKEN, will_retry=True))
        == []
    )


def test_calls_that_come_whole_are_told_whole_and_others_only_once() -> None:
    piecewise: list[Event] = [
        ToolCallStarted(**RUN, call_id="c1", name="add", message_id="m"),
        ToolCallReady(**RUN, call_id="c1", name="add", arguments=""),
    ]
    calls = tuple(ToolCall(id=id_, name="add", arguments="{}") for id_ in ("c1", "c2"))
    messages = told(STARTED, *piecewise, model_done("m", tool_calls=calls))
    assert [(m["type"], m["toolCallId"]) for m in messages] == [
        ("TOOL_CALL_START", "c1"),
        ("TOOL_CALL_END", "c1"),
        ("TOOL_CALL_START", "c2"),
        ("TOOL_CALL_ARGS", "c2"),
        ("TOOL_CALL_END", "c2"),
    ]
    assert messages[2]["parentMessageId"] == "m"


# --- the rest ------------------------------------------------------------------------------------


def test_what_has_no_word_is_an_activity_or_custom() -> None:
    steered = InputSteered(
        run_id="run_1",
        message=Message(role="user", content="and this", message_id="u2"),
        command_id="c2",
    )
    messages = told(
        STARTED,
        AgentHandoff(**RUN, source="assistant", target="expert"),
        ModelRetrying(**RUN, attempt=2, delay_ms=5, error=BROKEN),
        GuardrailTripped(**RUN, name="polite", stage="output", info={"why": None}),
        Custom(**RUN, name="mine", payload=None),
        steered,
    )
    assert [(m["messageId"], m["activityType"], m["content"]) for m in messages[:2]] == [
        ("run_1-2", "handoff", {"source": "assistant", "target": "expert"}),
        (
            "run_1-3",
            "model_retry",
            {
                "attempt": 2,
                "delayMs": 5,
                "error": {"code": "model_error", "message": "it broke"},
            },
        ),
    ]
    assert [(m["name"], m["value"]) for m in messages[2:4]] == [
        ("guardrail.tripped", {"name": "polite", "stage": "output", "info": {"why": None}}),
        ("mine", None),
    ]
    assert [m.get("role") or m.get("delta") for m in messages[4:]] == ["user", "and this", None]
