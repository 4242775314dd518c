"""Agents: a model with instructions and tools, and the limits and the end of each of its runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal, Unpack

from pydantic import ValidationError

from runtime.agent.bill import Prices
from runtime.agent.handoff import Handoff
from runtime.agent.hooks import Hooks, Instructions
from runtime.agent.loop import Loop
from runtime.agent.output import OutputFormat
from runtime.agent.runnable_tool import runnable_tool
from runtime.conduct import conduct, shortest
from runtime.errors import OptionsRefused, ToolsRefused
from runtime.events import Event
from runtime.messages import ClientTool
from runtime.models.base import Model
from runtime.report import Reporter
from runtime.retry import RetryPolicy
from runtime.runnable import Emit, Runnable, RunOptions, RunRequest, ToolInfo
from runtime.tools import Guardrail, Tool, ToolOptions

__all__ = ["Agent"]


@dataclass(frozen=True, eq=False)
class Agent:
    """A model that answers, calling tools as it sees fit. It is a `Runnable`.

    Limits are looked at before each model call: an answer that was given is never thrown away.
    Tokens and money include what agents below took.

    Attributes:
        name: The name under which it is registered.
        model: The model that it asks.
        instructions: Told to the model before the conversation; or a function, async or sync, that
            is asked for them before each model call.
        tools: What the model may call; their names differ.
        description: One sentence for people who choose an agent.
        max_turns: How often one run may call the model.
        timeout: Seconds that one run may take; None for no limit of its own.
        options_type: What a caller may set for one run.
        retry: When a failed model call is made again.
        output_type: The type of the answer, as `pydantic.TypeAdapter` takes it; the model is told
            its JSON Schema. None, or `str`, for text.
        handoffs: The agents to which it may hand the conversation.
        hooks: Called around what it does.
        input_guardrails: Asked with what the user said that nobody has answered, before anything is
            done about it.
        output_guardrails: Asked with the answer that ends the run; after a handoff, those of the
            agent that gives it. Its text was streamed by then, unless `buffered`.
        buffered: Hold back the text of each answer until it is whole and has passed the output
            guardrails; text that does not pass is not reported at all.
        max_total_tokens: How many tokens one run may take; None for no limit.
        prices: What its model costs; runs then say what they cost.
        max_cost_usd: How much one run may cost, in USD; needs `prices`. None for no limit.
        stop_at_tools: Tools whose result is the answer, without asking the model again; `*` and `?`
            as in file names, so `("*",)` stops at any. A call that failed does not count.

    Raises:
        ValueError: If there is no model, or two tools have one name, or a limit is not positive,
            or there is a limit of costs without prices.
        TypeError: If a tool is no tool, or the output type cannot be written as JSON.
    """

    name: str
    model: Model
    instructions: Instructions | None = None
    tools: Sequence[Tool] = ()
    description: str = ""
    max_turns: int = 10
    timeout: float | None = 600.0
    options_type: type[RunOptions] = RunOptions
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    output_type: Any = None
    handoffs: Sequence[Agent | Handoff] = ()
    hooks: Hooks | Sequence[Hooks] = ()
    input_guardrails: Sequence[Guardrail] = ()
    output_guardrails: Sequence[Guardrail] = ()
    buffered: bool = False
    max_total_tokens: int | None = None
    prices: Prices | None = None
    max_cost_usd: float | None = None
    stop_at_tools: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.model is None:
            raise ValueError(f"agent {self.name!r} has no model; pass one as model=")
        for tool in self.tools:
            if not isinstance(tool, Tool):
                raise TypeError(f"agent {self.name!r}: {tool!r} is no tool; decorate it with @tool")
        if len(self.toolbox) < len(self.tools):
            raise ValueError(f"agent {self.name!r}: two tools have the same name")
        if self.max_turns < 1 or (self.timeout is not None and self.timeout <= 0):
            raise ValueError(f"agent {self.name!r}: max_turns and timeout must be positive")
        if any(limit is not None and limit <= 0 for limit in self._budgets):
            raise ValueError(
                f"agent {self.name!r}: max_total_tokens and max_cost_usd must be positive"
            )
        if self.max_cost_usd is not None and self.prices is None:
            raise ValueError(f"agent {self.name!r}: max_cost_usd needs prices=")
        _ = self.output_format  # a type that cannot be written as JSON is told here

    @property
    def kind(self) -> Literal["agent"]:
        """What it is."""
        return "agent"

    def as_tool(
        self,
        name: str | None = None,
        description: str | None = None,
        **options: Unpack[ToolOptions],
    ) -> Tool:
        """Return this agent as a tool of another one; see `runnable_tool`."""
        return runnable_tool(self, name=name, description=description, **options)

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        """Return its tools and handoffs, as models and clients see them."""
        tools = (tool.info for tool in self.toolbox.values())
        return (*tools, *(handoff.info for handoff in self.handoffs_by_tool.values()))

    def check_tools(self, tools: Sequence[ClientTool]) -> None:
        """Return if a run may have these tools of a client's.

        Raises:
            ToolsRefused: If one has the name of a tool of this agent, or of one that it may hand
                over to, which is offered the client's tools, too.
        """
        names = {tool.name for tool in tools}
        for agent in self._speakers() if names else ():
            if taken := [info.name for info in agent.tool_infos() if info.name in names]:
                raise ToolsRefused(f"agent {agent.name!r} has a tool {taken[0]!r} of its own")

    async def aclose(self) -> None:
        """Let go of its model, and those of the agents it may hand over to. Safe to call twice."""
        for agent in self._reachable():
            await agent.model.aclose()
            for part in agent.parts:
                if not isinstance(part, Agent):
                    await part.aclose()

    # --- for the loop --------------------------------------------------------------------------

    @cached_property
    def toolbox(self) -> dict[str, Tool]:
        """Its tools by name."""
        return {tool.name: tool for tool in self.tools}

    @cached_property
    def handoffs_by_tool(self) -> dict[str, Handoff]:
        """Its handoffs, by the names under which the model is offered them.

        Raises:
            ValueError: If two of them, or one and a tool, have one name.
        """
        handoffs = [h if isinstance(h, Handoff) else Handoff(h) for h in self.handoffs]
        named = {handoff.info.name: handoff for handoff in handoffs}
        if len(named) < len(handoffs) or named.keys() & self.toolbox.keys():
            raise ValueError(f"agent {self.name!r}: two handoffs or tools have the same name")
        return named

    @cached_property
    def hook_list(self) -> tuple[Hooks, ...]:
        """Its hooks, in order."""
        return (self.hooks,) if isinstance(self.hooks, Hooks) else tuple(self.hooks)

    @cached_property
    def output_format(self) -> OutputFormat | None:
        """What its answers have to be."""
        text = self.output_type is None or self.output_type is str
        return None if text else OutputFormat(self.output_type)

    def handoff_to(self, name: str) -> Handoff | None:
        """Return the handoff to the agent of that name, if there is one."""
        handoffs = self.handoffs_by_tool.values()
        return next((handoff for handoff in handoffs if handoff.target.name == name), None)

    def agent_below(self, tool: str) -> Agent | None:
        """Return the agent that runs as the tool of that name, if one does."""
        runnable = self.toolbox[tool].runnable if tool in self.toolbox else None
        return runnable if isinstance(runnable, Agent) else None

    def stops_at(self, tool: str) -> bool:
        """Tell whether the result of this tool is the answer."""
        return any(fnmatchcase(tool, pattern) for pattern in self.stop_at_tools)

    @property
    def _budgets(self) -> tuple[float | None, ...]:
        return self.max_total_tokens, self.max_cost_usd

    @property
    def parts(self) -> tuple[Runnable, ...]:
        """Those that it may hand over to, and those that it has as tools."""
        targets = [handoff.target for handoff in self.handoffs_by_tool.values()]
        return (*targets, *(t.runnable for t in self.tools if t.runnable is not None))

    def _reachable(self) -> list[Agent]:
        """Return all agents that may speak in its runs, itself first."""
        return self._and_beyond(lambda agent: agent.parts)

    def _speakers(self) -> list[Agent]:
        """Return those of them that may have the conversation."""
        return self._and_beyond(
            lambda agent: [handoff.target for handoff in agent.handoffs_by_tool.values()]
        )

    def _and_beyond(self, ways_on: Callable[[Agent], Sequence[Runnable]]) -> list[Agent]:
        found = [self]
        for agent in found:  # which grows meanwhile
            others = [other for other in ways_on(agent) if isinstance(other, Agent)]
            found += [other for other in dict.fromkeys(others) if other not in found]
        return found

    # --- a run ---------------------------------------------------------------------------------

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        """Do a run and report it; the promises are those of `Runnable.execute`."""
        report = Reporter(emit, run_id=request.run_id, path=request.path or (self.name,))
        limit = shortest(self.timeout, request.timeout)
        deadline = None if limit is None else time.monotonic() + limit

        async def work() -> list[Event]:
            options = self._options(request.options)
            return [await Loop(self, request, options, report, deadline).run()]

        await conduct(report, work, limit=limit)

    def _options(self, options: RunOptions) -> RunOptions:
        """Return options as the agent's own type, which may have defaults of its own."""
        if type(options) is self.options_type:
            return options
        try:
            return self.options_type.model_validate(options.model_dump(exclude_unset=True))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
            raise OptionsRefused(
                f"agent {self.name!r} does not take these options: {problems}"
            ) from error
