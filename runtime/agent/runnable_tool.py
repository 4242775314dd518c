"""Agents and graphs as tools of an agent."""

from __future__ import annotations

import re
from typing import Annotated, Any, Unpack

from pydantic import BaseModel, ConfigDict, Field

from runtime.errors import RuntimeFault, ToolFailed
from runtime.messages import Message
from runtime.nested import run_below
from runtime.runnable import Runnable
from runtime.tools import Tool, ToolContext, ToolOptions
from runtime.tools.signature import whole

__all__ = ["runnable_tool"]


class _Task(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Annotated[str, Field(description="What it is to do, with all that it needs to know.")]


def runnable_tool(
    runnable: Runnable,
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptions],
) -> Tool:
    """Make a tool of an agent or a graph: the model gives it a task, and is told its output.

    What happens in it is reported as it happens, at a path that ends with `call_id:name`; so two
    calls at once can be told apart. If it waits for a human, so does the run; it goes on where it
    was. If it fails, the model is told.

    Args:
        runnable: The agent or graph.
        name: What the model calls it; by default the runnable's name.
        description: What the model is told about it; by default the runnable's description.
        options: See `Tool`.

    Raises:
        ValueError: If the name is not one that providers take.
    """
    own_name = re.sub(r"[^A-Za-z0-9_-]", "_", runnable.name)[:64] if name is None else name

    async def run(context: ToolContext, task: _Task) -> Any:
        part = f"{context.call_id}:{own_name}"
        history = (Message(role="user", content=task.input),)
        try:
            end = await run_below(runnable, history, context.scope, part=part)
        except RuntimeFault:
            raise
        except Exception as error:
            # What it says is for the log: nobody knows whether it is fit for others.
            raise ToolFailed(f"{own_name} failed: {type(error).__name__}") from error
        return end.output if end.final_output is None else end.final_output

    by_default = runnable.description or f"Give a task to {runnable.name}."
    return Tool(
        function=run,
        signature=whole(run, _Task, own_name),
        name=own_name,
        description=by_default if description is None else description,
        runnable=runnable,
        **options,
    )
