"""The UI message stream, chunk by chunk."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.codecs.codec import Frame
from gateway.codecs.vercel import UiMessageStream
from gateway.codecs.vercel.chunks import finish_reason, read_input
from runtime.events import (
    AgentCompleted,
    AgentHandoff,
    AgentStarted,
    ApprovalRequested,
    Custom,
    ErrorInfo,
    Event,
    InputQueued,
    MessageCompleted,
    MessageDelta,
    ModelCompleted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RunCancelled,
    RunFailed,
    RunStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolUnknownOutcome,
)
from runtime.messages import ClientTool, Message
from tests.codecs.rules_vercel import check_vercel, chunks_of
from tests.codecs.vercel_events import (
    BROKEN,
    FINISHED,
    NO,
    PAUSED,
    RESUMED,
    RUN,
    START,
    accepted,
    asked,
    call,
    completed,
    decided,
    frames,
    kinds,
    message,
    model,
    of_kind,
    started,
    tell,
)
from tests.support.legal_runs import entries_of


def test_a_run_with_reasoning_a_tool_and_text() -> None:
    events: list[Event] = [
        accepted(),
        RunStarted(**RUN, agent="assistant"),
        model(),
        ReasoningStarted(**RUN, message_id="r1"),
        ReasoningDelta(**RUN, message_id="r1", text="Hm."),
        ReasoningCompleted(**RUN, message_id="r1", text="Hm."),
        *call("c1", "add", '{"a":', "1}"),
        ModelCompleted(**RUN, turn=1),
        started("c1", "add", '{"a":1}'),
        ToolProgress(**RUN, call_id="c1", data={"percent": 50}),
        ToolCompleted(**RUN, call_id="c1", name="add", result=None, duration_ms=1),
        model(2),
        *message("m1", "Hel", "lo"),
        completed("Hello"),
    ]
    where = {"tidegate": {"path": ["assistant"]}}
    assert tell(*events) == [
        START,
        {"type": "start-step"},
        {
            "type": "reasoning-start",
            "id": "r1",
            "providerMetadata": {"tidegate": {"messageId": "r1", **where["tidegate"]}},
        },
        {"type": "reasoning-delta", "id": "r1", "delta": "Hm."},
        {"type": "reasoning-end", "id": "r1"},
        {
            "type": "tool-input-start",
            "toolCallId": "c1",
            "toolName": "add",
            "providerExecuted": True,
        },
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '{"a":'},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": "1}"},
        {
            "type": "tool-input-available",
            "toolCallId": "c1",
            "toolName": "add",
            "input": {"a": 1},
            "providerExecuted": True,
        },
        {
            "type": "tool-output-available",
            "toolCallId": "c1",
            "output": {"percent": 50},
            "providerExecuted": True,
            "preliminary": True,
        },
        {
            "type": "tool-output-available",
            "toolCallId": "c1",
            "output": None,
            "providerExecuted": True,
        },
        {"type": "finish-step"},
        {"type": "start-step"},
        {
            "type": "text-start",
            "id": "m1",
            "providerMetadata": {"tidegate": {"messageId": "m1", **where["tidegate"]}},
        },
        {"type": "text-delta", "id": "m1", "delta": "Hel"},
        {"type": "text-delta", "id": "m1", "delta": "lo"},
        {"type": "text-end", "id": "m1"},
        {"type": "finish-step"},
        FINISHED,
    ]
    assert frames(UiMessageStream(), entries_of(events))[-1] == Frame(b"[DONE]")


def test_an_output_that_nobody_said_is_said_at_the_end() -> None:
    told = tell(accepted(), started("c1", "add"), completed("42"))
    assert [chunk["delta"] for chunk in of_kind(told, "text-delta")] == ["42"]
    assert of_kind(tell(accepted(), completed("")), "text-delta") == []


def test_a_message_that_came_without_pieces_is_said_whole_and_an_empty_one_not_at_all() -> None:
    whole = MessageCompleted(**RUN, message_id="m1", text="Hello")
    told = tell(accepted(), whole, completed("Hello"))
    assert kinds(told)[2:5] == ["text-start", "text-delta", "text-end"]
    empty = tell(accepted(), *message("m1", ""), completed())
    assert kinds(empty) == ["start", "finish"]
    unknown = MessageDelta(**RUN, message_id="m2", text="Hel")
    assert kinds(tell(accepted(), unknown, completed()))[2:5] == [
        "text-start",
        "text-delta",
        "text-end",
    ]


def test_texts_of_parallel_nodes_interleave_in_one_step() -> None:
    a, b = {"path": ("g", "a", "w")}, {"path": ("g", "b", "w")}
    first, second = message("m1", "x", "y", **a), message("m2", "z", **b)
    told = tell(
        accepted(),
        model(path=a["path"]),
        model(path=b["path"]),
        *first[:2],
        *second[:2],
        first[2],
        second[2],
        model(2, b["path"]),
        *call("c2", "add", "{}", **b),
        first[3],
        model(2, a["path"]),
        *message("m3", "t", **a),
        ToolCompleted(**(RUN | b), call_id="c2", name="add", result=1, duration_ms=1),
        model(3, a["path"]),
        *message("m4", "t", **a),
        completed(),
    )
    assert kinds(told).count("start-step") == 2  # m4 is the first that begins with nothing open
    said = [(chunk["id"], chunk["delta"]) for chunk in of_kind(told, "text-delta")]
    assert said == [("m1", "x"), ("m2", "z"), ("m1", "y"), ("m3", "t"), ("m4", "t")]


def test_an_approval_pauses_the_message_and_the_answer_goes_on_in_it() -> None:
    events: list[Event] = [
        accepted(),
        model(),
        *call("c1", "pay", '{"n":1}'),
        asked("c1", tool="pay", arguments='{"n":1}', reason="it costs"),
        PAUSED,
        decided("edited", arguments='{"n":2}'),
        RESUMED,
        started("c1", "pay", '{"n":2}'),
        ToolCompleted(**RUN, call_id="c1", name="pay", result="ok", duration_ms=1),
        completed("ok"),
    ]
    pause = events.index(PAUSED) + 1
    before = tell(*events[:pause])
    assert kinds(before)[-5:] == [
        "tool-input-available",
        "tool-input-available",
        "tool-approval-request",
        "finish-step",
        "finish",
    ]
    assert before[-4]["providerExecuted"] is False  # it is no output of the server's for now
    assert before[-3] == {
        "type": "tool-approval-request",
        "approvalId": "apr_1",
        "toolCallId": "c1",
        "reason": "it costs",
    }
    assert before[-1]["finishReason"] == "tool-calls"
    assert before[-1]["messageMetadata"] == {"status": "interrupted"}
    after = tell(*events, codec=UiMessageStream(known=pause, paused=pause))
    assert after[0] == START
    assert after[1] == {
        "type": "tool-input-available",
        "toolCallId": "c1",
        "toolName": "pay",
        "input": {"n": 2},
        "providerExecuted": True,
    }
    assert kinds(after)[2:] == [
        "tool-output-available",
        "text-start",
        "text-delta",
        "text-end",
        "finish",
    ]
    whole = frames(UiMessageStream(paused=pause), entries_of(events))
    check_vercel(whole, cut=False)
    assert kinds(chunks_of(whole)).count("finish") == 1


def test_a_rejected_call_is_denied_and_other_failures_are_errors() -> None:
    begin = (accepted(), model(), *call("c1", "pay", "{}"))
    failed = {"call_id": "c1", "name": "pay"}
    assert tell(*begin, ToolFailedEvent(**RUN, **failed, error=NO))[-1] == {
        "type": "tool-output-denied",
        "toolCallId": "c1",
    }
    assert tell(*begin, ToolFailedEvent(**RUN, **failed, error=BROKEN))[-1] == {
        "type": "tool-output-error",
        "toolCallId": "c1",
        "errorText": "it broke",
        "providerExecuted": True,
    }
    again = ToolFailedEvent(**RUN, **failed, error=BROKEN, will_retry=True)
    assert len(tell(*begin, again)) == len(tell(*begin))
    assert tell(*begin, ToolUnknownOutcome(**RUN, **failed))[-1]["type"] == "tool-output-error"


def test_arguments_that_are_no_json_are_an_error_and_those_a_hook_changed_are_said_again() -> None:
    told = tell(accepted(), model(), *call("c1", "pay", '{"n":'))
    assert told[-1]["type"] == "tool-input-error"
    assert told[-1]["input"] == '{"n":'
    told = tell(accepted(), model(), *call("c1", "pay", "{}"), started("c1", "pay", '{"n":3}'))
    assert told[-1]["input"] == {"n": 3}
    assert told[-1]["providerExecuted"] is True
    told = tell(accepted(), model(), *call("c1", "pay", "{}"), started("c1", "pay", "{}"))
    assert kinds(told)[-2:] == ["tool-input-delta", "tool-input-available"]


def test_a_call_of_the_clients_tool_is_complete_once_the_run_waits_for_it() -> None:
    begin: list[Event] = [accepted("look"), model(), *call("c1", "look", '{"n":1}')]
    told = tell(*begin)
    assert kinds(told)[-1] == "tool-input-delta"  # a hook may still refuse the call
    assert of_kind(told, "tool-input-start")[0]["providerExecuted"] is False
    ask = asked("c1", tool="look", arguments='{"n":2}', wants="result", reason="client tool")
    told = tell(*begin, ask, PAUSED)
    assert kinds(told)[-3:] == ["tool-input-available", "finish-step", "finish"]
    assert told[-3]["input"] == {"n": 2}
    assert told[-3]["providerExecuted"] is False
    result = ToolCompleted(**RUN, call_id="c1", name="look", result=3, duration_ms=0)
    told = tell(*begin, ask, decided("answered", result=3), RESUMED, result, completed())
    # The last step has no calls: else some clients would send the answers once more.
    assert kinds(told)[-5:] == [
        "tool-output-available",
        "finish-step",
        "start-step",
        "finish-step",
        "finish",
    ]
    answered = (decided("answered", result=3), RESUMED, result)
    told = tell(*begin, ask, *answered, model(2), *message("m1", "Three."), completed())
    assert kinds(told)[-4:] == ["text-delta", "text-end", "finish-step", "finish"]
    refused = ToolFailedEvent(**RUN, call_id="c1", name="look", error=NO)
    assert tell(*begin, ask, decided("rejected"), RESUMED, refused)[-1] == {
        "type": "tool-output-error",
        "toolCallId": "c1",
        "errorText": NO.message,
        "providerExecuted": False,
    }


def test_calls_that_cannot_go_on_have_an_output_while_others_wait_for_a_human() -> None:
    inner = {"path": ("assistant", "c0:helper")}
    events: list[Event] = [
        accepted(),
        model(),
        *call("c0", "helper", "{}"),
        started("c0", "helper"),
        AgentStarted(**(RUN | inner), agent="helper"),
        *message("m9", "I pay.", **inner),
        *call("c1", "pay", "{}", **inner),
        ApprovalRequested(
            **(RUN | inner), approval_id="apr_1", call_id="c1", tool="pay", arguments='{"n":1}'
        ),
        PAUSED,
        decided("approved"),
        RESUMED,
        ToolCompleted(**(RUN | inner), call_id="c1", name="pay", result=1, duration_ms=1),
        AgentCompleted(**(RUN | inner), agent="helper", output="paid"),
        ToolCompleted(**RUN, call_id="c0", name="helper", result="paid", duration_ms=1),
        completed("paid"),
    ]
    pause = events.index(PAUSED) + 1
    told = tell(*events[:pause])
    assert told[-3] == {
        "type": "tool-output-available",
        "toolCallId": "c0",
        "output": {"status": "waiting for a human"},
        "providerExecuted": True,
    }
    after = tell(*events, codec=UiMessageStream(known=pause, paused=pause))
    assert [(c["type"], c.get("toolCallId")) for c in after[1:5]] == [
        ("tool-input-available", "c1"),
        ("tool-input-available", "c0"),
        ("tool-output-available", "c1"),
        ("data-subagent", None),
    ]
    place = "assistant/c0:helper"
    assert of_kind(told, "data-subagent") == [
        {
            "type": "data-subagent",
            "data": {
                "agent": "helper",
                "path": ["assistant", "c0:helper"],
                "toolCallId": "c0",
                "status": "running",
            },
            "id": place,
        }
    ]
    node = AgentStarted(**(RUN | {"path": (*inner["path"], "n")}), agent="writer")
    [deeper] = of_kind(tell(accepted(), node), "data-subagent")
    assert "toolCallId" not in deeper["data"]  # no call, but a node, is its own
    [delta] = of_kind(told, "data-subagent-delta")
    assert (delta["transient"], delta["data"]["delta"]) == (True, "I pay.")
    [said] = of_kind(told, "data-subagent-message")
    assert (said["id"], said["data"]["text"]) == ("m9", "I pay.")
    assert of_kind(told, "text-delta") == []
    [ended] = of_kind(after, "data-subagent")
    assert (ended["data"]["status"], ended["data"]["output"]) == ("completed", "paid")


def test_the_tools_of_an_agent_below_are_data() -> None:
    inner = RUN | {"path": ("assistant", "c0:helper")}
    told = tell(
        accepted(),
        *call("c1", "add", "{}", path=inner["path"]),
        started("c1", "add", '{"a":1}', path=inner["path"]),
        ToolFailedEvent(**inner, call_id="c1", name="add", error=BROKEN, will_retry=True),
        ToolCompleted(**inner, call_id="c1", name="add", result=2, duration_ms=1),
        ToolFailedEvent(**inner, call_id="c2", name="add", error=BROKEN),
        ToolUnknownOutcome(**inner, call_id="c3", name="add"),
    )
    assert set(kinds(told[1:])) == {"data-subagent-tool"}
    assert [chunk["id"].rpartition("/")[2] for chunk in told[1:]] == ["c1", "c1", "c1", "c2", "c3"]
    assert [chunk["data"]["status"] for chunk in told[1:]] == [
        "running",
        "running",
        "completed",
        "failed",
        "failed",
    ]
    assert told[1]["data"]["input"] == {"a": 1}
    assert told[3]["data"]["output"] == 2


@pytest.mark.parametrize(
    ("decision", "kind"),
    [
        ("approved", "tool-output-available"),
        ("edited", "tool-output-available"),
        ("rejected", "tool-output-denied"),
        ("expired", "tool-output-denied"),
    ],
)
def test_what_a_node_asks_is_a_call_of_a_tool_with_its_name(decision: str, kind: str) -> None:
    ask = asked(None, node="risky", arguments='{"cost":1}', reason="look")
    told = tell(accepted(), ask, PAUSED)
    assert told[2:4] == [
        {
            "type": "tool-input-available",
            "toolCallId": "apr_1",
            "toolName": "risky",
            "input": {"cost": 1},
            "providerExecuted": False,
        },
        {
            "type": "tool-approval-request",
            "approvalId": "apr_1",
            "toolCallId": "apr_1",
            "reason": "look",
        },
    ]
    arguments = "[7]" if decision == "edited" else None
    answered = tell(accepted(), ask, decided(decision, arguments=arguments))[-1]
    assert answered["type"] == kind
    if decision == "edited":
        assert answered["output"] == {"decision": "edited", "value": [7]}


@pytest.mark.parametrize("reason", ["cancel", "disconnect", "superseded"])
def test_what_was_stopped_is_aborted_and_its_calls_are_denied(reason: Any) -> None:
    cancelled = RunCancelled(run_id="run_1", reason=reason)
    told = tell(accepted(), model(), *call("c1", "pay", "{}"), *message("m1", "Hel")[:2], cancelled)
    assert told[-6:] == [
        {"type": "text-delta", "id": "m1", "delta": "Hel"},
        {"type": "tool-output-denied", "toolCallId": "c1"},
        {"type": "text-end", "id": "m1"},
        {"type": "finish-step"},
        {
            "type": "message-metadata",
            "messageMetadata": {"status": "cancelled", "reason": reason},
        },
        {"type": "abort", "reason": reason},
    ]


def test_a_run_that_failed_or_took_too_long_is_an_error_and_its_calls_have_failed() -> None:
    begin = (accepted(), model(), *call("c1", "pay", "{}"))
    told = tell(*begin, RunFailed(**RUN, error=BROKEN))
    assert kinds(told)[-4:] == ["tool-output-error", "finish-step", "message-metadata", "error"]
    assert told[-1]["errorText"] == "it broke"
    assert told[-2]["messageMetadata"] == {"status": "failed", "code": "model_error"}
    told = tell(*begin, RunCancelled(run_id="run_1", reason="timeout"))
    assert told[-1] == {"type": "error", "errorText": "the run was stopped: timeout"}


def test_data_parts() -> None:
    node = RUN | {"path": ("g",), "node": "n"}
    told = tell(
        InputQueued(
            run_id="run_1",
            command_id="c",
            message=Message(role="user", content="hi"),
            position=2,
            tools=(ClientTool(name="look"),),
        ),
        Custom(**RUN, name="mood", payload={"id": "m", "is": "good"}),
        Custom(**RUN, name="mood", payload={"id": 1}),
        Custom(**RUN, name="list", payload=[1]),
        AgentHandoff(**RUN, source="a", target="b", denied=True),
        NodeStarted(**node, superstep=1),
        NodeUpdate(**node, updates={"percent": 50}),
        NodeFailed(**node, error=BROKEN, will_retry=True),
        NodeFailed(**node, error=ErrorInfo(code="interrupted", message="waits")),
        NodeFailed(**node, error=BROKEN),
        NodeCompleted(**node, duration_ms=2),
        *call("c1", "look", "{}"),
    )
    assert told[1:6] == [
        {"type": "data-queue", "data": {"position": 2}, "transient": True},
        {"type": "data-mood", "data": {"id": "m", "is": "good"}, "id": "m"},
        {"type": "data-mood", "data": {"id": 1}},
        {"type": "data-list", "data": [1]},
        {"type": "data-handoff", "data": {"source": "a", "target": "b", "denied": True}},
    ]
    nodes = of_kind(told, "data-node")
    assert {chunk["id"] for chunk in nodes} == {"g/n"}
    assert [
        {k: v for k, v in chunk["data"].items() if k not in {"node", "path"}} for chunk in nodes
    ] == [
        {"status": "running", "superstep": 1},
        {"status": "running", "updates": {"percent": 50}},
        {"status": "running", "error": "it broke"},
        {"status": "interrupted"},
        {"status": "failed", "error": "it broke"},
        {"status": "completed", "durationMs": 2.0},
    ]
    assert of_kind(told, "tool-input-start")[0]["providerExecuted"] is False


def test_words_for_why_a_model_ended_and_what_a_call_was_given() -> None:
    reasons = [None, "stop", "length", "content_filter", "tool_calls", "whatever"]
    assert [finish_reason(reason) for reason in reasons] == [
        "stop",
        "stop",
        "length",
        "content-filter",
        "tool-calls",
        "other",
    ]
    assert read_input(" ") == ({}, True)
    assert read_input("null") == (None, True)
    assert read_input('{"n":123456789012345678901234567890}') == (
        {"n": "123456789012345678901234567890"},
        True,
    )
    assert tell(accepted(), completed(reason="length"))[-1]["finishReason"] == "length"
