"""A2A: a run as a task, to the byte; and what all that was told adds up to."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import orjson
import pytest
from a2a.server.tasks.task_manager import append_artifact_to_task
from a2a.types import StreamResponse, Task
from google.protobuf.json_format import MessageToDict, ParseDict

from gateway.codecs.a2a.codec import A2aCodec, with_id
from gateway.codecs.a2a.objects import DEPTH, EXTENSION, shallow
from gateway.codecs.a2a.state import A2aState
from gateway.codecs.a2a.task import TaskSoFar
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.serde import dump, load
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    ErrorInfo,
    Event,
    InputAccepted,
    InputDequeued,
    InputQueued,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStarted,
    ToolCompleted,
)
from runtime.messages import Message, Usage
from tests.codecs.rules_a2a import check_order, parsed
from tests.support.legal_runs import legal_log, segments_of

CODEC = A2aCodec("s.run_1", "s")
RUN = "run_1"
AT = 1_795_226_400_000  # 2026-11-21T02:00:00Z
BROKEN = ErrorInfo(code="model_error", message="it broke")


def entries(*events: Event) -> list[Entry]:
    """Return a log: the n-th event has the seq n, and comes n ms after two o'clock."""
    return [
        Entry("s", Position("ep", seq, "0000000a"), AT + seq, dump(event))
        for seq, event in enumerate(events, start=1)
    ]


def told(*events: Event, codec: A2aCodec = CODEC) -> list[bytes]:
    state, said = codec.begin(), []
    for entry, event in zip(entries(*events), events, strict=True):
        state, frames = codec.encode(state, event, entry)
        said += [frame.data for frame in frames]
    return said


def results(*events: Event) -> list[dict[str, Any]]:
    return [orjson.loads(data)["result"] for data in told(*events)]


def updates(*events: Event) -> list[tuple[str, Any]]:
    """Return the kinds of what is told, and the one thing of each that a reader looks at first."""
    shown: list[tuple[str, Any]] = []
    for result in results(*events):
        ((kind, it),) = result.items()
        if kind == "artifactUpdate":
            text = "".join(part.get("text", "") for part in it["artifact"]["parts"])
            flags = ("+" if it.get("append") else "") + ("." if it.get("lastChunk") else "")
            shown.append((it["artifact"]["artifactId"] + flags, text))
        else:
            shown.append((kind, it["status"]["state"].removeprefix("TASK_STATE_")))
    return shown


def metadata(seq: int, rest: str = "") -> bytes:
    place = f'{{"cursor":"ep.{seq}.0000000a","seq":{seq}{rest}}}'
    return f'"metadata":{{"urn:tidegate:log:v1":{place}}}'.encode()


ACCEPTED = InputAccepted(
    run_id=RUN,
    message=Message(role="user", content="hi", message_id="m1"),
    command_id="c1",
    policy="enqueue",
)
STARTED = RunStarted(run_id=RUN, path=("echo",), agent="echo")
SPEAKS = MessageStarted(run_id=RUN, path=("echo",), message_id="msg_a", agent="echo", turn=1)
COMPLETED = RunCompleted(run_id=RUN, output="Hello", usage=Usage(), message_count=1, num_turns=1)


def piece(text: str, message_id: str = "msg_a", path: tuple[str, ...] = ("echo",)) -> Event:
    return MessageDelta(run_id=RUN, path=path, message_id=message_id, text=text)


def whole(
    text: str, message_id: str = "msg_a", path: tuple[str, ...] = ("echo",), **marks: Any
) -> Event:
    return MessageCompleted(run_id=RUN, path=path, message_id=message_id, text=text, **marks)


def test_an_answer_to_the_byte() -> None:
    said = told(ACCEPTED, STARTED, SPEAKS, piece("Hel"), piece("lo"), whole("Hello"), COMPLETED)
    of = b'"taskId":"s.run_1","contextId":"s",'
    assert said == [
        b'{"jsonrpc":"2.0","result":{"task":{"id":"s.run_1","contextId":"s",'
        b'"status":{"state":"TASK_STATE_SUBMITTED","timestamp":"2026-11-21T02:00:00.001Z"},'
        + metadata(1)
        + b',"history":[{"messageId":"m1","contextId":"s","taskId":"s.run_1",'
        b'"role":"ROLE_USER","parts":[{"text":"hi"}]}]}}}',
        b'{"jsonrpc":"2.0","result":{"statusUpdate":{'
        + of
        + b'"status":{"state":"TASK_STATE_WORKING","timestamp":"2026-11-21T02:00:00.002Z"},'
        + metadata(2, ',"type":"run.started","path":["echo"],"agent":"echo","attempt":1')
        + b"}}}",
        b'{"jsonrpc":"2.0","result":{"artifactUpdate":{'
        + of
        + b'"artifact":{"artifactId":"msg_a","name":"echo","parts":[{"text":"Hel"}]},'
        + metadata(4)
        + b"}}}",
        b'{"jsonrpc":"2.0","result":{"artifactUpdate":{'
        + of
        + b'"artifact":{"artifactId":"msg_a","parts":[{"text":"lo"}]},"append":true,'
        + metadata(5)
        + b"}}}",
        b'{"jsonrpc":"2.0","result":{"artifactUpdate":{'
        + of
        + b'"artifact":{"artifactId":"msg_a","name":"echo","parts":[{"text":"Hello"}]},'
        b'"lastChunk":true,' + metadata(6) + b"}}}",
        b'{"jsonrpc":"2.0","result":{"statusUpdate":{'
        + of
        + b'"status":{"state":"TASK_STATE_COMPLETED","timestamp":"2026-11-21T02:00:00.007Z"},'
        + metadata(
            7,
            ',"type":"run.completed","usage":{"prompt_tokens":0,"completion_tokens":0,'
            '"total_tokens":0},"artifact_id":"msg_a"',
        )
        + b"}}}",
    ]


def test_a_tools_work_is_a_status_with_metadata() -> None:
    done = ToolCompleted(
        run_id=RUN, path=("a",), call_id="c1", name="add", result={"sum": 3}, duration_ms=1.5
    )
    assert results(ACCEPTED, STARTED, done)[-1] == {
        "statusUpdate": {
            "taskId": "s.run_1",
            "contextId": "s",
            "status": {"state": "TASK_STATE_WORKING", "timestamp": "2026-11-21T02:00:00.003Z"},
            "metadata": {
                EXTENSION: {
                    "cursor": "ep.3.0000000a",
                    "seq": 3,
                    "type": "tool.completed",
                    "path": ["a"],
                    "call_id": "c1",
                    "name": "add",
                    "result": {"sum": 3},
                    "duration_ms": 1.5,
                }
            },
        }
    }


def asks(approval_id: str, **more: Any) -> ApprovalRequested:
    return ApprovalRequested(run_id=RUN, path=("a",), approval_id=approval_id, **more)


def decides(approval_id: str, decision: Any = "approved") -> ApprovalResolved:
    return ApprovalResolved(run_id=RUN, path=("a",), approval_id=approval_id, decision=decision)


def test_a_pause_says_what_is_asked() -> None:
    asked = asks("apr_1", call_id="c1", tool="delete", arguments='{"path":"x"}', reason="it hurts")
    pause = RunInterrupted(run_id=RUN, reason="approval", pending=("apr_1",))
    message = results(ACCEPTED, STARTED, asked, pause)[-1]["statusUpdate"]["status"]["message"]
    assert message == {
        "messageId": "run_1-4",
        "contextId": "s",
        "taskId": "s.run_1",
        "role": "ROLE_AGENT",
        "parts": [
            {
                "text": 'May delete be called with {"path":"x"}? (it hurts) Answer "approve", or '
                '"reject" and why, or send a data part with a decision.'
            },
            {
                "data": {
                    "approval_id": "apr_1",
                    "call_id": "c1",
                    "tool": "delete",
                    "reason": "it hurts",
                    "arguments": {"path": "x"},
                }
            },
        ],
    }


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            asks("apr_1", call_id="c1", tool="locate", arguments="{}", wants="result"),
            "What is the result of locate {}?",
        ),
        (
            asks("apr_1", node="review", arguments='"draft"', reason="look"),
            'review asks (look): "draft". Answer "approve", "reject" and why, or what it goes on with.',
        ),
        (
            asks("apr_1", node="review"),
            'review asks. Answer "approve", "reject" and why, or what it goes on with.',
        ),
    ],
)
def test_each_kind_of_question_has_its_words(asked: ApprovalRequested, sentence: str) -> None:
    pause = RunInterrupted(run_id=RUN, reason="x", pending=("apr_1",))
    message = results(STARTED, asked, pause)[-1]["statusUpdate"]["status"]["message"]
    assert message["parts"][0] == {"text": sentence}


def test_arguments_that_are_no_json_are_shown_as_they_are() -> None:
    asked = asks("apr_1", call_id="c1", tool="delete", arguments="not json")
    pause = RunInterrupted(run_id=RUN, reason="x", pending=("apr_1",))
    message = results(STARTED, asked, pause)[-1]["statusUpdate"]["status"]["message"]
    assert message["parts"][1]["data"]["arguments"] == "not json"


def test_a_pause_without_questions_says_its_reason() -> None:
    status = results(STARTED, RunInterrupted(run_id=RUN, reason="lunch"))[-1]["statusUpdate"]
    assert status["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    assert status["status"]["message"]["parts"] == [{"text": "lunch"}]


def test_after_one_of_two_decisions_the_rest_is_asked_again() -> None:
    pause = RunInterrupted(run_id=RUN, reason="x", pending=("apr_1", "apr_2"))
    told_all = results(
        STARTED, asks("apr_1", node="n"), asks("apr_2", node="m"), pause, decides("apr_1")
    )
    status = told_all[-1]["statusUpdate"]["status"]
    assert status["state"] == "TASK_STATE_INPUT_REQUIRED"
    assert status["message"]["parts"][0] == {
        "text": 'm asks. Answer "approve", "reject" and why, or what it goes on with.'
    }


def test_a_pause_that_was_answered_beforehand_asks_nothing() -> None:
    pause = RunInterrupted(run_id=RUN, reason="x", pending=("apr_1",))
    again = RunResumed(run_id=RUN, from_seq=1)
    first = (STARTED, asks("apr_1", node="n"), decides("apr_1"), pause, again)
    assert {state for _, state in updates(*first)} == {"SUBMITTED", "WORKING"}
    later = (asks("apr_1", node="n"), pause)  # the answer was to the one before
    assert updates(*first, *later)[-1] == ("statusUpdate", "INPUT_REQUIRED")


def test_a_failure_says_why() -> None:
    status = results(STARTED, RunFailed(run_id=RUN, error=BROKEN))[-1]["statusUpdate"]
    assert status["status"]["state"] == "TASK_STATE_FAILED"
    assert status["status"]["message"]["parts"] == [{"text": "it broke"}]
    error = {"code": "model_error", "message": "it broke", "retryable": False, "cause": []}
    assert status["metadata"][EXTENSION]["error"] == error


def test_a_stopped_message_keeps_its_text_and_is_marked() -> None:
    said = results(
        STARTED,
        SPEAKS,
        piece("Hel"),
        whole("Hel", incomplete=True),
        RunCancelled(run_id=RUN, reason="cancel"),
    )
    artifact = said[-2]["artifactUpdate"]["artifact"]
    assert artifact["parts"] == [{"text": "Hel"}]
    assert artifact["metadata"] == {EXTENSION: {"incomplete": True}}
    assert said[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_CANCELED"
    assert said[-1]["statusUpdate"]["metadata"][EXTENSION]["reason"] == "cancel"


def test_a_run_that_waits_in_the_queue_is_submitted() -> None:
    message = ACCEPTED.message
    queued = InputQueued(run_id=RUN, command_id="c1", message=message, position=1)
    leaves = InputDequeued(run_id=RUN, command_id="c1", reason="started")
    assert updates(queued) == [("task", "SUBMITTED")]
    assert updates(queued, leaves, ACCEPTED, STARTED) == [
        ("task", "SUBMITTED"),
        ("statusUpdate", "WORKING"),
    ]
    gone = RunCancelled(run_id=RUN, reason="cancel")
    assert updates(queued, leaves, gone)[1:] == [("statusUpdate", "CANCELED")]


def test_whoever_wants_no_history_gets_none() -> None:
    (task,) = told(ACCEPTED, codec=A2aCodec("s.run_1", "s", history=False))
    assert "history" not in orjson.loads(task)["result"]["task"]


# --- what does not count -------------------------------------------------------------------------

EMPTIED = ("msg_a.", "")


def test_what_a_dead_attempt_was_saying_is_emptied() -> None:
    taken = RunAttemptStarted(run_id=RUN, attempt=2, supersedes=1, from_step=0, reason="restart")
    said = updates(STARTED, SPEAKS, piece("Hel"), whole("Hel", incomplete=True, superseded=True))
    assert said[-1] == EMPTIED
    done = (STARTED, SPEAKS, piece("Hel"), whole("Hello"), taken)
    assert updates(*done)[-2:] == [EMPTIED, ("statusUpdate", "WORKING")]
    said_all = results(*done)[-2]["artifactUpdate"]["artifact"]
    assert said_all["metadata"] == {EXTENSION: {"superseded": True}}


def test_finished_steps_stay_when_a_run_is_taken_over() -> None:
    taken = RunAttemptStarted(run_id=RUN, attempt=2, supersedes=1, from_step=1, reason="restart")
    assert EMPTIED not in updates(STARTED, SPEAKS, piece("Hel"), whole("Hello"), taken)


@pytest.mark.parametrize("closed_by", ["model", "node", None])
def test_a_nodes_words_stay_if_its_model_call_or_itself_was_done(closed_by: str | None) -> None:
    below = ("graph", "n")
    closing: dict[str | None, list[Event]] = {
        "model": [ModelCompleted(run_id=RUN, path=below, message_id="msg_a", turn=1)],
        "node": [NodeCompleted(run_id=RUN, path=("graph",), node="n", duration_ms=1)],
        None: [],
    }
    said = updates(
        STARTED,
        NodeStarted(run_id=RUN, path=("graph",), node="n"),
        piece("x", path=below),
        whole("x", path=below),
        *closing[closed_by],
        RunAttemptStarted(run_id=RUN, attempt=2, supersedes=1, from_step=0, reason="restart"),
    )
    assert (EMPTIED in said) == (closed_by is None)


def test_what_a_node_had_said_is_emptied_when_it_is_tried_again() -> None:
    def visit(message_id: str, node: str = "n") -> list[Event]:
        below = ("graph", node)
        return [piece("x", message_id, below), whole("x", message_id, below)]

    again = NodeFailed(run_id=RUN, path=("graph",), node="n", error=BROKEN, will_retry=True)
    over = NodeCompleted(run_id=RUN, path=("graph",), node="n", duration_ms=1)
    said = updates(STARTED, *visit("first"), over, *visit("again"), *visit("other", "m"), again)
    assert ("again.", "") in said
    assert ("first.", "") not in said
    assert ("other.", "") not in said
    for_good = NodeFailed(run_id=RUN, path=("graph",), node="n", error=BROKEN)
    assert ("again.", "") not in updates(STARTED, *visit("again"), for_good)


def test_agents_that_are_called_as_tools_say_nothing_here() -> None:
    below = ("boss", "call_1:helper")
    said = updates(
        STARTED,
        MessageStarted(run_id=RUN, path=below, message_id="msg_a"),
        piece("psst", path=below),
        whole("psst", path=below),
    )
    assert said == [("task", "SUBMITTED"), ("statusUpdate", "WORKING")]


def test_a_step_that_says_nothing_makes_no_artifact() -> None:
    assert updates(STARTED, SPEAKS, whole(""))[-1] == ("statusUpdate", "WORKING")
    taken = RunAttemptStarted(run_id=RUN, attempt=2, supersedes=1, from_step=0, reason="restart")
    assert EMPTIED not in updates(STARTED, SPEAKS, taken), "nothing was there to be emptied"


def test_a_message_that_came_in_one_piece_is_an_artifact_at_once() -> None:
    assert updates(STARTED, SPEAKS, whole("Hello"))[-1] == ("msg_a.", "Hello")


# --- results -------------------------------------------------------------------------------------


def test_the_output_of_a_graph_that_a_message_has_said_is_not_told_again() -> None:
    told_twice = COMPLETED.model_copy(update={"final_output": "Hello"})
    said = updates(STARTED, SPEAKS, whole("Hello"), told_twice)
    assert not any("output" in words for _, words in said)
    alone = results(STARTED, told_twice)[-2]["artifactUpdate"]["artifact"]
    assert alone["parts"] == [{"text": "Hello"}]


def test_an_output_that_no_message_has_said_is_an_artifact() -> None:
    graph = RunStarted(run_id=RUN, path=("g",), graph="g")
    said = updates(graph, whole("draft", path=("g", "n")), COMPLETED)
    assert said[-2:] == [("run_1-output.", "Hello"), ("statusUpdate", "COMPLETED")]
    withdrawn = RunAttemptStarted(
        run_id=RUN, attempt=2, supersedes=1, from_step=0, reason="restart"
    )
    assert ("run_1-output.", "Hello") in updates(
        graph, SPEAKS, whole("Hello"), withdrawn, COMPLETED
    )


def test_an_answer_with_a_shape_is_data_too() -> None:
    shaped = COMPLETED.model_copy(update={"final_output": {"n": 1}})
    said = results(STARTED, SPEAKS, piece("Hello"), whole("Hello"), shaped)
    output, end = said[-2]["artifactUpdate"], said[-1]["statusUpdate"]
    assert output["artifact"] == {
        "artifactId": "run_1-output",
        "name": "output",
        "parts": [{"data": {"n": 1}}],
    }
    assert end["metadata"][EXTENSION]["artifact_id"] == "run_1-output"


def test_an_empty_answer_has_no_artifact() -> None:
    silent = COMPLETED.model_copy(update={"output": "", "finish_reason": "stop", "cost_usd": 0.5})
    said = results(STARTED, silent)
    assert len(said) == 3
    marks = said[-1]["statusUpdate"]["metadata"][EXTENSION]
    assert "artifact_id" not in marks
    assert (marks["finish_reason"], marks["cost_usd"]) == ("stop", 0.5)


def test_nothing_follows_the_end() -> None:
    assert told(STARTED, COMPLETED, piece("late")) == told(STARTED, COMPLETED)


# --- JSON ----------------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


@pytest.mark.parametrize("levels", [0, 1, DEPTH - 1, DEPTH, DEPTH + 1, 200])
def test_a_value_of_any_depth_can_be_parsed(levels: int) -> None:
    done = ToolCompleted(run_id=RUN, call_id="c", name="n", result=deep(levels), duration_ms=1)
    for result in results(STARTED, done):
        parsed(result)


def test_what_is_too_deep_is_json_text() -> None:
    assert shallow({"a": [1, {"b": 2}]}, 3) == {"a": [1, {"b": 2}]}
    assert shallow({"a": [1, {"b": 2}]}, 2) == {"a": [1, '{"b":2}']}
    assert shallow("text", 0) == "text"


def test_a_response_gets_the_id_of_its_request() -> None:
    assert with_id(b'data: {"x":"data: {"}\n\n', b'"1"') == b'data: {"id":"1","x":"data: {"}\n\n'
    assert (
        with_id(b'id: s/1\ndata: {"x":1}\n\n', b"null") == b'id: s/1\ndata: {"id":null,"x":1}\n\n'
    )


def test_a_cut_says_that_the_task_may_go_on() -> None:
    (frame,) = CODEC.cut(A2aState(), "shutdown")
    error = orjson.loads(frame.data)["error"]
    assert error["code"] == -32603
    assert "subscribe" in error["message"]
    assert error["data"][0]["metadata"] == {"code": "shutdown"}


# --- what it adds up to --------------------------------------------------------------------------


def everything(log: Sequence[Entry], codec: A2aCodec = CODEC) -> list[dict[str, Any]]:
    state, said = codec.begin(), []
    for entry in log:
        event = load(entry)
        assert event is not None
        state, told_now = codec.tell(state, event, entry)
        said += told_now
    return said


def by_the_sdk(said: Sequence[dict[str, Any]]) -> Task:
    """Return what the SDK's own rules make of it."""
    task = Task()
    for result in said:
        response = ParseDict(result, StreamResponse())
        if response.HasField("task"):
            task.CopyFrom(response.task)
        elif response.HasField("artifact_update"):
            append_artifact_to_task(task, response.artifact_update)
        else:
            if task.status.HasField("message"):
                task.history.append(task.status.message)
            task.status.CopyFrom(response.status_update.status)
    return task


def joined(task: dict[str, Any]) -> dict[str, Any]:
    """Return a task whose texts are joined, as a reader would see them."""
    for artifact in task.get("artifacts", []):
        texts = [part["text"] for part in artifact["parts"] if "text" in part]
        rest = [part for part in artifact["parts"] if "text" not in part]
        artifact["parts"] = [*([{"text": "".join(texts)}] if texts else []), *rest]
    task.pop("metadata", None)
    return task


def test_the_task_so_far_is_what_the_sdk_makes_of_the_same_updates() -> None:
    for seed in range(60):
        log = legal_log(Random(seed))  # noqa: S311 - repeatable
        for part in segments_of(log, whole=True):
            said = everything(part.entries)
            for length in {1, len(said) // 2, len(said)}:
                so_far = TaskSoFar()
                for result in said[:length]:
                    so_far.add(result)
                ours = ParseDict(so_far.as_json(), Task(), ignore_unknown_fields=False)
                theirs = by_the_sdk(said[:length])
                assert joined(MessageToDict(ours)) == joined(MessageToDict(theirs))


def test_whoever_joins_in_the_middle_gets_what_is_missing() -> None:
    for seed in range(40):
        log = legal_log(Random(seed))  # noqa: S311 - repeatable
        for part in segments_of(log):
            half = len(part.entries) // 2
            so_far, state = TaskSoFar(), CODEC.begin()
            rest: list[dict[str, Any]] = []
            for place, entry in enumerate(part.entries):
                event = load(entry)
                assert event is not None
                state, said = CODEC.tell(state, event, entry)
                if place >= half and so_far.begun:
                    rest += said
                else:
                    for result in said:
                        so_far.add(result)
            stream = [{"task": so_far.as_json()}, *rest]
            check_order([next(iter(result.items())) for result in stream], ended=True)
            late, all_of_it = by_the_sdk(stream), by_the_sdk(everything(part.entries))
            assert joined(MessageToDict(late)) == joined(MessageToDict(all_of_it))


def test_a_task_shows_as_much_as_is_asked_for() -> None:
    so_far = TaskSoFar()
    pause = RunInterrupted(run_id=RUN, reason="why")
    again = RunResumed(run_id=RUN, from_seq=1)
    for result in results(ACCEPTED, STARTED, SPEAKS, whole("Hello"), pause, again, pause, again):
        so_far.add(result)
    assert so_far.changed_at == "2026-11-21T02:00:00.008Z"
    assert so_far.changed_seq == 8
    assert so_far.state == "TASK_STATE_WORKING"
    everyone = [message["messageId"] for message in so_far.as_json()["history"]]
    assert everyone == ["m1", "run_1-5", "run_1-7"]
    last = so_far.as_json(history=1)["history"]
    assert [message["messageId"] for message in last] == ["run_1-7"]
    assert len(so_far.as_json(history=9)["history"]) == 3
    assert "history" not in so_far.as_json(history=0)
    assert "artifacts" not in so_far.as_json(artifacts=False)
    assert so_far.as_json()["metadata"] == {EXTENSION: {"cursor": "ep.8.0000000a", "seq": 8}}
