"""One run in the hands of the program that asked for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, cast, get_args

from runtime.abandon import undisturbed
from runtime.agent import Agent
from runtime.cancel import CancelToken
from runtime.errors import RunAborted, RuntimeFault, StreamNotConsumedError
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    Event,
    InputSteered,
    MessageDelta,
    ModelCompleted,
    ReasoningDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
)
from runtime.journal import JOURNALED, spoken_below
from runtime.messages import Message
from runtime.run_stream import RunStream
from runtime.runnable import Decision, Emit, Runnable, RunRequest
from runtime.streaming.asked import Input, conversation
from runtime.streaming.result import RunResult, outcome
from runtime.transcript import Transcript

__all__ = ["ModelEvent", "RunHandle"]

ModelEvent = MessageDelta | ToolCallStarted | ToolCallDelta | ToolCallReady | ModelCompleted
"""What a run's own model says, and nothing else. `type` tells them apart; a `match` over the five
classes is exhaustive."""

_MODEL_EVENTS: frozenset[type[Any]] = frozenset(get_args(ModelEvent))
_PIECES: frozenset[type[Any]] = frozenset(get_args(MessageDelta | ReasoningDelta | ToolCallDelta))
"""Nearly all events, and nothing that is kept of a run: what they are pieces of follows whole."""


class RunHandle:
    """One run: what it says while it runs, and its result.

    Either `stream` or `events` is consumed, once. As `async with`, leaving the block ends the run.

    Attributes:
        run_id: The run.
        stream: The model-level events of the run's own conversation; see `ModelEvent`.
        events: All that happens in the run, at any depth, its end last.
        result: Await it for the `RunResult`.
    """

    def __init__(
        self,
        runnable: Runnable,
        request: RunRequest,
        *,
        before: Callable[[RunRequest], Awaitable[RunRequest]] | None = None,
        after: Callable[[], Coroutine[Any, Any, None]] | None = None,
        resolved: Sequence[Event] = (),
        transcript: Transcript | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            runnable: What runs.
            request: What it is asked.
            before: Awaited when the run begins; returns what it is really asked.
            after: Awaited when the run has said its last word, however it ended.
            resolved: Reported before all else.
            transcript: What was said in the run before.
        """
        self.run_id = request.run_id
        self._runnable = runnable
        self._request = request
        self._before = before
        self._after = after
        self._resolved = tuple(resolved)
        self._transcript = transcript
        self._steering: list[Message] = []
        self._journal = list(request.journal)
        self._went_on = False
        self._outcome: RunResult | None = None
        self._way: _Way | None = None
        ways = _Way(self), _Way(self)
        self.stream: RunStream[ModelEvent] = RunStream(
            ways[0], request, _model_event, cancel=request.cancel
        )
        self.events: RunStream[Event] = RunStream(ways[1], request, _itself, cancel=request.cancel)
        self._ways: dict[_Way, RunStream[Any]] = {ways[0]: self.stream, ways[1]: self.events}
        self.result: Awaitable[RunResult] = _Result(self)

    def __iter__(self) -> Iterator[Any]:
        """Unpack: `events, result = stream(…)`."""
        yield self.stream
        yield self.result

    async def drain(self) -> RunResult:
        """Consume what is left and return the result; the errors are those of the run."""
        consumed = self._consumed() or self.stream
        if not consumed.over:
            async for _ in consumed:
                pass
        return await self.result

    async def aclose(self) -> None:
        """End the run, if it is not over, and wait until everything that it started is gone."""
        await (self._consumed() or self.stream).aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def over(self) -> bool:
        """Whether the run has ended, or will never begin."""
        consumed = self._consumed()
        return consumed is not None and consumed.over

    @property
    def leaving(self) -> bool:
        """Whether the run is over or being stopped."""
        consumed = self._consumed()
        return consumed is not None and consumed.leaving

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, without instructions; what was cut short is in it as it was."""
        if self._transcript is None:
            return self._request.history
        return tuple(self._transcript.messages)

    @property
    def began(self) -> bool:
        """Whether the run has done anything."""
        return self._way is not None

    def steer(self, input: Input) -> None:
        """Say something to the agent while it works: it hears it before its next model call.

        An answer that is complete by then stands, and the agent goes on with another one. It is an
        input as any other: the agent's input guardrails are asked about it, and its limits hold.

        Raises:
            RuntimeFault: If the run is over or being stopped, or is not one of this runtime's
                agents: nothing else listens while it works.
            TypeError, ValueError: If it is no message.
        """
        if self.leaving:
            raise RuntimeFault("the run is over: nobody hears this")
        if not isinstance(self._runnable, Agent):
            raise RuntimeFault(f"{self._runnable.name!r} does not listen while it works")
        self._steering += conversation(input)

    @property
    def unheard(self) -> tuple[Message, ...]:
        """What was said with `steer` and the agent has not heard; once the run is over, for good.

        A run that waits for a human hears it when it goes on.
        """
        return tuple(self._steering)

    async def wait(self) -> None:
        """Return when the run is over.

        Raises:
            StreamNotConsumedError: If nobody has begun to consume it.
        """
        consumed = self._consumed()
        if consumed is None:
            raise StreamNotConsumedError(
                "nobody consumes this run, so it would never end; "
                "iterate over `stream`, or `await drain()`"
            )
        await consumed.wait()

    def resume(
        self,
        decisions: Mapping[str, Decision],
        *,
        cancel: CancelToken | None = None,
        timeout: float | None = None,
    ) -> RunHandle:
        """Prepare to go on with this run: what it did is not done again, and its counters go on.

        Args:
            decisions: What humans said, by `approval_id`. What nobody decides on is asked again.
            cancel: Stops the run from now on.
            timeout: Seconds for the rest of it.

        Raises:
            RuntimeFault: If the run does not wait for a human, or went on already.
            ValueError: If an approval is none of those that it waits for, or is decided on where a
                result is wanted, or the other way round.
        """
        waiting = self.outcome().interrupted if self.over else ()
        if not waiting:
            raise RuntimeFault("the run does not wait for a human")
        if self._went_on:
            raise RuntimeFault("the run went on already")
        asked = {approval.approval_id: approval for approval in waiting}
        if unknown := sorted(decisions.keys() - asked.keys()):
            raise ValueError(
                f"the run does not wait for {', '.join(unknown)}; it waits for {', '.join(asked)}"
            )
        for name, said in decisions.items():
            said.check(asked[name])
        self._went_on = True
        told = {asked[name].call_id or name: said for name, said in decisions.items()}
        transcript = self._transcript or Transcript(self._request.history)
        of_agent = self._runnable.kind == "agent"
        request = replace(
            self._request,
            history=tuple(transcript.messages) if of_agent else self._request.history,
            announce=False,
            turns=transcript.turns,
            usage=transcript.usage,
            started=frozenset(transcript.started),
            decisions={**self._request.decisions, **told},
            journal=tuple(self._journal),
            timeout=timeout,
            cancel=cancel,
        )
        resolved = [_resolved(asked[name], said) for name, said in decisions.items()]
        handle = RunHandle(
            self._runnable, request, after=self._after, resolved=resolved, transcript=transcript
        )
        handle._steering = self._steering
        return handle

    # --- the run -------------------------------------------------------------------------------

    def _consumed(self) -> RunStream[Any] | None:
        """Return the stream that somebody has begun to consume, or has closed."""
        if self._way is not None:
            return self._ways[self._way]
        return next((s for s in self._ways.values() if s.started or s.over), None)

    async def execute(self, way: _Way, request: RunRequest, emit: Emit) -> None:
        """Do the run for the first stream that is consumed, keeping what the result needs."""
        if self._way is not None:
            raise RuntimeFault("this run is consumed already: `stream` or `events`, not both")
        self._way = way
        try:
            if self._before is not None:
                request = self._request = await self._before(request)
            path = (self._runnable.name,)
            whole = self._runnable.kind == "graph"
            said = self._transcript or Transcript(request.history, path, whole=whole)
            self._transcript = said

            async def record(event: Event) -> None:
                if event.__class__ not in _PIECES:
                    said.note(event)
                    if isinstance(event, JOURNALED):
                        self._journal.append(event)
                await emit(event)

            async def steered() -> tuple[Message, ...]:
                heard = tuple(self._steering)
                self._steering.clear()
                for message in heard:
                    await record(InputSteered(run_id=self.run_id, path=path, message=message))
                return heard

            for event in self._resolved:
                await record(event)
            await self._runnable.execute(replace(request, steered=steered), record)
        finally:
            if self._after is not None:
                await undisturbed(self._after())

    def outcome(self) -> RunResult:
        """Return the result of a run that is over.

        Raises:
            Exception: What ended it otherwise.
        """
        consumed = self._consumed()
        error = RunAborted() if consumed is None else consumed.error()
        if error is not None:
            raise error
        if self._outcome is None:
            said = self._transcript or Transcript()
            end = consumed.end if consumed is not None else None
            self._outcome = outcome(
                self._runnable, said, end, run_id=self.run_id, resume=self.resume
            )
        return self._outcome

    async def _settled(self) -> RunResult:
        await self.wait()
        return self.outcome()


class _Way:
    """One of the two ways in which a handle's run can be consumed."""

    def __init__(self, handle: RunHandle) -> None:
        self._handle = handle

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        await self._handle.execute(self, request, emit)


class _Result(Awaitable[RunResult]):
    """Can be awaited any number of times, or never."""

    def __init__(self, handle: RunHandle) -> None:
        self._handle = handle

    def __await__(self) -> Generator[Any, None, RunResult]:
        return self._handle._settled().__await__()  # noqa: SLF001 - same module


def _model_event(event: Event) -> ModelEvent | None:
    if event.__class__ not in _MODEL_EVENTS or spoken_below(event.path):
        return None
    return cast("ModelEvent", event)


def _itself(event: Event) -> Event:
    return event


def _resolved(approval: ApprovalRequested, said: Decision) -> Event:
    return ApprovalResolved(
        run_id=approval.run_id,
        path=approval.path,
        approval_id=approval.approval_id,
        decision=said.kind,
        message=said.message,
        arguments=said.arguments,
        result=said.result,
    )
