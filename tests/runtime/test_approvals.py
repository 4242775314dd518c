"""Calls that need a human, and runs that go on from what the log holds."""

from __future__ import annotations

import pytest

from runtime import Agent, Message, ScriptedModel, ToolCall, ToolContext, tool
from runtime.events import (
    ApprovalRequested,
    ErrorInfo,
    RunCompleted,
    RunInterrupted,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.models.scripted import call_tools, say
from runtime.runnable import Decision
from tests.runtime.support import Log, request, run, user

deleted: list[str] = []
LOOK = ToolCall(id="c1", name="look", arguments="{}")
DELETE = ToolCall(id="c2", name="delete", arguments='{"path":"a.txt"}')
ASKED = (user("go"), Message(role="assistant", tool_calls=(LOOK, DELETE)))
LOOKED = Message(role="tool", content="seen", tool_call_id="c1")


@pytest.fixture(autouse=True)
def nothing_deleted() -> None:
    deleted.clear()


@tool
async def look() -> str:
    return "seen"


@tool(needs_approval=True)
async def delete(path: str) -> str:
    deleted.append(path)
    return f"deleted {path}"


@tool(idempotent=True, needs_approval=True)
async def pay(told: ToolContext) -> str:
    return told.idempotency_key


def agent(model: ScriptedModel) -> Agent:
    return Agent("a", model, tools=[look, delete, pay])


async def resume(
    model: ScriptedModel, *history: Message, started: frozenset[str] = frozenset(), **said: Decision
) -> Log:
    asked = request(history, decisions=said, started=started, announce=False, turns=1)
    return await run(agent(model), asked)


def told(model: ScriptedModel) -> list[tuple[str | None, str]]:
    """Return the tool answers in the model's last request."""
    messages = model.requests[-1].messages
    return [(m.tool_call_id, m.content) for m in messages if m.role == "tool"]


@pytest.mark.rows("SX4", "X1")
async def test_a_run_does_all_else_and_then_waits_for_the_human_outside_memory() -> None:
    model = ScriptedModel([call_tools(DELETE, LOOK)])
    log = await run(agent(model))
    assert log.types[-4:] == [
        "tool.started",
        "tool.completed",
        "approval.requested",
        "run.interrupted",
    ]
    asked = log.one(ApprovalRequested)
    assert asked.approval_id.startswith("apr_")
    assert (asked.call_id, asked.tool, asked.arguments) == ("c2", "delete", '{"path":"a.txt"}')
    end = log.one(RunInterrupted)
    assert (end.reason, end.pending) == ("approval", (asked.approval_id,))
    assert deleted == []


async def test_every_call_that_needs_one_gets_its_own_approval() -> None:
    other = DELETE.model_copy(update={"id": "c3"})
    log = await run(agent(ScriptedModel([call_tools(DELETE, other)])))
    asked = log.of(ApprovalRequested)
    assert [event.call_id for event in asked] == ["c2", "c3"]
    assert log.one(RunInterrupted).pending == tuple(event.approval_id for event in asked)


async def test_an_approved_call_runs_and_the_run_goes_on() -> None:
    model = ScriptedModel([say("done")])
    log = await resume(model, *ASKED, LOOKED, c2=Decision("approved"))
    assert deleted == ["a.txt"]
    assert log.types[:3] == ["tool.started", "tool.completed", "model.started"]
    assert told(model) == [("c1", "seen"), ("c2", "deleted a.txt")]
    assert log.one(RunCompleted).num_turns == 2


async def test_an_edited_call_runs_with_the_humans_arguments() -> None:
    model = ScriptedModel([say("done")])
    log = await resume(model, *ASKED, LOOKED, c2=Decision("edited", arguments='{"path":"b.txt"}'))
    assert deleted == ["b.txt"]
    assert log.one(ToolStarted).arguments == '{"path":"b.txt"}'


async def test_edited_arguments_that_do_not_fit_are_told_and_nothing_runs() -> None:
    model = ScriptedModel([say("oh")])
    log = await resume(model, *ASKED, LOOKED, c2=Decision("edited", arguments="{}"))
    assert deleted == []
    assert log.one(ToolFailedEvent).error.code == "tool_arguments_invalid"


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        (Decision("rejected", message="keep it"), "a human rejected this call: keep it"),
        (Decision("rejected"), "a human rejected this call"),
        (Decision("expired"), "nobody approved this call in time"),
    ],
)
async def test_a_rejected_call_does_not_run_and_the_model_is_told_why(
    decision: Decision, text: str
) -> None:
    model = ScriptedModel([say("as you like")])
    log = await resume(model, *ASKED, LOOKED, c2=decision)
    assert deleted == []
    assert log.types[0] == "tool.failed"
    assert log.one(ToolFailedEvent).error == ErrorInfo(code="rejected", message=text)
    assert told(model)[-1] == ("c2", f"error: {text}")


async def test_a_decision_is_used_up_by_its_call() -> None:
    model = ScriptedModel([call_tools(DELETE)])
    log = await resume(model, *ASKED, LOOKED, c2=Decision("approved"))
    assert deleted == ["a.txt"]
    assert log.one(ApprovalRequested).call_id != "c2"
    assert log.types[-1] == "run.interrupted"


async def test_unanswered_calls_are_the_first_work_and_answers_keep_the_order_of_the_calls() -> (
    None
):
    model = ScriptedModel([say("done")])
    done = Message(role="tool", content="deleted", tool_call_id="c2")
    log = await resume(model, *ASKED, done)
    assert log.types[:3] == ["tool.started", "tool.completed", "model.started"]
    assert log.one(ToolCompleted).call_id == "c1"
    assert told(model) == [("c1", "seen"), ("c2", "deleted")]


async def test_a_call_without_a_decision_is_asked_about_again() -> None:
    log = await resume(ScriptedModel([]), *ASKED, LOOKED)
    assert log.types == ["approval.requested", "run.interrupted"]


async def test_a_history_without_open_calls_goes_to_the_model() -> None:
    model = ScriptedModel([say("done")])
    done = Message(role="tool", content="deleted", tool_call_id="c2")
    log = await resume(model, *ASKED, LOOKED, done)
    assert log.types[0] == "model.started"


async def test_a_call_that_had_started_is_not_run_again_and_its_outcome_is_unknown() -> None:
    model = ScriptedModel([say("I will check")])
    log = await resume(model, *ASKED, LOOKED, started=frozenset({"c2"}), c2=Decision("approved"))
    assert deleted == []
    assert log.one(ToolUnknownOutcome).call_id == "c2"
    assert "not known whether it took effect" in told(model)[-1][1]


async def test_an_idempotent_call_that_had_started_is_run_again_under_the_same_key() -> None:
    model = ScriptedModel([say("paid")])
    call = ToolCall(id="c9", name="pay", arguments="{}")
    log = await resume(
        model,
        user("pay"),
        Message(role="assistant", tool_calls=(call,)),
        started=frozenset({"c9"}),
    )
    assert log.one(ToolStarted).idempotency_key == "run_1:c9"
    assert log.one(ToolCompleted).result == "run_1:c9"


def test_a_decision_that_is_none_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        ValueError, match="approved, rejected, edited, expired, answered, and not 'approve'"
    ):
        Decision("approve")  # type: ignore[arg-type]  # the wire's word
