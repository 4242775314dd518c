"""The calls of a run as items of a response: those of the client's tools, and of its own. Pure.

A call of the client's is shown while the model writes it. A call of the run's own is shown when it
runs: until then nobody knows whether a human is asked first, and then it is the question that is
shown.
"""

from __future__ import annotations

from gateway.codecs.openai.responses.state import Call
from gateway.codecs.openai.responses.telling import Telling
from runtime.events import (
    ApprovalRequested,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.history import UNKNOWN_OUTCOME, result_text
from runtime.journal import spoken_below

__all__ = ["Outcome", "Writing", "ask", "settle_call", "write_call"]

Writing = ToolCallStarted | ToolCallDelta | ToolCallReady
Outcome = ToolCompleted | ToolFailedEvent | ToolUnknownOutcome


def write_call(told: Telling, event: Writing) -> None:
    """Tell what the model writes of a call."""
    if spoken_below(event.path):
        return
    place = told.state.place_of("function_call", event.call_id, event.path)
    match event:
        case ToolCallStarted():
            of_client = event.name in {tool.name for tool in told.state.asked.tools}
            told.put_call(Call(event.path, event.call_id, event.name, of_client=of_client))
            if of_client and place is None:
                _hand(told, event.path, event.call_id, event.name)
        case ToolCallDelta():
            if place is not None:
                told.say_more(place, event.arguments)
        case ToolCallReady():
            known = told.state.call(event.path, event.call_id)
            of_client = known is not None and known.of_client
            told.put_call(
                Call(event.path, event.call_id, event.name, event.arguments, of_client=of_client)
            )
            if place is not None:
                told.say_whole(place, event.arguments)


def _hand(told: Telling, path: tuple[str, ...], call_id: str, name: str) -> int:
    """Open the item of a call that the client is to make."""
    return told.open_item("function_call", call_id, path, name=name)


def settle_call(told: Telling, event: ToolStarted | Outcome) -> None:
    """Tell that a call runs, or what became of it."""
    if spoken_below(event.path):
        return
    if isinstance(event, ToolFailedEvent) and event.will_retry:
        return
    call = told.state.call(event.path, event.call_id)
    if call is not None and call.of_client:
        _client_call(told, event)
    elif isinstance(event, ToolStarted):
        request_id = call.request_id if call is not None else None
        call = Call(event.path, event.call_id, event.name, event.arguments, request_id=request_id)
        told.put_call(call)
        _run_call(told, call)
    else:
        unknown = Call(event.path, event.call_id, event.name)
        _close_call(told, _run_call(told, call or unknown), event)
        told.drop_call(event.path, event.call_id)


def _client_call(told: Telling, event: ToolStarted | Outcome) -> None:
    """Tell that a call of the client's is settled: by its answer, or it is not to be made."""
    place = told.state.place_of("function_call", event.call_id, event.path)
    if place is not None:
        told.close_item(place, "incomplete", void=True)
    told.drop_call(event.path, event.call_id)


def _run_call(told: Telling, call: Call) -> int:
    """Show a call of the run's own, unless it is shown already, and return its place."""
    place = told.state.place_of("mcp_call", call.call_id, call.path)
    if place is None:
        place = told.open_item(
            "mcp_call", call.call_id, call.path, name=call.name, request_id=call.request_id
        )
        told.say_all(place, call.arguments)
    return place


def _close_call(told: Telling, place: int, event: Outcome) -> None:
    match event:
        case ToolCompleted():
            told.close_item(place, "completed", output=result_text(event.result))
        case ToolFailedEvent():
            told.close_item(place, "failed", error=event.error.message)
        case ToolUnknownOutcome():
            told.close_item(place, "failed", error=UNKNOWN_OUTCOME.message)


def ask(told: Telling, event: ApprovalRequested) -> None:
    """Tell that somebody is asked: a human for leave, or the client for the result of a call."""
    arguments = event.arguments or "{}"
    call_id, name = event.call_id or event.approval_id, event.tool or event.node or ""
    if event.wants == "result":
        call = Call(event.path, call_id, name, arguments, of_client=True)
        _ask_client(told, call, event.approval_id)
    else:
        place = told.open_item(
            "mcp_approval_request",
            event.approval_id,
            event.path,
            name=name,
            text=arguments,
            approval_id=event.approval_id,
        )
        told.close_item(place, "completed")
        call = Call(event.path, call_id, name, arguments, request_id=told.state.items[place].id)
    told.put_call(call)


def _ask_client(told: Telling, call: Call, approval_id: str) -> None:
    """The client is to make a call: its item is done, whether it was shown in the making or not."""
    place = told.state.place_of("function_call", call.call_id, call.path)
    if place is None:
        place = _hand(told, call.path, call.call_id, call.name)
        told.say_all(place, call.arguments)
    # A hook may have changed the arguments since they were written.
    told.close_item(place, "completed", approval_id=approval_id, text=call.arguments)
