"""What AG-UI clients are told of agents below others, and of graphs and their state."""

from __future__ import annotations

from typing import Any

from gateway.codecs.agui import AguiCodec, Names
from runtime.events import (
    AgentCompleted,
    AgentStarted,
    Event,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    ReasoningStarted,
    RunInterrupted,
    RunResumed,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
)
from tests.codecs.agui_telling import (
    BROKEN,
    COMPLETED,
    GRAPH,
    RUN,
    STARTED,
    ask,
    say,
    told,
)

# --- agents and graphs ---------------------------------------------------------------------------


def invoked(messages: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [
        (m["subagentRunId"], m.get("parentSubagentRunId"))
        for m in messages
        if m["type"] == "SUBAGENT_STARTED"
    ]


def test_agents_below_others_are_subagents_and_own_what_they_say() -> None:
    helper = ("boss", "call_1:helper")
    deeper = (*helper, "call_2:expert")
    of: Any = {"run_id": "run_1", "path": deeper}
    messages = told(
        STARTED,
        AgentStarted(run_id="run_1", path=helper, agent="helper"),
        AgentStarted(run_id="run_1", path=deeper, agent="expert"),
        *say("m", "x", of),
        ReasoningStarted(**of, message_id="r"),
        ToolCallStarted(**of, call_id="c", name="add", message_id="m"),
        ToolCallReady(**of, call_id="c", name="add", arguments=""),
        ToolCompleted(**of, call_id="c", name="add", result=1, duration_ms=1),
        AgentCompleted(run_id="run_1", path=deeper, agent="expert", output="x"),
        AgentCompleted(run_id="run_1", path=helper, agent="helper"),
    )
    first, second = "boss/call_1:helper", "boss/call_1:helper/call_2:expert"
    assert invoked(messages) == [(first, None), (second, first)]
    assert messages[0]["parentToolCallId"] == "call_1"
    owned = {m["type"] for m in messages if m.get("subagentRunId") == second}
    assert owned == {
        "SUBAGENT_STARTED",
        "TEXT_MESSAGE_START",
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "TOOL_CALL_START",
        "TOOL_CALL_RESULT",
        "SUBAGENT_FINISHED",
    }
    assert [m.get("result") for m in messages if m["type"] == "SUBAGENT_FINISHED"] == ["x", None]


def test_an_agent_that_begins_again_is_another_subagent() -> None:
    path = ("graph", "n")
    begun = AgentStarted(run_id="run_1", path=path, agent="n")
    done = AgentCompleted(run_id="run_1", path=path, agent="n")
    messages = told(STARTED, begun, done, begun, done, begun)
    assert [id_ for id_, _ in invoked(messages)] == ["graph/n", "graph/n#2", "graph/n#3"]
    assert "parentToolCallId" not in messages[0]


def test_a_pause_suspends_the_agents_that_wait() -> None:
    inner, deeper = ("boss", "c1:helper"), ("boss", "c1:helper", "c2:expert")
    beside = ("boss", "c3:helper")
    messages = told(
        STARTED,
        *(AgentStarted(run_id="run_1", path=path, agent="x") for path in (inner, deeper, beside)),
        ask(path=deeper, call_id="c9"),
        RunInterrupted(**RUN, reason="x", pending=("apr_1",)),
    )
    suspended = [m for m in messages if m["type"] == "SUBAGENT_FINISHED"]
    assert [(m["subagentRunId"], m["outcome"]["interruptIds"]) for m in suspended] == [
        ("boss/c1:helper/c2:expert", ["apr_1"]),
        ("boss/c1:helper", ["apr_1"]),
        ("boss/c3:helper", []),
    ]
    (interrupt,) = messages[-1]["outcome"]["interrupts"]
    assert interrupt["subagentRunId"] == "boss/c1:helper/c2:expert"


def test_clients_before_1_0_are_told_of_no_subagents() -> None:
    path = ("boss", "c1:helper")
    of: Any = {"run_id": "run_1", "path": path}
    codec = AguiCodec(Names("t1", "r1"))
    messages = told(
        STARTED,
        AgentStarted(run_id="run_1", path=path, agent="x"),
        *say("m", "x", of),
        AgentCompleted(run_id="run_1", path=path, agent="x"),
        codec=codec,
    )
    assert {m["type"] for m in messages} == {
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
    }
    assert "subagentRunId" not in messages[0]


def test_steps_have_names_of_their_own_however_deep_they_are() -> None:
    inner: Any = {"run_id": "run_1", "path": ("graph", "a", "inner")}
    tricky: Any = {"run_id": "run_1", "path": ("graph", "a/inner")}
    messages = told(
        STARTED,
        NodeStarted(**GRAPH, node="a"),
        NodeStarted(**inner, node="a"),
        NodeStarted(**tricky, node="a"),
        NodeCompleted(**tricky, node="a", duration_ms=1),
        NodeCompleted(**inner, node="a", duration_ms=2),
    )
    assert [(m["type"], m["stepName"]) for m in messages] == [
        ("STEP_STARTED", "a"),
        ("STEP_STARTED", "a/inner/a"),
        ("STEP_STARTED", "a/inner/a'"),
        ("STEP_FINISHED", "a/inner/a'"),
        ("STEP_FINISHED", "a/inner/a"),
    ]
    assert messages[-1]["metadata"] == {"tidegate": {"status": "completed", "durationMs": 2}}


def states(*events: Event) -> list[dict[str, Any]]:
    kinds = {"STATE_SNAPSHOT", "STATE_DELTA"}
    return [m for m in told(STARTED, *events) if m["type"] in kinds]


BIG = "x" * 200


def test_a_graphs_state_is_a_snapshot_first_and_then_patches() -> None:
    def node(name: str, after: dict[str, Any]) -> list[Event]:
        return [
            NodeStarted(**GRAPH, node=name, state={"n": 0, "list": [], "big": BIG}),
            NodeCompleted(**GRAPH, node=name, state=after, duration_ms=1),
        ]

    first = {"n": 1, "list": [1], "big": BIG}
    last = COMPLETED.model_copy(update={"state": first | {"true/false": True}})
    snapshot, delta, end = states(*node("a", first), last)
    assert snapshot["snapshot"] == {"n": 0, "list": [], "big": BIG}
    operations = {operation["path"]: operation for operation in delta["delta"]}
    assert operations["/n"] == {"op": "replace", "path": "/n", "value": 1}
    assert operations["/list/0"]["value"] == 1
    assert end["delta"] == [{"op": "add", "path": "/true~1false", "value": True}]


def test_a_state_that_did_not_change_is_not_told_and_a_small_one_is_told_whole() -> None:
    begun = NodeStarted(**GRAPH, node="a", state={"n": 1})
    same = NodeCompleted(**GRAPH, node="a", state={"n": 1}, duration_ms=1)
    other = COMPLETED.model_copy(update={"state": {"n": True}})
    assert [m.get("snapshot") for m in states(begun, same, other)] == [{"n": 1}, {"n": True}]


def test_nodes_side_by_side_do_not_undo_each_other() -> None:
    base = {"n": 0, "list": ["-"], "big": BIG}
    messages = states(
        NodeStarted(**GRAPH, node="a", state=base),
        NodeStarted(**GRAPH, node="b", state=base),
        NodeStarted(**GRAPH, node="c", state=base),
        NodeCompleted(**GRAPH, node="a", state=base | {"n": 1}, duration_ms=1),
        NodeCompleted(**GRAPH, node="b", state=base | {"list": ["-", "b"]}, duration_ms=1),
        NodeCompleted(**GRAPH, node="c", state=base | {"list": ["-", "c"]}, duration_ms=1),
    )
    assert [m["delta"][0]["path"] for m in messages[1:]] == ["/n", "/list/1", "/list/2"]
    assert [m["delta"][0]["value"] for m in messages[1:]] == [1, "b", "c"]


def test_a_list_that_was_set_anew_replaces_the_other() -> None:
    base = {"list": ["-"], "big": BIG}
    messages = states(
        NodeStarted(**GRAPH, node="a", state=base),
        NodeStarted(**GRAPH, node="b", state=base),
        NodeCompleted(**GRAPH, node="a", state=base | {"list": ["-", "a"]}, duration_ms=1),
        NodeCompleted(**GRAPH, node="b", state=base | {"list": ["b"]}, duration_ms=1),
        COMPLETED.model_copy(update={"state": {"list": ["b"], "big": BIG}}),
    )
    assert len(messages) == 3  # and the last state is what the client has
    *_, appended = states(
        NodeStarted(**GRAPH, node="a", state=base),
        NodeStarted(**GRAPH, node="b", state=base),
        NodeCompleted(**GRAPH, node="a", state=base | {"list": ["a"]}, duration_ms=1),
        NodeCompleted(**GRAPH, node="b", state=base | {"list": ["-", "b"]}, duration_ms=1),
        COMPLETED.model_copy(update={"state": {"list": ["-", "b"], "big": BIG}}),
    )
    assert appended["delta"][-1] == {"op": "add", "path": "/list/1", "value": "b"}


def test_the_state_of_a_graph_within_is_its_own_affair() -> None:
    inner: Any = {"run_id": "run_1", "path": ("graph", "a", "inner")}
    begun = NodeStarted(**inner, node="b", state={"n": 1})
    done = NodeCompleted(**inner, node="b", state={"n": 2}, duration_ms=1)
    assert states(begun, done) == []


def test_a_client_keeps_the_state_and_the_activities_of_a_run_that_pauses() -> None:
    update = NodeUpdate(**GRAPH, node="a", updates={"percent": 5})
    messages = told(
        STARTED,
        NodeStarted(**GRAPH, node="a", state={"n": 0, "big": BIG}),
        update,
        ask(node="a"),
        NodeFailed(**GRAPH, node="a", error=BROKEN),
        RunInterrupted(**GRAPH, reason="x", state={"n": 0, "big": BIG}, pending=("apr_1",)),
        RunResumed(**GRAPH, from_seq=1),
        NodeStarted(**GRAPH, node="a", state={"n": 0, "big": BIG}),
        update,
        NodeCompleted(**GRAPH, node="a", state={"n": 1, "big": BIG}, duration_ms=1),
    )
    kinds = [m["type"] for m in messages]
    assert kinds.index("RUN_STARTED") > kinds.index("STATE_SNAPSHOT")
    assert (kinds.count("STATE_SNAPSHOT"), kinds.count("STATE_DELTA")) == (1, 1)
    assert (kinds.count("ACTIVITY_SNAPSHOT"), kinds.count("ACTIVITY_DELTA")) == (1, 1)
