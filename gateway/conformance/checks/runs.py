"""Section 2 of PROTOCOL.md: how runs begin, end and go on, agents and graphs alike."""

from __future__ import annotations

from collections.abc import Callable

from gateway.conformance import logs
from gateway.conformance.check import Checks, NotChecked, must, must_equal
from gateway.conformance.events import Log, shown, the
from gateway.conformance.stories import STORIES, WORDS, research, stopped_research
from gateway.conformance.target import Target

CHECKS = Checks()


async def _every_story(target: Target, rule: Callable[[Log], None]) -> None:
    """Look at all runs that this server's agents can do."""
    stories = [story for role in STORIES if role in target.agents for story in STORIES[role]]
    if not stories:
        raise NotChecked("needs an agent like `echo`, `tools` or `research`")
    for story in stories:
        rule((await target.once(story)).log)


@CHECKS.of("run.one_end")
async def each_run_ends_once(target: Target) -> None:
    """A run has one end, whether it completes or is cancelled, and nothing follows it."""
    await _every_story(target, logs.runs_end_once)


@CHECKS.of("run.boundaries")
async def what_is_opened_is_closed(target: Target) -> None:
    """Messages, calls, tools, nodes and supersteps are closed before their run ends or waits."""
    await _every_story(target, logs.boundaries_are_closed)


@CHECKS.of("path.below")
async def paths_lead_from_the_run_to_the_speaker(target: Target) -> None:
    """A run's own events have a path of one part; below it are nodes, and calls of agents."""
    await _every_story(target, logs.paths_lead_to_the_speaker)


@CHECKS.of("path.below", needs=("research",))
async def what_a_node_says_is_conversation(target: Target) -> None:
    """What a graph's node says has the node in its path, and is a message of the session."""
    told = await target.once(research)
    said = [event for event in told.log if event.type == "message.completed"]
    must(said, "a message of a node", "none in the log of a graph")
    shows = (await target.snapshot(told.session_id))["messages"]
    for event in said:
        must(len(event.get("path")) > 1, "[graph, node, …] as its path", shown(event.raw))
        ids = [message["message_id"] for message in shows]
        must(event.get("message_id") in ids, "it among the snapshot's messages", ids)


@CHECKS.of("graph.run", needs=("research",))
async def a_graph_goes_in_supersteps(target: Target) -> None:
    """A graph's log has its supersteps, their nodes from start to end, and the ways on."""
    for story in (research, stopped_research):
        told = await target.once(story)
        logs.graphs_go_in_supersteps(told.log)
    types = {event.type for event in (await target.once(research)).log}
    wanted = {"superstep.started", "node.started", "node.update", "node.completed", "edge.taken"}
    must(wanted <= types, f"all of {', '.join(sorted(wanted))}", sorted(types))


@CHECKS.of("graph.run", needs=("research",))
async def a_node_that_asks_starts_again(target: Target) -> None:
    """A node that asks is closed by node.failed with the code `interrupted`, and starts again."""
    log = (await target.once(research)).log
    asked = the(log, "approval.requested")
    after = [event for event in log if event.seq > asked.seq]
    ends = next((event for event in after if event.type in {"node.failed", "node.completed"}), None)
    must(
        ends and ends.type == "node.failed" and ends.get("error")["code"] == "interrupted",
        "node.failed with the code `interrupted`",
        shown(ends.raw) if ends else "neither node.failed nor node.completed",
    )
    again = [event.get("node") for event in after if event.type == "node.started"]
    must(asked.get("node") in again, f"node.started of {asked.get('node')!r} once more", again)


@CHECKS.of("snapshot.nodes", needs=("research",))
async def the_snapshot_shows_each_node(target: Target) -> None:
    """`run.nodes` has each node that has begun, in that order, as it stands."""
    told = await target.once(research)
    middle, waits = told.snapshots
    shows_at = f"GET /v1/sessions/{told.session_id}"
    shows = {node["node"]: node for node in middle["run"].get("nodes") or ()}
    begun = _begun(told.log, middle["cursor"])
    must_equal(list(shows), begun, "run.nodes while nodes work", shows_at)
    must(any(node["status"] == "running" for node in shows.values()), "a node that runs", [*shows])
    for node in shows.values():
        must("path" in node and "times" in node, "path and times", node)
        must("superstep" in node, "superstep of a node that has begun", node)
    held = {node["node"]: node["status"] for node in waits["run"].get("nodes") or ()}
    asked = the(told.log, "approval.requested").get("node")
    must_equal(held.get(asked), "interrupted", f"the status of {asked!r}, which asks,")
    end = (await target.snapshot(told.session_id))["run"].get("nodes") or ()
    must_equal({node["status"] for node in end}, {"completed"}, "the statuses at the end")
    must(all("duration_ms" in node for node in end), "duration_ms of what is done", end)


@CHECKS.of("snapshot.nodes", needs=("research",))
async def nodes_that_were_stopped_are_skipped(target: Target) -> None:
    """A node that waits for a human when the run is cancelled is `skipped`; none still runs."""
    session_id = await target.session("research")
    log = await target.say(session_id, "lighthouses")
    asked = the(log, "approval.requested").get("node")
    (await target.command(session_id, "cancel")).must_be(202)
    told = await target.once(stopped_research)
    for stopped in (session_id, told.session_id):
        run = (await target.snapshot(stopped))["run"]
        found = {node["node"]: node["status"] for node in run.get("nodes") or ()}
        must_equal(run["status"], "cancelled", "the run's status", f"GET /v1/sessions/{stopped}")
        must("running" not in found.values(), "no node that runs after the run", found)
        if stopped == session_id:
            must_equal(found.get(asked), "skipped", f"the status of {asked!r}, which waited,")


def _begun(log: Log, cursor: str) -> list[str]:
    seq = int(cursor.split(".")[1])
    begun = [
        str(each.get("node")) for each in log if each.type == "node.started" and each.seq <= seq
    ]
    return list(dict.fromkeys(begun))


@CHECKS.of("run.continued", needs=("echo",))
async def a_stopped_run_goes_on_as_another(target: Target) -> None:
    """A `continue` after a cancel starts a run that names its parent and says the rest anew."""
    session_id = await target.session("echo")
    ack = await target.send(session_id, WORDS, options={"interval_ms": 30})
    await target.until(session_id, lambda event: event.type == "message.delta", "message.delta")
    (await target.command(session_id, "cancel")).must_be(202)
    await target.ended(session_id, ack["run_id"])
    answer = (await target.command(session_id, "continue")).must_be(202)
    log = await target.ended(session_id, answer.json["run_id"])
    logs.runs_end_once(log)
    started = the(log, "run.started", run_id=answer.json["run_id"])
    must_equal(started.get("parent_run_id"), ack["run_id"], "parent_run_id", shown(started.raw))
    shows = (await target.snapshot(session_id))["messages"]
    cut = [each.get("superseded") for each in shows if each.get("incomplete")]
    must_equal(cut, [True], "`superseded` of what was incomplete", answer.request)
    must_equal(shows[-1]["text"], WORDS, "the answer of the run that goes on", answer.request)


@CHECKS.of("run.taken_over", needs=("echo",), phase="kill")
async def a_killed_run_is_taken_over(target: Target) -> None:
    """After kill -9 a run goes on as the next attempt, with what was half said superseded."""
    session_id = await target.session("echo")
    ack = await target.send(session_id, WORDS, options={"interval_ms": 150})
    await target.until(session_id, lambda event: event.type == "message.delta", "message.delta")
    await target.restart()
    log = await target.until(
        session_id, lambda event: event.type == "run.completed", "run.completed", limit=30.0
    )
    for rule in (logs.seq_is_whole, logs.runs_end_once, logs.boundaries_are_closed):
        rule(log)
    again = the(log, "run.attempt_started")
    for name, value in (("attempt", 2), ("supersedes", 1), ("from_step", 0)):
        must_equal(again.get(name), value, f"`{name}` of run.attempt_started", shown(again.raw))
    closed = [each for each in log if each.type == "message.completed" and each.seq < again.seq + 5]
    cut = next((each for each in closed if each.get("incomplete")), None)
    must(
        cut and cut.get("superseded"),
        "the open message closed with `incomplete` and `superseded`",
        [shown(each.raw) for each in closed],
    )
    shows = (await target.snapshot(session_id))["messages"]
    texts = [each["text"] for each in shows if not each.get("superseded")]
    must_equal(texts, [WORDS, WORDS], "the messages that count")
    must_equal(log[-1].get("run_id"), ack["run_id"], "the run that ends")


@CHECKS.of("run.taken_over", needs=("tools",), phase="kill")
async def tools_are_not_done_twice(target: Target) -> None:
    """A tool that had started, and is not declared idempotent, ends in an unknown outcome."""
    session_id = await target.session("tools")
    await target.send(session_id, "weather in Oslo and Rome")
    await target.until(session_id, lambda event: event.type == "tool.started", "tool.started")
    await target.restart()
    log = await target.until(
        session_id, lambda event: event.type == "run.completed", "run.completed", limit=30.0
    )
    begun = [each.get("call_id") for each in log if each.type == "tool.started"]
    must_equal(sorted(begun), sorted(set(begun)), "each call to start once")
    ends = {each.get("call_id") for each in log if each.type == "tool.unknown_outcome"}
    done = {each.get("call_id") for each in log if each.type == "tool.completed"}
    must_equal(ends | done, set(begun), "the calls with an end")


@CHECKS.of("run.boundaries", needs=("tools",))
async def what_a_cancel_cuts_is_closed(target: Target) -> None:
    """A run that is cancelled in its tools closes them, and the half-said is `incomplete`."""
    session_id = await target.session("tools")
    ack = await target.send(session_id, "weather in Oslo and Rome")
    await target.until(session_id, lambda event: event.type == "tool.started", "tool.started")
    (await target.command(session_id, "cancel")).must_be(202)
    log = await target.ended(session_id, ack["run_id"])
    logs.boundaries_are_closed(log)
    must_equal(log[-1].type, "run.cancelled", "the end")
