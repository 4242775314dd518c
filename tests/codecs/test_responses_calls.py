"""Calls and questions in the stream of a response; what follows a pause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.codecs.openai.responses import Responses, Whole
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    Event,
    ModelCompleted,
    RunAttemptStarted,
    RunCancelled,
    RunStarted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)
from tests.codecs.responses_stories import (
    BEGINNING,
    BROKEN,
    COMPLETED,
    INTERRUPTED,
    RESUMED,
    ROOT,
    RUN,
    USAGE,
    handed,
    output_of,
    said,
    short,
    tell,
    written,
)
from tests.support.legal_runs import entries_of


def test_a_call_of_the_servers_own_is_told_once_it_runs() -> None:
    messages = tell(
        *BEGINNING,
        *written("add", '{"a":1}'),
        ToolStarted(**ROOT, call_id="call_1", name="add", arguments='{"a":1}', idempotency_key="k"),
        ToolCompleted(**ROOT, call_id="call_1", name="add", result={"sum": 2}, duration_ms=1),
        COMPLETED,
    )
    assert short(messages)[2:] == [
        "output_item.added 0",
        "mcp_call.in_progress 0",
        "mcp_call_arguments.delta 0",
        "mcp_call_arguments.done 0",
        "mcp_call.completed 0",
        "output_item.done 0",
        "completed",
    ]
    assert output_of(messages) == [
        {
            "id": "mcp_ses_story.run_1-0",
            "type": "mcp_call",
            "status": "completed",
            "server_label": "tidegate",
            "name": "add",
            "arguments": '{"a":1}',
            "approval_request_id": None,
            "output": '{"sum":2}',
            "error": None,
        }
    ]


def test_a_call_that_fails_says_why() -> None:
    started = ToolStarted(**ROOT, call_id="c", name="add", arguments="{}", idempotency_key="k")
    again = ToolFailedEvent(**ROOT, call_id="c", name="add", error=BROKEN, will_retry=True)
    failed = ToolFailedEvent(**ROOT, call_id="c", name="add", error=BROKEN)
    messages = tell(*BEGINNING, started, again, failed, COMPLETED)
    assert "mcp_call.failed 0" in short(messages)
    assert output_of(messages)[0]["status"] == "failed"
    assert output_of(messages)[0]["error"]["content"] == [{"type": "text", "text": "it broke"}]
    assert output_of(messages)[0]["output"] is None


def test_a_call_that_cannot_be_made_is_told_with_its_arguments() -> None:
    failed = ToolFailedEvent(**ROOT, call_id="call_1", name="add", error=BROKEN)
    messages = tell(*BEGINNING, *written("add", "[]"), failed, COMPLETED)
    assert (output_of(messages)[0]["arguments"], output_of(messages)[0]["name"]) == ("[]", "add")


def test_nobody_knows_what_came_of_a_call_that_a_crash_cut_off() -> None:
    started = ToolStarted(**ROOT, call_id="c", name="add", arguments="{}", idempotency_key="k")
    unknown = ToolUnknownOutcome(**ROOT, call_id="c", name="add")
    messages = tell(*BEGINNING, started, unknown, COMPLETED)
    assert "not known" in output_of(messages)[0]["error"]["content"][0]["text"]


def test_a_call_of_the_clients_is_told_as_it_is_written_and_is_done_when_it_is_asked_for() -> None:
    events = [*BEGINNING, *written("look", '{"at":"x"}'), handed(arguments='{"at":"x"}')]
    messages = tell(*events, INTERRUPTED)
    assert short(messages)[2:] == [
        "output_item.added 0",
        "function_call_arguments.delta 0",
        "function_call_arguments.done 0",
        "output_item.done 0",
        "completed",
    ]
    assert output_of(messages) == [
        {
            "id": "fc_ses_story.run_1-0",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_ses_story.run_1-0",
            "name": "look",
            "arguments": '{"at":"x"}',
        }
    ]
    assert short(messages[:5])[-1] == "function_call_arguments.done 0"
    assert short(tell(*events, RunCancelled(**RUN, reason="cancel")))[-2:] == [
        "output_item.done 0",
        "incomplete",
    ]


def test_a_call_that_the_client_is_not_asked_to_make_is_no_part_of_the_output() -> None:
    refused = ToolFailedEvent(**ROOT, call_id="call_1", name="look", error=BROKEN)
    messages = tell(*BEGINNING, *written("look", "not json"), refused, *said("Sorry"), COMPLETED)
    done = next(m for m in messages if m["type"] == "response.output_item.done")
    assert done["item"]["status"] == "incomplete"
    assert [item["type"] for item in output_of(messages)] == ["message"]


def test_the_same_ids_of_calls_at_different_paths_are_different_calls() -> None:
    messages = tell(
        *BEGINNING,
        ToolCallStarted(run_id="run_1", path=("g", "a"), call_id="call_0", name="look"),
        ToolCallStarted(run_id="run_1", path=("g", "b"), call_id="call_0", name="look"),
        ToolCallDelta(run_id="run_1", path=("g", "a"), call_id="call_0", arguments="[1]"),
        ToolCallDelta(run_id="run_1", path=("g", "b"), call_id="call_0", arguments="[2]"),
        ToolCallReady(
            run_id="run_1", path=("g", "b"), call_id="call_0", name="look", arguments="[2]"
        ),
        ToolCallReady(
            run_id="run_1", path=("g", "a"), call_id="call_0", name="look", arguments="[1]"
        ),
        handed("call_0", "[1]").model_copy(update={"path": ("g", "a"), "approval_id": "apr_a"}),
        handed("call_0", "[2]").model_copy(update={"path": ("g", "b"), "approval_id": "apr_b"}),
        INTERRUPTED,
    )
    calls = [(item["call_id"], item["arguments"]) for item in output_of(messages)]
    assert calls == [("call_ses_story.run_1-0", "[1]"), ("call_ses_story.run_1-1", "[2]")]


def test_a_tool_that_is_not_known_to_be_the_clients_is_told_when_the_client_is_asked() -> None:
    started = RunStarted(**ROOT, agent="assistant", parent_run_id="run_0")
    messages = tell(started, *written("look"), handed(), INTERRUPTED)
    assert [item["type"] for item in output_of(messages)] == ["function_call"]


def test_a_question_is_told_in_place_of_the_call_that_it_is_about() -> None:
    asked = ApprovalRequested(
        **ROOT, approval_id="apr_1", call_id="call_1", tool="drop", arguments='{"all":true}'
    )
    messages = tell(*BEGINNING, *written("drop", '{"all":true}'), asked, INTERRUPTED)
    assert output_of(messages) == [
        {
            "id": "mcpr_ses_story.run_1-0",
            "type": "mcp_approval_request",
            "server_label": "tidegate",
            "name": "drop",
            "arguments": '{"all":true}',
        }
    ]
    assert messages[-1]["response"]["status"] == "completed"


def test_what_follows_a_pause_is_the_next_response() -> None:
    asked = ApprovalRequested(
        **ROOT, approval_id="apr_1", call_id="call_1", tool="drop", arguments='{"all":true}'
    )
    first: list[Event] = [*BEGINNING, *written("drop", '{"all":true}'), asked, INTERRUPTED]
    second: list[Event] = [
        ApprovalResolved(**RUN, approval_id="apr_1", decision="approved"),
        RESUMED,
        ToolStarted(
            **ROOT, call_id="call_1", name="drop", arguments='{"all":true}', idempotency_key="k"
        ),
        ToolCompleted(**ROOT, call_id="call_1", name="drop", result="gone", duration_ms=1),
        *said("Done"),
        ModelCompleted(**ROOT, message_id="msg_a", usage=USAGE, turn=2),
        COMPLETED,
    ]
    assert tell(*first, *second) == tell(*first)
    messages = tell(*first, *second, codec=Responses(segment=1, previous="resp_x"))
    response = messages[-1]["response"]
    assert response["id"] == "resp_ses_story.run_1.1"
    assert response["previous_response_id"] == "resp_ses_story.run_1"
    assert response["model"] == "assistant"
    assert response["usage"]["total_tokens"] == 5
    assert output_of(messages)[0]["approval_request_id"] == "mcpr_ses_story.run_1-0"
    assert [item["id"] for item in output_of(messages)] == [
        "mcp_ses_story.run_1.1-0",
        "msg_ses_story.run_1.1-1",
    ]
    assert messages[0]["sequence_number"] == 0


def test_the_results_of_the_clients_calls_are_no_items_of_the_next_response() -> None:
    answered = ApprovalResolved(
        **RUN, approval_id="apr_call_1", decision="answered", result="nothing"
    )
    done = ToolCompleted(**ROOT, call_id="call_1", name="look", result="nothing", duration_ms=0)
    events = [*BEGINNING, *written("look"), handed(), INTERRUPTED, answered, RESUMED, done]
    messages = tell(*events, *said("I see"), COMPLETED, codec=Responses(segment=1))
    assert [item["type"] for item in output_of(messages)] == ["message"]


def test_what_a_segment_answers_are_its_input_items() -> None:
    asked = ApprovalRequested(**ROOT, approval_id="apr_2", node="risky", arguments="1")
    events: list[Event] = [
        *BEGINNING,
        *written("look"),
        handed(),
        asked,
        INTERRUPTED,
        ApprovalResolved(**RUN, approval_id="apr_2", decision="rejected", message="no"),
        ApprovalResolved(**RUN, approval_id="apr_call_1", decision="answered", result={"a": 1}),
        RESUMED,
        INTERRUPTED,
        RESUMED,
        COMPLETED,
    ]

    def input_of(segment: int) -> Sequence[Any]:
        whole = Whole(Responses(segment))
        for entry in entries_of(events):
            whole.feed(entry)
        return whole.state.input

    content = [{"type": "input_text", "text": "hi"}]
    assert input_of(0) == (
        {"type": "message", "status": "completed", "role": "user", "content": content},
    )
    assert input_of(1) == (
        {
            "type": "mcp_approval_response",
            "approval_request_id": "mcpr_ses_story.run_1-1",
            "approve": False,
            "reason": "no",
        },
        {
            "type": "function_call_output",
            "status": "completed",
            "call_id": "call_ses_story.run_1-0",
            "output": '{"a":1}',
        },
    )
    assert input_of(2) == ()


def test_what_agents_ask_that_were_called_as_tools_is_told() -> None:
    inner = {"run_id": "run_1", "path": ("assistant", "call_1:helper")}
    started = ToolStarted(
        **ROOT, call_id="call_1", name="helper", arguments="{}", idempotency_key="k"
    )
    asked = ApprovalRequested(**inner, approval_id="apr_1", call_id="call_0", tool="drop")
    first = [*BEGINNING, started, asked, INTERRUPTED]
    messages = tell(*first)
    kinds = [(item["type"], item.get("status")) for item in output_of(messages)]
    assert kinds == [("mcp_call", "incomplete"), ("mcp_approval_request", None)]
    done = ToolCompleted(**ROOT, call_id="call_1", name="helper", result="ok", duration_ms=1)
    later = tell(*first, RESUMED, done, COMPLETED, codec=Responses(segment=1))
    assert (output_of(later)[0]["arguments"], output_of(later)[0]["output"]) == ("{}", "ok")


def test_a_client_calls_with_the_arguments_that_it_is_asked_to_call_with() -> None:
    events: list[Event] = [*BEGINNING, *written("look", "[1]"), handed(arguments="[2]")]
    assert output_of(tell(*events, INTERRUPTED))[0]["arguments"] == "[2]"
    whole = Whole(Responses())
    for entry in entries_of(events):
        whole.feed(entry)
    assert whole.object()["output"][0]["arguments"] == "[2]"


def test_a_call_that_was_written_and_not_handed_over_is_no_part_of_the_output() -> None:
    messages = tell(*BEGINNING, *written("look"), RunCancelled(**RUN, reason="cancel"))
    assert output_of(messages) == []


def test_a_call_of_a_finished_step_outlives_a_takeover() -> None:
    taken = RunAttemptStarted(**RUN, attempt=2, supersedes=1, from_step=1, reason="restart")
    done = ModelCompleted(**ROOT, turn=1)
    messages = tell(*BEGINNING, *written("look"), done, taken, handed(), INTERRUPTED)
    assert [item["status"] for item in output_of(messages)] == ["completed"]
    assert short(messages).count("output_item.added 0") == 1
    assert "output_item.added 1" not in short(messages)


def test_calls_below_do_not_answer_for_calls_of_the_same_id() -> None:
    inner: dict[str, Any] = {"run_id": "run_1", "path": ("assistant", "call_1:helper")}
    asked = ApprovalRequested(**inner, approval_id="apr_1", call_id="call_1", tool="drop")
    started = ToolStarted(
        **ROOT, call_id="call_1", name="helper", arguments="{}", idempotency_key="k"
    )
    done = ToolCompleted(**ROOT, call_id="call_1", name="helper", result="ok", duration_ms=1)
    events: list[Event] = [*BEGINNING, *written("helper", '{"a":1}'), asked]
    messages = tell(*events, started, done, COMPLETED)
    call = output_of(messages)[1]
    assert (call["name"], call["approval_request_id"], call["output"]) == ("helper", None, "ok")
    failed = ToolFailedEvent(**ROOT, call_id="call_1", name="helper", error=BROKEN)
    unmade = output_of(tell(*events, failed, COMPLETED))[1]
    assert unmade["arguments"] == '{"a":1}'


def test_a_question_without_arguments_has_empty_ones() -> None:
    asked = ApprovalRequested(**ROOT, approval_id="apr_1", node="risky")
    (item,) = output_of(tell(*BEGINNING, asked, INTERRUPTED))
    assert (item["name"], item["arguments"]) == ("risky", "{}")
