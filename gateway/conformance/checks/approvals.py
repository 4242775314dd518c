"""Section 4 of PROTOCOL.md: what a run asks of a human, or of whoever has the tool."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.conformance.check import Checks, NotChecked, must, must_equal
from gateway.conformance.events import Event, shown, the
from gateway.conformance.streams import open_events
from gateway.conformance.target import Target

CHECKS = Checks()


async def _asked(target: Target, session_id: str, text: str, **fields: Any) -> dict[str, Any]:
    """Say something that makes a run ask; return the approval of the snapshot."""
    log = await target.say(session_id, text, **fields)
    approvals = (await target.snapshot(session_id))["approvals"]
    must_equal(len(approvals), 1, f"the number of approvals after {text!r}", shown(log[-1].raw))
    return dict(approvals[0])


async def _decide(
    target: Target, session_id: str, approval: dict[str, Any], decision: str, **more: Any
) -> list[Event]:
    decided = {"approval_id": approval["approval_id"], "decision": decision, **more}
    answer = await target.command(session_id, "continue", decisions=[decided])
    answer.must_be(202)
    return await target.decided(session_id, approval["run_id"])


@CHECKS.of("approval.shared", needs=("tools",))
async def whoever_joins_sees_the_question(target: Target) -> None:
    """An approval is in the log and in the snapshot, also for who joins later."""
    session_id = await target.session("tools")
    approval = await _asked(target, session_id, "delete notes.txt")
    log = await target.log(session_id)
    asked = the(log, "approval.requested")
    must_equal(asked.get("approval_id"), approval["approval_id"], "the approval", shown(asked.raw))
    async with open_events(target, "sse", session_id) as stream:
        reset = await stream.next("stream.reset")
    shows = reset.get("snapshot")["approvals"]
    must_equal([each["approval_id"] for each in shows], [approval["approval_id"]], "the snapshot's")
    must_equal((await target.snapshot(session_id))["status"], "interrupted", "the status")


@CHECKS.of("approval.shared", needs=("tools",))
async def the_first_decision_wins(target: Target) -> None:
    """Of decisions that come at once one wins; others get `approval_resolved`, which names it."""
    session_id = await target.session("tools")
    approval = await _asked(target, session_id, "delete notes.txt")
    async with asyncio.TaskGroup() as tasks:
        answers = [
            tasks.create_task(
                target.command(
                    session_id,
                    "continue",
                    id=command_id,
                    decisions=[{"approval_id": approval["approval_id"], "decision": decision}],
                )
            )
            for command_id, decision in (("first", "approve"), ("other", "reject"))
        ]
    found = {answer.result().status: answer.result() for answer in answers}
    statuses = sorted(answer.result().status for answer in answers)
    must_equal(statuses, [202, 409], "the statuses of both", answers[0].result().request)
    winner = found[202].json["id"]
    lost = found[409].must_be_refused("approval_resolved", 409)
    must(winner in lost.json["detail"], f"the winner {winner!r} named", lost.shown, lost.request)
    log = await target.until(session_id, lambda e: e.type == "run.completed", "run.completed")
    settled = [event for event in log if event.type == "approval.resolved"]
    must_equal(len(settled), 1, "the number of approval.resolved", lost.request)
    must_equal((await target.snapshot(session_id))["approvals"], [], "the snapshot's approvals")


@CHECKS.of("approval.shared", needs=("tools",))
async def decisions_do_what_they_say(target: Target) -> None:
    """`approve` runs the tool, `edit` runs it with other arguments, `reject` does not run it."""
    session_id = await target.session("tools")
    log = await _decide(target, session_id, await _asked(target, session_id, "delete a"), "approve")
    must_equal(_arguments(log), [{"path": "a"}], "the arguments of tool.started")
    approval = await _asked(target, session_id, "delete b")
    log = await _decide(target, session_id, approval, "edit", arguments={"path": "c"})
    must_equal(_arguments(log)[1:], [{"path": "c"}], "the arguments of tool.started")
    approval = await _asked(target, session_id, "delete d")
    log = await _decide(target, session_id, approval, "reject", message="keep it")
    must_equal(len(_arguments(log)), 2, "the number of tools that ran")
    failed = [event for event in log if event.type == "tool.failed"]
    must_equal(len(failed), 1, "the number of tool.failed after `reject`")


def _arguments(log: list[Event]) -> list[Any]:
    return [json.loads(each.get("arguments")) for each in log if each.type == "tool.started"]


@CHECKS.of("approval.shared", needs=("tools",), phase="kill")
async def a_question_survives_a_kill(target: Target) -> None:
    """An approval is there after kill -9, and can be decided."""
    session_id = await target.session("tools")
    approval = await _asked(target, session_id, "delete notes.txt")
    await target.restart()
    shows = (await target.snapshot(session_id))["approvals"]
    must_equal([each["approval_id"] for each in shows], [approval["approval_id"]], "the approvals")
    log = await _decide(target, session_id, approval, "approve")
    must_equal(log[-1].type, "run.completed", "the end", shown(log[-1].raw))


@CHECKS.of("approval.node", needs=("research",))
async def a_node_asks_and_takes_a_value(target: Target) -> None:
    """A node's approval has `node`, no `call_id`, and JSON arguments; `edit` gives a value."""
    session_id = await target.session("research")
    approval = await _asked(target, session_id, "tides")
    must("node" in approval, "`node`", approval)
    must("call_id" not in approval, "no `call_id`", approval)
    value = json.loads(approval["arguments"])
    must(isinstance(value, dict) and "topic" in value, "JSON that shows what it is about", value)
    value["topic"] = "another topic"
    log = await _decide(target, session_id, approval, "edit", arguments=value)
    text = json.dumps([event.data for event in log if event.seq > len(log) - 10])
    must("another topic" in text, "the run to go on with the value", shown(log[-1].raw))


@CHECKS.of("approval.node", needs=("tools",))
async def a_call_asks_with_its_arguments(target: Target) -> None:
    """A call's approval has `call_id`, `tool` and `arguments`, and no `node`."""
    session_id = await target.session("tools")
    approval = await _asked(target, session_id, "delete notes.txt")
    must({"call_id", "tool", "arguments"} <= approval.keys(), "call_id, tool, arguments", approval)
    must("node" not in approval, "no `node`", approval)


TOOL = {
    "name": "where_am_i",
    "description": "Says where the client is.",
    "parameters": {"type": "object", "properties": {}},
}


@CHECKS.of("approval.client_tool", needs=("tools",))
async def names_and_decisions_that_do_not_fit_are_refused(target: Target) -> None:
    """A client's tool with a name that the agent has is refused; so is `answer` to an approval."""
    session_id = await target.session("tools")
    log = await target.say(session_id, "weather in Oslo")
    taken = the(log, "tool.started").get("name")
    refused = await target.command(session_id, "send", text="x", tools=[{**TOOL, "name": taken}])
    must(400 <= refused.status < 500, "a refusal", refused.shown, refused.request)  # noqa: PLR2004
    approval = await _asked(target, session_id, "delete notes.txt")
    decided = {"approval_id": approval["approval_id"], "decision": "answer", "result": 1}
    answer = await target.command(session_id, "continue", decisions=[decided])
    must(400 <= answer.status < 500, "a refusal", answer.shown, answer.request)  # noqa: PLR2004
    shows = (await target.snapshot(session_id))["approvals"]
    must_equal(len(shows), 1, "the number of approvals that still wait", answer.request)


@CHECKS.of("approval.client_tool", needs=("caller",))
async def a_client_has_the_tool_that_is_called(target: Target) -> None:
    """A call of the client's tool waits for its result; `answer` gives it, `reject` fails it."""
    for decision, end in (("answer", "tool.completed"), ("reject", "tool.failed")):
        session_id = await target.session("caller")
        text = f"call {TOOL['name']}"
        log = await target.say(session_id, text, tools=[TOOL])
        if log[-1].type != "run.interrupted":
            raise NotChecked(
                f"{target.agents['caller']!r} did not call the client's tool when told {text!r}; "
                "name an agent that does with --caller NAME"
            )
        (approval,) = (await target.snapshot(session_id))["approvals"]
        must_equal(approval.get("wants"), "result", "`wants`", json.dumps(approval))
        must(isinstance(json.loads(approval["arguments"]), dict), "an object", approval)
        for wrong in ("approve", "edit"):
            decided = {"approval_id": approval["approval_id"], "decision": wrong}
            decided |= {"arguments": "{}"} if wrong == "edit" else {}
            refused = await target.command(session_id, "continue", decisions=[decided])
            must(400 <= refused.status < 500, "a refusal", refused.shown, refused.request)  # noqa: PLR2004
        more: dict[str, Any] = (
            {"result": {"place": 1}} if decision == "answer" else {"message": "no"}
        )
        log = await _decide(target, session_id, approval, decision, **more)
        found = next((e for e in log if e.type in {"tool.completed", "tool.failed"}), None)
        must(found and found.type == end, end, shown(found.raw) if found else "no end of the tool")
        if found and decision == "answer":
            must_equal(found.get("result"), {"place": 1}, "the result", shown(found.raw))
