"""Tool calls, and what humans and clients are asked about them. Pure."""

from __future__ import annotations

from typing import Any

from gateway.codecs.vercel.asides import Outcome, below
from gateway.codecs.vercel.chunks import read_input
from gateway.codecs.vercel.state import Call, Path
from gateway.codecs.vercel.steps import Steps
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    Event,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.history import UNKNOWN_OUTCOME
from runtime.journal import spoken_below

__all__ = ["Calls"]

NOT_WHOLE = "the arguments of the call are not whole, or no JSON"
NO_OUTCOME = "the run went on without an outcome of this call"

WAITING = {"status": "waiting for a human"}
"""The output of a call that cannot go on before another one is answered. Clients send the answers
only when each call of the step has an output or an answer."""

REJECTED = "rejected"
"""The code with which a tool fails because a human said no."""


class Calls(Steps):
    """Says what becomes of tool calls."""

    def _of_calls(self, event: Event) -> bool:
        """Say an event of a call or an approval; return whether it is one."""
        match event:
            case ToolCallStarted() | ToolCallDelta() | ToolCallReady():
                self._write(event)
            case ToolStarted() | ToolProgress():
                self._work(event)
            case ToolCompleted() | ToolFailedEvent() | ToolUnknownOutcome():
                self._settle(event)
            case ApprovalRequested():
                self._ask(event)
            case ApprovalResolved():
                self._decide(event)
            case _:
                return False
        return True

    # --- calls ---------------------------------------------------------------------------------

    def _find(self, path: Path, call_id: str) -> Call | None:
        found = (c for c in self.state.calls if c.call_id == call_id and c.path == path)
        return next(found, None)

    def _put(self, call: Call) -> None:
        """Keep a call, in place of what was known of it."""
        kept = tuple(
            known
            for known in self.state.calls
            if (known.path, known.call_id) != (call.path, call.call_id)
        )
        self._set(calls=(*kept, call))

    def _close_call(self, call: Call, kind: str, /, **fields: Any) -> None:
        """Say what became of a call, or that a human denied it."""
        if kind != "tool-output-denied":
            fields["providerExecuted"] = not call.of_client
        self._say(kind, toolCallId=call.call_id, **fields)
        self._set(
            calls=tuple(known for known in self.state.calls if known != call),
            answered=self.state.answered or call.of_client,
        )

    def _input(self, call: Call, *, of_server: bool) -> None:
        """Say what a call is given; whatever the client thought of its state, it is at work now.

        A call of the server's own is `providerExecuted`: the client is not asked to carry it out,
        and does not send anything by itself when it is done.
        """
        given = read_input(call.arguments)
        fields = {
            "toolCallId": call.call_id,
            "toolName": call.name,
            "input": given.value,
            "providerExecuted": of_server,
        }
        if given.whole:
            self._say("tool-input-available", **fields)
        else:
            self._say("tool-input-error", **fields, errorText=NOT_WHOLE)

    def _write(self, event: ToolCallStarted | ToolCallDelta | ToolCallReady) -> None:
        if event.call_id in self._left_out or spoken_below(event.path):
            return
        call = self._find(event.path, event.call_id)
        if isinstance(event, ToolCallStarted):
            self._enter_step()
            ours = event.name not in self.state.client_tools
            self._put(Call(event.path, event.call_id, event.name, of_client=not ours))
            self._say(
                "tool-input-start",
                toolCallId=event.call_id,
                toolName=event.name,
                providerExecuted=ours,
            )
        elif isinstance(event, ToolCallDelta):
            if call is not None and call.stage == "writing":
                self._say(
                    "tool-input-delta", toolCallId=event.call_id, inputTextDelta=event.arguments
                )
        else:
            self._ready(event, call)

    def _ready(self, event: ToolCallReady, call: Call | None) -> None:
        if call is None:
            self._enter_step()
            ours = event.name not in self.state.client_tools
            call = Call(event.path, event.call_id, event.name, of_client=not ours)
        call = call._replace(arguments=event.arguments, stage="ready")
        self._put(call)
        if not call.of_client:  # the client's is said when the run waits for it
            self._input(call, of_server=True)

    def _work(self, event: ToolStarted | ToolProgress) -> None:
        call = self._find(event.path, event.call_id)
        if call is None and spoken_below(event.path):
            self.frames += below(event)
        elif isinstance(event, ToolProgress):
            if call is not None:
                self._say(
                    "tool-output-available",
                    toolCallId=event.call_id,
                    output=event.data,
                    providerExecuted=True,
                    preliminary=True,
                )
        elif event.call_id not in self._left_out:
            known = call or Call(event.path, event.call_id, event.name)
            if call is None:
                self._enter_step()
            if call is None or call.arguments != event.arguments:
                known = known._replace(arguments=event.arguments, stage="ready")
                self._put(known)
                self._input(known, of_server=True)

    def _settle(self, event: Outcome) -> None:
        call = self._find(event.path, event.call_id)
        if isinstance(event, ToolFailedEvent) and event.will_retry:
            if call is None and spoken_below(event.path):
                self.frames += below(event)
            return
        if call is None:
            if spoken_below(event.path):
                self.frames += below(event)
                return
            if event.call_id in self._left_out:
                return
            self._enter_step()
            call = Call(event.path, event.call_id, event.name, stage="ready")
            self._put(call)
            self._input(call, of_server=True)
        match event:
            case ToolCompleted():
                self._close_call(call, "tool-output-available", output=event.result)
            case ToolFailedEvent() if event.error.code == REJECTED and not call.of_client:
                self._close_call(call, "tool-output-denied")
            case ToolFailedEvent():
                self._close_call(call, "tool-output-error", errorText=event.error.message)
            case ToolUnknownOutcome():
                self._close_call(call, "tool-output-error", errorText=UNKNOWN_OUTCOME.message)

    # --- humans --------------------------------------------------------------------------------

    def _ask(self, event: ApprovalRequested) -> None:
        """Ask a human about a call, or the client for what comes of its tool.

        What a node asks is shown as a call of a tool with the node's name. So is the call of an
        agent that was itself called as a tool: there must be a part to be answered.
        """
        call_id = event.call_id or event.approval_id
        if call_id in self._left_out:
            return
        call = self._find(event.path, call_id)
        if call is None:
            self._enter_step()
            call = Call(event.path, call_id, event.tool or event.node or "approval")
        asked = call._replace(
            arguments=call.arguments if event.arguments is None else event.arguments,
            of_client=event.wants == "result",
            stage="asked",
            approval=event.approval_id,
        )
        self._put(asked)
        self._input(asked, of_server=False)
        if event.wants is None:
            reason = {} if event.reason is None else {"reason": event.reason}
            self._say(
                "tool-approval-request",
                approvalId=event.approval_id,
                toolCallId=call_id,
                **reason,
            )

    def _decide(self, event: ApprovalResolved) -> None:
        found = (c for c in self.state.calls if c.approval == event.approval_id)
        call = next(found, None)
        if call is None:
            return
        arguments = call.arguments if event.arguments is None else event.arguments
        call = self._replaced(call, stage="ready", approval=None, arguments=arguments)
        agreed = event.decision in {"approved", "edited"}
        if call.call_id == event.approval_id:  # a node's question: its answer is all there is to it
            if agreed:
                answer = {"decision": event.decision, "value": read_input(arguments).value}
                self._close_call(call, "tool-output-available", output=answer)
            else:
                self._close_call(call, "tool-output-denied")
        elif agreed:
            self._input(call, of_server=True)

    def _replaced(self, call: Call, **fields: Any) -> Call:
        new = call._replace(**fields)
        self._set(calls=tuple(new if known == call else known for known in self.state.calls))
        return new

    def _pause(self) -> None:
        """Let the calls that cannot go on have an output: see `WAITING`."""
        for call in self.state.calls:
            if call.stage != "asked":
                waiting = self._replaced(call, stage="waiting")
                self._say(
                    "tool-output-available",
                    toolCallId=waiting.call_id,
                    output=WAITING,
                    providerExecuted=True,
                )

    def _go_on(self) -> None:
        for call in self.state.calls:
            if call.stage == "waiting":
                self._input(self._replaced(call, stage="ready"), of_server=True)

    # --- ends ----------------------------------------------------------------------------------

    def _drop(self, ids: tuple[str, ...]) -> None:
        """Give an outcome to calls that are made anew, under other ids."""
        for call in self.state.calls:
            if call.call_id in ids:
                self._close_call(call, "tool-output-error", errorText=NO_OUTCOME)

    def _close_all(self, *, stopped: bool) -> None:
        """Give an outcome to all calls that have none: clients would wait for it for ever.

        What was stopped is denied, not failed: some clients send by themselves once each call has
        an output or an error, and so would go on with what somebody stopped.
        """
        for call in self.state.calls:
            if stopped:
                self._close_call(call, "tool-output-denied")
            else:
                self._close_call(call, "tool-output-error", errorText=NO_OUTCOME)
