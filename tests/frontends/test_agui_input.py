"""How answers to interrupts are read."""

from __future__ import annotations

from typing import Any

import pytest
from ag_ui.core import ResumeEntry

from gateway.commands import ApprovalDecision
from gateway.errors import CommandMalformed
from gateway.frontends.agui.input import command_id_of, decision_of, is_modern, read_place
from gateway.sessions.snapshot import ApprovalView

TOOL = ApprovalView(approval_id="apr_1", run_id="run_1", call_id="call_1", tool="pay")
NODE = ApprovalView(approval_id="apr_1", run_id="run_1", node="risky")
CLIENTS = ApprovalView(approval_id="apr_1", run_id="run_1", call_id="call_1", wants="result")


def decided(payload: Any, asked: ApprovalView | None, status: Any = "resolved") -> dict[str, Any]:
    entry = ResumeEntry(interrupt_id="apr_1", status=status, payload=payload)
    decision = decision_of(entry, asked).model_dump(exclude_unset=True)
    assert decision.pop("approval_id") == "apr_1"
    return decision


@pytest.mark.parametrize("asked", [TOOL, NODE, None])
def test_yes_and_no_are_said_in_two_ways(asked: ApprovalView | None) -> None:
    for yes in (True, {"approved": True}):
        assert decided(yes, asked) == {"decision": "approve"}
    for no in (False, {"approved": False}, {"approved": False, "editedArgs": {"a": 1}}):
        assert decided(no, asked) == {"decision": "reject"}
    assert decided({"approved": False, "reason": "no"}, asked) == {
        "decision": "reject",
        "message": "no",
    }
    assert decided({"approved": True, "message": "ok"}, asked) == {
        "decision": "approve",
        "message": "ok",
    }


@pytest.mark.parametrize("payload", [None, True, {"approved": True}, "x"])
@pytest.mark.parametrize("asked", [TOOL, NODE, CLIENTS])
def test_cancelled_is_no_whatever_goes_with_it(payload: Any, asked: ApprovalView) -> None:
    assert decided(payload, asked, "cancelled") == {"decision": "reject"}


def test_other_arguments_and_values_are_edits() -> None:
    edited = {"approved": True, "editedArgs": {"amount": 1}}
    assert decided(edited, TOOL) == {"decision": "edit", "arguments": '{"amount":1}'}
    values: list[Any] = [0, "x", [1], {"a": None}]
    for value in values:
        as_text = ApprovalDecision.model_validate(
            {"approval_id": "apr_1"} | decided({"approved": True, "value": value}, NODE)
        )
        assert (as_text.decision, as_text.arguments_text is None) == ("edit", False)
    texts: list[tuple[Any, str]] = [(0, "0"), ("x", '"x"'), ({"a": 1}, '{"a":1}')]
    for value, text in texts:
        assert decided(value, NODE) == {"decision": "edit", "arguments": text}


@pytest.mark.parametrize("payload", [None, {}, "x", 1, {"value": 1}])
def test_a_tool_call_needs_a_plain_yes_or_no(payload: Any) -> None:
    for asked in (TOOL, None):
        with pytest.raises(CommandMalformed, match="apr_1"):
            decided(payload, asked)


def test_a_node_needs_some_answer() -> None:
    with pytest.raises(CommandMalformed, match="apr_1"):
        decided(None, NODE)


@pytest.mark.parametrize("result", ["x", {"a": 1}, None, True])
def test_the_answer_for_a_tool_of_the_clients_is_its_result(result: Any) -> None:
    assert decided(result, CLIENTS) == {"decision": "answer", "result": result}


def test_versions_from_1_0_on_are_modern() -> None:
    assert [is_modern(v) for v in ("1.0", "1.1", "2.0", "10.0")] == [True] * 4
    assert [is_modern(v) for v in (None, "", "0.9", "1", "1.0.0", "new")] == [False] * 6


def test_ids_of_runs_are_ids_of_commands_where_they_can_be() -> None:
    assert command_id_of("run-1") == "run-1"
    for odd in ("", "a b", "☀", "x" * 129):
        assert command_id_of(odd).startswith("agui_")
    assert command_id_of("a b") != command_id_of("a  b")


def test_a_request_to_join_says_which_thread_and_needs_no_more() -> None:
    place = read_place({"threadId": "t", "messages": None, "protocolVersion": "1.0"})
    assert (place.thread_id, place.run_id, place.modern) == ("t", None, True)
    with pytest.raises(CommandMalformed, match="threadId"):
        read_place({"runId": "r"})
