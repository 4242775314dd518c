"""One run of an agent or a graph, as the program that asked for it sees it.

    handle = stream(agent, "What is the weather in Paris?")
    async for event in handle.stream:
        match event:
            case MessageDelta():
                print(event.text, end="")
    result = await handle.result

The run is that of `runtime.run_stream`: lazy, held back by a slow reader, over when its reader is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.cancel import CancelToken
from runtime.errors import RuntimeFault
from runtime.messages import ClientTool, Message
from runtime.report import new_id
from runtime.runnable import Decision, Runnable, RunRequest
from runtime.streaming.asked import Input, Options, checked_options, checked_tools, conversation
from runtime.streaming.handle import ModelEvent, RunHandle
from runtime.streaming.result import Named, RunResult

__all__ = [
    "Input",
    "ModelEvent",
    "Named",
    "Options",
    "RunHandle",
    "RunResult",
    "checked_options",
    "checked_tools",
    "conversation",
    "resume",
    "run",
    "stream",
]


def stream(
    runnable: Runnable,
    input: Input,
    *,
    history: Sequence[Message] = (),
    options: Options = None,
    cancel: CancelToken | None = None,
    timeout: float | None = None,
    instructions: str | None = None,
    tools: Sequence[ClientTool] = (),
) -> RunHandle:
    """Prepare a run; it begins when it is consumed.

    Args:
        runnable: An agent or a graph.
        input: What the user says.
        history: What was said before.
        options: For this run.
        cancel: Stops the run.
        timeout: Seconds after which the run ends as `RunTimeout`; the runnable's own limit holds
            too.
        instructions: In addition to the agent's own.
        tools: Tools whose calls the program carries out itself: each interrupts the run, which goes
            on with `resume` and `Decision("answered", result=…)`.

    Raises:
        TypeError: If `runnable` is none, or the input is no message.
        ValueError: If there is no input, or the timeout is not positive.
        OptionsRefused: If an option is unknown or out of range.
        ToolsRefused: If the runnable takes no such tools, or has a tool of such a name.
    """
    if not callable(getattr(runnable, "execute", None)):
        raise TypeError(f"{runnable!r} is no agent and no graph")
    if timeout is not None and timeout <= 0:
        raise ValueError("timeout must be more than 0 seconds")
    request = RunRequest(
        run_id=new_id("run"),
        history=(*history, *conversation(input)),
        options=checked_options(runnable, options),
        timeout=timeout,
        cancel=cancel,
        instructions=instructions,
        tools=checked_tools(runnable, tools),
    )
    return RunHandle(runnable, request)


async def run(runnable: Runnable, input: Input, **how: Any) -> RunResult:
    """Do a whole run and return its result; the arguments and errors are those of `stream`.

    Raises:
        RunAborted: If it was cancelled.
        RunTimeout: If it was not done in time.
        Exception: What made it fail.
    """
    return await stream(runnable, input, **how).drain()


def resume(
    result: RunResult,
    decisions: Mapping[str, Decision],
    *,
    cancel: CancelToken | None = None,
    timeout: float | None = None,
) -> RunHandle:
    """Prepare to go on with a run that waits for a human; see `RunHandle.resume`."""
    if result._resume is None:  # noqa: SLF001 - same package
        raise RuntimeFault("this result is of no run that can go on")
    handle: RunHandle = result._resume(decisions, cancel=cancel, timeout=timeout)  # noqa: SLF001
    return handle
