"""The stream of a response, message by message, written out by hand."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import Response

from gateway.codecs.openai.responses import Responses, State, Whole
from runtime.events import (
    Event,
    InputQueued,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RunAttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    ToolCallDelta,
    ToolCallStarted,
    ToolCompleted,
    ToolStarted,
)
from tests.codecs.responses_stories import (
    ACCEPTED,
    BEGINNING,
    BROKEN,
    COMPLETED,
    INTERRUPTED,
    ROOT,
    RUN,
    USAGE,
    output_of,
    said,
    short,
    tell,
    text_of,
    written,
)
from tests.support.legal_runs import entries_of


def test_an_answer_is_told_as_openai_tells_it() -> None:
    done = ModelCompleted(**ROOT, message_id="msg_a", content="Hello", usage=USAGE, turn=1)
    messages = tell(*BEGINNING, *said("Hello"), done, COMPLETED)
    item = {"id": "msg_ses_story.run_1-0", "type": "message", "role": "assistant"}
    part = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    about = {"item_id": "msg_ses_story.run_1-0", "output_index": 0}
    created = {
        "id": "resp_ses_story.run_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "metadata": {"a": "b"},
        "model": "assistant",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": "resp_before",
        "store": True,
        "temperature": 0.5,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [
            {
                "type": "function",
                "name": "look",
                "description": "Look.",
                "parameters": {"type": "object"},
                "strict": False,
            }
        ],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
    }
    whole = item | {"status": "completed", "content": [part]}
    codec = Responses(previous="resp_before", metadata=(("a", "b"),))
    assert tell(*BEGINNING, *said("Hello"), done, COMPLETED, codec=codec) == [
        {"type": "response.created", "sequence_number": 0, "response": created},
        {"type": "response.in_progress", "sequence_number": 1, "response": created},
        {
            "type": "response.output_item.added",
            "sequence_number": 2,
            "output_index": 0,
            "item": item | {"status": "in_progress", "content": []},
        },
        {
            "type": "response.content_part.added",
            "sequence_number": 3,
            **about,
            "content_index": 0,
            "part": part | {"text": ""},
        },
        {
            "type": "response.output_text.delta",
            "sequence_number": 4,
            **about,
            "content_index": 0,
            "delta": "Hello",
            "logprobs": [],
        },
        {
            "type": "response.output_text.done",
            "sequence_number": 5,
            **about,
            "content_index": 0,
            "text": "Hello",
            "logprobs": [],
        },
        {
            "type": "response.content_part.done",
            "sequence_number": 6,
            **about,
            "content_index": 0,
            "part": part,
        },
        {
            "type": "response.output_item.done",
            "sequence_number": 7,
            "output_index": 0,
            "item": whole,
        },
        {
            "type": "response.completed",
            "sequence_number": 8,
            "response": created
            | {
                "status": "completed",
                "completed_at": 1_700_000_000,
                "output": [whole],
                "usage": {
                    "input_tokens": 3,
                    "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
                    "output_tokens": 2,
                    "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": 5,
                },
            },
        },
    ]
    assert messages[-1]["response"]["previous_response_id"] is None


def test_reasoning_is_told_as_its_summary() -> None:
    of = ROOT | {"message_id": "msg_a"}
    thought: list[Event] = [
        ReasoningStarted(**of),
        ReasoningDelta(**of, text="Hm"),
        ReasoningCompleted(**of, text="Hm"),
    ]
    messages = tell(*BEGINNING, *thought, *said("Yes"), COMPLETED)
    assert short(messages)[2:8] == [
        "output_item.added 0",
        "reasoning_summary_part.added 0",
        "reasoning_summary_text.delta 0",
        "reasoning_summary_text.done 0",
        "reasoning_summary_part.done 0",
        "output_item.done 0",
    ]
    assert output_of(messages)[0] == {
        "id": "rs_ses_story.run_1-0",
        "type": "reasoning",
        "status": "completed",
        "summary": [{"type": "summary_text", "text": "Hm"}],
    }
    assert messages[3]["summary_index"] == 0


def test_items_of_parallel_paths_are_open_at_once() -> None:
    a, b = {"path": ("g", "a")}, {"path": ("g", "b")}
    first, second = said("one", "msg_1", **a), said("two", "msg_2", **b)
    mixed = [first[0], second[0], second[1], first[1], second[2], first[2]]
    messages = tell(*BEGINNING, *mixed, COMPLETED)
    deltas = [(m["output_index"], m["delta"]) for m in messages if m["type"].endswith("delta")]
    assert deltas == [(1, "two"), (0, "one")]
    assert text_of(messages) == "onetwo"


def test_what_agents_say_that_were_called_as_tools_is_not_told() -> None:
    inner: dict[str, Any] = {"run_id": "run_1", "path": ("assistant", "call_1:helper")}
    of = inner | {"call_id": "call_9", "name": "look"}
    messages = tell(
        *BEGINNING,
        *said("inside", "msg_in", **inner),
        ToolCallStarted(**of),
        ToolStarted(**of, arguments="{}", idempotency_key="k"),
        ToolCompleted(**of, result=1, duration_ms=1),
        ModelCompleted(**inner, usage=USAGE, turn=1),
        *said("outside"),
        COMPLETED,
    )
    assert text_of(messages) == "outside"
    assert len(output_of(messages)) == 1
    assert messages[-1]["response"]["usage"]["total_tokens"] == 5


def test_what_is_said_anew_after_a_takeover_is_no_part_of_the_output() -> None:
    superseded = MessageCompleted(
        **ROOT, message_id="msg_a", text="He", incomplete=True, superseded=True
    )
    taken = RunAttemptStarted(**RUN, attempt=2, supersedes=1, from_step=0, reason="restart")
    thought = ROOT | {"message_id": "rsn"}
    messages = tell(
        *BEGINNING,
        ReasoningStarted(**thought),
        ReasoningCompleted(**thought, text=""),
        *said("He")[:2],
        superseded,
        *written("look"),
        taken,
        *said("Hello", "msg_b"),
        COMPLETED,
    )
    assert text_of(messages) == "Hello"
    assert [item["id"] for item in output_of(messages)] == ["msg_ses_story.run_1-3"]
    statuses = [m["item"]["status"] for m in messages if m["type"].endswith("item.done")]
    assert statuses == ["completed", "incomplete", "incomplete", "completed"]


def test_finished_steps_and_nodes_outlive_a_takeover() -> None:
    taken = RunAttemptStarted(**RUN, attempt=2, supersedes=1, from_step=1, reason="restart")
    node: dict[str, Any] = {"run_id": "run_1", "path": ("assistant",), "node": "n"}
    messages = tell(
        *BEGINNING,
        *said("One. ", "msg_1"),
        ModelCompleted(**ROOT, message_id="msg_1", turn=1),
        NodeStarted(**node),
        *said("Two. ", "msg_2", path=("assistant", "n")),
        NodeCompleted(**node, duration_ms=1),
        *said("Lost. ", "msg_3"),
        taken,
        *said("Three.", "msg_4"),
        COMPLETED,
    )
    assert text_of(messages) == "One. Two. Three."


def test_a_node_that_is_tried_again_says_only_once_what_it_says() -> None:
    node: dict[str, Any] = {"run_id": "run_1", "path": ("g",), "node": "n"}
    below = {"path": ("g", "n")}
    messages = tell(
        *BEGINNING,
        NodeStarted(**node),
        *said("First visit. ", "msg_1", **below),
        NodeCompleted(**node, duration_ms=1),
        NodeStarted(**node),
        *said("In vain. ", "msg_2", **below),
        *said("Another. ", "msg_3", path=("g", "m")),
        NodeFailed(**node, error=BROKEN, will_retry=True),
        NodeStarted(**node),
        *said("Again.", "msg_4", **below),
        NodeFailed(**node, error=BROKEN),
        COMPLETED,
    )
    assert text_of(messages) == "First visit. Another. Again."


def test_a_run_that_waits_is_queued_until_it_begins() -> None:
    queued = InputQueued(
        **RUN, command_id="c", message=ACCEPTED.message, position=1, agent="assistant"
    )
    messages = tell(queued, *BEGINNING, *said("Hi"), COMPLETED)
    assert short(messages)[:4] == ["created", "queued", "in_progress", "output_item.added 0"]
    statuses = [m["response"]["status"] for m in messages[:3]]
    assert statuses == ["queued", "queued", "in_progress"]
    gone = tell(queued, RunCancelled(**RUN, reason="cancel"))
    assert short(gone) == ["created", "queued", "incomplete"]


def test_how_runs_end() -> None:
    def end(event: Event) -> dict[str, Any]:
        response = tell(*BEGINNING, event)[-1]["response"]
        return {key: response[key] for key in ("status", "error", "incomplete_details")}

    def completed(reason: str) -> RunCompleted:
        return COMPLETED.model_copy(update={"finish_reason": reason})

    fine = {"error": None, "incomplete_details": None}
    assert end(COMPLETED) == fine | {"status": "completed"}
    assert end(INTERRUPTED) == fine | {"status": "completed"}
    assert end(RunCancelled(**RUN, reason="timeout")) == fine | {"status": "cancelled"}
    for reason, why in (("length", "max_output_tokens"), ("content_filter", "content_filter")):
        told = fine | {"status": "incomplete", "incomplete_details": {"reason": why}}
        assert end(completed(reason)) == told
    failed = {"code": "server_error", "message": "it broke"}
    assert end(RunFailed(**RUN, error=BROKEN)) == fine | {"status": "failed", "error": failed}
    limited = BROKEN.model_copy(update={"status_code": 429})
    assert end(RunFailed(**RUN, error=limited))["error"]["code"] == "rate_limit_exceeded"


def test_what_is_still_open_is_closed_before_the_end() -> None:
    started = ToolStarted(**ROOT, call_id="c", name="add", arguments="{}", idempotency_key="k")
    opened: list[Event] = [MessageStarted(**ROOT, message_id="msg_a"), started]
    messages = tell(*BEGINNING, *opened, INTERRUPTED)
    assert [item["status"] for item in output_of(messages)] == ["incomplete", "incomplete"]


def test_pieces_of_what_is_not_known_are_no_messages() -> None:
    strangers: list[Event] = [
        MessageDelta(**ROOT, message_id="msg_x", text="?"),
        MessageCompleted(**ROOT, message_id="msg_x", text="?"),
        ReasoningDelta(**ROOT, message_id="msg_x", text="?"),
        ToolCallDelta(**ROOT, call_id="call_x", arguments="?"),
    ]
    assert short(tell(*BEGINNING, *strangers, COMPLETED)) == ["created", "in_progress", "completed"]


def test_a_cut_names_the_last_message_so_that_a_client_can_go_on_after_it() -> None:
    codec = Responses()
    state = codec.begin()
    for entry, event in zip(entries_of(BEGINNING), BEGINNING, strict=True):
        state, _ = codec.encode(state, event, entry)
    (frame,) = codec.cut(state, "shutdown")
    told = {
        "code": "shutdown",
        "message": "the server is restarting; the response goes on",
        "param": None,
    }
    assert json.loads(frame.data) == {
        "type": "error",
        "sequence_number": 1,
        **told,
        "error": {"type": "server_error", **told},
    }
    assert json.loads(codec.cut(State(), "slow_client")[0].data)["sequence_number"] == 0


def test_a_response_as_it_stands_shows_what_was_said_so_far() -> None:
    of = ROOT | {"message_id": "msg_a"}
    events: list[Event] = [
        *BEGINNING,
        ReasoningStarted(**of),
        ReasoningDelta(**of, text="H"),
        ReasoningDelta(**of, text="m"),
        MessageStarted(**of),
        MessageDelta(**of, text="Hel"),
        MessageDelta(**of, text="lo"),
        *written("look", '{"a"')[:2],
        ToolCallDelta(**ROOT, call_id="call_1", arguments=":1"),
        MessageDelta(**ROOT, message_id="msg_x", text="?"),
    ]
    whole = Whole(Responses())
    for entry in entries_of(events):
        whole.feed(entry)
    shown = whole.object()
    assert not whole.over
    assert (shown["status"], shown["usage"]) == ("in_progress", None)
    assert Response.model_validate(shown).output_text == "Hello"
    assert shown["output"][0]["summary"][0]["text"] == "Hm"
    assert shown["output"][2]["arguments"] == '{"a":1'


def test_what_a_run_is_asked_for_is_in_its_input_and_in_its_start() -> None:
    def asked(*events: Event) -> tuple[str, float | None]:
        response = tell(*events, COMPLETED)[-1]["response"]
        return response["model"], response["temperature"]

    plain = RunStarted(**ROOT, agent="assistant")
    assert asked(ACCEPTED, plain) == ("assistant", 0.5)
    graph = RunStarted(**RUN, graph="g", options={"temperature": 1}, parent_run_id="run_0")
    assert asked(graph) == ("g", 1)
    nobody = ACCEPTED.model_copy(update={"agent": None})
    assert asked(nobody, plain) == ("assistant", 0.5)


def test_the_tokens_of_all_model_calls_are_added_up() -> None:
    done = [ModelCompleted(**ROOT, turn=turn, usage=USAGE) for turn in (1, 2)]
    unknown = ModelCompleted(**ROOT, turn=3)
    response = tell(*BEGINNING, *done, unknown, COMPLETED)[-1]["response"]
    assert response["usage"]["total_tokens"] == 10
    assert response["usage"]["input_tokens_details"]["cached_tokens"] == 2
