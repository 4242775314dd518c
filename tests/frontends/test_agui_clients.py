"""AG-UI's own client for JavaScript, in the version of today and the one that others still pin."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from gateway.codecs.codec import Frame
from tests.codecs.rules_agui import check_agui
from tests.frontends.serving import serving
from tests.support.agui_site import Cast, kinds, node, scenes

MODERN, PINNED = "@ag-ui/client", "@ag-ui/client-0"

SCENES = (
    "text",
    "tools",
    "frontend",
    "goOn",
    "approve",
    "edit",
    "dismiss",
    "approveElsewhere",
    "failure",
    "refused",
    "graph",
    "team",
    "retry",
    "stop",
    "stopFirst",
    "reconnect",
)

Told = dict[str, dict[str, Any]]


def said(told: dict[str, Any], role: str = "assistant") -> list[str]:
    return [m["content"] for m in told["messages"] if m["role"] == role and "content" in m]


def ends(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [e for e in told["events"] if e["type"] in {"RUN_FINISHED", "RUN_ERROR"}]


@pytest.mark.parametrize("package", [MODERN, PINNED])
async def test_stock_clients_talk_to_agents(package: str) -> None:
    cast = Cast()
    async with serving(*cast.runnables) as place:
        told = await node(package, place.url, *SCENES)
    assert told.keys() == {*SCENES, "problem"}  # it prints its refusals; it warns of nothing
    for scene in told.values():
        check_agui([Frame(orjson.dumps(event)) for event in scene.get("events", ())], False)
    modern = package == MODERN
    _text(told, cast)
    _tools(told, modern=modern)
    _approvals(told)
    _failures(told)
    _graphs(told, modern=modern)
    _stops(told, modern=modern)
    _reconnects(told)


def _text(told: Told, cast: Cast) -> None:
    text = told["text"]
    assert said(text) == ["Hello you", "Hello you"]
    assert said(text, "reasoning") == ["a greeting", "a greeting"]
    assert text["result"] == "Hello you"
    assert [m["role"] for m in text["newMessages"]] == ["reasoning", "assistant"]
    assert [m.content for m in cast.talker.requests[1].messages] == [
        "hi",
        "Hello you",
        "and again",
    ]
    assert [m["id"] for m in text["messages"] if m["role"] == "user"] == ["user-1", "user-2"]


def _tools(told: Told, *, modern: bool) -> None:
    tools = told["tools"]
    assert said(tools) == ["I add.", "It is 4."]
    assert [m["role"] for m in tools["messages"]] == [
        "user",
        "assistant",
        "tool",
        "activity",
        "assistant",
    ]
    assert tools["messages"][1]["toolCalls"][0]["function"] == {
        "name": "add",
        "arguments": '{"a": 2, "b": 2}',
    }
    assert tools["messages"][2]["content"] == "4"
    assert tools["messages"][3]["content"] == {"toolCallId": "call_add", "data": {"percent": 100}}
    frontend = told["frontend"]
    assert said(frontend) == ["You choose.", "It is green now."]
    assert frontend["args"] == {"of": "the door"}
    assert frontend["pending"] == (["call_pick"] if modern else None)
    assert frontend["interrupts"] == []
    # What the client said itself is not said to it once more.
    assert [m["id"] for m in frontend["messages"] if m["role"] == "tool"] == ["picked"]
    assert said(told["goOn"]) == ["You choose.", "As you like."]


def _approvals(told: Told) -> None:
    approve = told["approve"]
    (question,) = approve["asked"]
    assert question["toolCallId"] == "call_pay"
    assert question["reason"] == "tool_call"
    assert question["responseSchema"]["required"] == ["approved"]
    assert question["metadata"]["tidegate"]["arguments"] == '{"amount": 100}'
    assert [end["outcome"]["type"] for end in ends(approve)[:1]] == ["interrupt"]
    assert said(approve, "tool") == ["paid 100"]
    assert approve["interrupts"] == []
    assert said(told["edit"], "tool") == ["paid 1"]
    assert said(told["dismiss"], "tool") == ["error: a human rejected this call"]
    elsewhere = told["approveElsewhere"]
    assert said(elsewhere, "tool") == ["paid 100"]
    assert [m["role"] for m in elsewhere["messages"]] == ["user", "assistant", "tool", "assistant"]


def _failures(told: Told) -> None:
    failure = told["failure"]
    assert (failure["error"]["message"], failure["error"]["code"]) == (
        "it will not",
        "model_refused",
    )
    assert said(failure) == ["Hello"]
    unknown, empty = told["refused"]["refusals"]
    assert "HTTP 404" in unknown
    assert "there is no agent 'nobody'" in unknown
    assert "HTTP 422" in empty
    assert "nothing to answer" in empty


def _graphs(told: Told, *, modern: bool) -> None:
    graph = told["graph"]
    assert graph["state"] == {
        "total": 2,
        "notes": ["one", "two", "also"],
        "story": "once upon a time " * 9,
    }
    assert {"STATE_SNAPSHOT", "STATE_DELTA", "STEP_STARTED"} <= set(kinds(graph["events"]))
    team = told["team"]
    assert said(team) == ["Twice a day.", "That is what was found."]
    assert ("SUBAGENT_STARTED" in kinds(team["events"])) is modern
    by = next(m for m in team["messages"] if m.get("content") == "Twice a day." and "name" in m)
    assert by["name"] == "researcher"
    assert by.get("subagentRunId") == ("boss/call_ask:researcher" if modern else None)

    # What was said in vain is no message any more; a client that joins does not hear of it.
    retry = told["retry"]
    assert said(retry) == said({"messages": retry["idle"]}) == ["Once upon a time"]
    vain = retry["messages"][1]
    assert (vain["id"], vain["role"], vain["activityType"]) == (
        "msg_first",
        "activity",
        "superseded",
    )


def _stops(told: Told, *, modern: bool) -> None:
    stop, first = told["stop"], told["stopFirst"]
    assert said(stop) == ["Half "]
    assert (stop["stopped"]["status"], stop["stopped"]["body"]["status"]) == (200, "stopped")
    assert stop["twice"] == stop["stopped"]
    assert (first["stopped"]["status"], first["stopped"]["body"]["status"]) == (202, "noted")
    assert said(first) == []
    for scene in (stop, first):
        (end,) = ends(scene)
        assert end["type"] == "RUN_FINISHED"
        assert end["metadata"] == {"tidegate": {"status": "cancelled", "reason": "cancel"}}
        assert end.get("outcome") == ({"type": "cancelled"} if modern else None)


def _reconnects(told: Told) -> None:
    again = told["reconnect"]
    assert again["first"]["delta"] == "Half "
    assert said(again) == said({"messages": again["there"]}) == ["Half and half"]
    assert said(again["idle"]) == ["Half and half"]
    assert kinds(again["idle"]["events"]) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]


async def test_a_server_that_stops_is_an_error_to_a_stock_client() -> None:
    """A stream that just ends would look like success."""
    cast = Cast()
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(serving(*cast.runnables))
        seen: dict[str, dict[str, Any]] = {}
        async for told in scenes(MODERN, place.url, "cut"):
            seen[told["name"]] = told
            if told["name"] == "speaking":
                await stack.aclose()
    assert seen.keys() == {"speaking", "cut"}
    cut = seen["cut"]
    assert cut["error"]["code"] == "shutdown"
    assert "the run goes on" in cut["error"]["message"]
    assert said(cut) == [], "half an answer is taken back: the next server gives it anew"
