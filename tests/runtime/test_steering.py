"""What users say while an agent works reaches it before its next model call, once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from runtime import (
    Agent,
    CancelToken,
    Decision,
    Message,
    RuntimeFault,
    ScriptedModel,
    ToolCall,
    create_session,
    stream,
    tool,
)
from runtime.agent import Hooks, RunContext
from runtime.errors import BudgetExceeded, GuardrailTripwire
from runtime.events import (
    InputSteered,
    ModelCompleted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    ToolStarted,
)
from runtime.graph import END, MessageGraph
from runtime.models.scripted import Cue, call_tools, say
from runtime.runnable import RunRequest
from runtime.streaming import RunHandle
from tests.runtime.support import Log, going_on, request, run, user

LOOK = ToolCall(id="c1", name="look", arguments="{}")


@tool
async def look() -> str:
    """Look around."""
    return "trees"


class User:
    """Somebody who says things while an agent works; the log has what the agent took."""

    def __init__(self, log: Log | None = None) -> None:
        self.log = log or Log()
        self.says: list[str] = []
        self.asked = 0

    async def steered(self) -> Sequence[Message]:
        self.asked += 1
        taken, self.says[:] = tuple(user(text) for text in self.says), ()
        for message in taken:
            event = InputSteered(run_id="run_1", path=("a",), message=message)
            await self.log.emit(event)
        return taken


def agent(*answers: Sequence[Cue], **more: object) -> tuple[Agent, ScriptedModel]:
    model = ScriptedModel(list(answers))
    return Agent("a", model, tools=[look], **more), model  # type: ignore[arg-type] # per test


def after_first(somebody: User, text: str) -> Hooks:
    """Have somebody say something right after the first answer."""

    def after_model(told: RunContext, said: ModelCompleted) -> None:
        if told.turn == 1:
            somebody.says.append(text)

    return Hooks(after_model=after_model)


def heard(model: ScriptedModel) -> list[list[tuple[str, str]]]:
    """What each model call was told, tool results apart."""
    return [
        [(told.role, told.content) for told in asked.messages if told.role != "tool"]
        for asked in model.requests
    ]


async def executed(who: Agent, asked: RunRequest, somebody: User) -> Log:
    async with asyncio.timeout(30):
        await who.execute(replace(asked, steered=somebody.steered), somebody.log.emit)
    return somebody.log


@pytest.mark.rule("send.steer")
async def test_what_is_said_while_tools_work_is_seen_by_the_next_model_call() -> None:
    somebody = User()

    @tool(name="look")
    async def interrupting() -> str:
        somebody.says.append("and the sea?")
        return "trees"

    model = ScriptedModel([call_tools(LOOK), say("Trees and waves.")])
    log = await executed(Agent("a", model, tools=[interrupting]), request("look"), somebody)
    assert heard(model) == [
        [("user", "look")],
        [("user", "look"), ("assistant", ""), ("user", "and the sea?")],
    ]
    order = [e for e in log.types if e in {"tool.completed", "input.steered", "model.started"}]
    assert order == ["model.started", "tool.completed", "input.steered", "model.started"]
    assert log.one(RunCompleted).output == "Trees and waves."


@pytest.mark.rule("send.steer")
async def test_an_answer_that_was_complete_stands_and_the_run_goes_on_with_another_one() -> None:
    somebody = User()
    hooks = after_first(somebody, "why?")
    ends: list[str] = []
    closing = Hooks(after_run=lambda _, end: ends.append(end.output))
    who, model = agent(say("Blue."), say("Because of Rayleigh."), hooks=[hooks, closing])
    log = await executed(who, request("which colour?"), somebody)
    assert heard(model)[1] == [
        ("user", "which colour?"),
        ("assistant", "Blue."),
        ("user", "why?"),
    ]
    assert [event.content for event in log.of(ModelCompleted)] == ["Blue.", "Because of Rayleigh."]
    end = log.one(RunCompleted)
    assert (end.output, end.num_turns, end.message_count) == ("Because of Rayleigh.", 2, 4)
    assert ends == ["Because of Rayleigh."]


async def test_an_answer_that_a_tool_gives_stands_too() -> None:
    somebody = User()

    @tool(name="look")
    async def interrupting() -> str:
        somebody.says.append("go on")
        return "trees"

    model = ScriptedModel([call_tools(LOOK), say("Done.")])
    who = Agent("a", model, tools=[interrupting], stop_at_tools=("look",))
    log = await executed(who, request("look"), somebody)
    assert heard(model)[1][-1] == ("user", "go on")
    assert log.one(RunCompleted).output == "Done."


async def test_limits_hold_and_no_answer_is_thrown_away_for_them() -> None:
    somebody = User()
    hooks = Hooks(after_model=lambda _told, _said: somebody.says.append("more"))
    who, model = agent(say("One."), say("Two."), say("Three."), hooks=hooks, max_turns=2)
    log = await executed(who, request("count"), somebody)
    assert log.one(RunCompleted).output == "Two."
    assert model.calls == 2
    assert somebody.says == ["more"]  # nobody took it: it is for another run

    other = User()
    hooks = Hooks(after_model=lambda _told, _said: other.says.append("more"))
    who, model = agent(call_tools(LOOK), say("Two."), hooks=hooks, max_total_tokens=1)
    log = await executed(who, request("count"), other)
    assert log.one(RunFailed).error.code == BudgetExceeded.code
    assert other.says == ["more"]


async def test_a_run_that_is_to_stop_after_its_step_takes_nothing_any_more() -> None:
    somebody, token = User(), CancelToken()

    @tool(name="look")
    async def stopping() -> str:
        somebody.says.append("too late")
        token.stop_after_step()
        return "trees"

    model = ScriptedModel([call_tools(LOOK), say("never")])
    asked = replace(request("look"), cancel=token)
    log = await executed(Agent("a", model, tools=[stopping]), asked, somebody)
    assert log.one(RunCancelled).reason == "cancel"
    assert (model.calls, somebody.says) == (1, ["too late"])

    last = CancelToken()

    def stop(told: object, said: object) -> None:
        other.says.append("too late")
        last.stop_after_step()

    other = User()
    who, _ = agent(say("Done."), hooks=Hooks(after_model=stop))
    log = await executed(who, replace(request(), cancel=last), other)
    assert log.one(RunCompleted).output == "Done."
    assert other.says == ["too late"]


@pytest.mark.parametrize("first", ["answer", "call"])
async def test_after_a_crash_what_was_heard_is_answered_and_not_heard_again(first: str) -> None:
    somebody = User()
    hooks = after_first(somebody, "why?")
    before = say("Blue.") if first == "answer" else call_tools(LOOK)
    who, model = agent(before, [asyncio.Event()], say("Because."), hooks=hooks)
    asked = replace(request("which?"), steered=somebody.steered)
    task = asyncio.create_task(who.execute(asked, somebody.log.emit))
    await somebody.log.until(InputSteered)
    events = list(somebody.log.events)  # all that the log had when the process died
    task.cancel()
    await asyncio.wait((task,))
    again = User()
    model.calls = 2
    log = await executed(who, going_on(asked, events), again)
    assert heard(model)[-1][-1] == ("user", "why?")
    assert [text for _, text in heard(model)[-1]].count("why?") == 1
    assert log.one(RunCompleted).output == "Because."
    assert log.of(InputSteered) == []


async def test_what_is_said_to_a_run_is_not_for_those_below_it() -> None:
    somebody = User()
    below_model = ScriptedModel([say("from below")])

    def slip(told: object, _: object) -> None:
        somebody.says.append("for the boss")

    below = Agent("below", below_model, hooks=Hooks(before_model=slip))
    call = ToolCall(id="c1", name="below", arguments='{"input": "work"}')
    model = ScriptedModel([call_tools(call), say("Done.")])
    await executed(Agent("a", model, tools=[below.as_tool()]), request("go"), somebody)
    assert heard(below_model) == [[("user", "work")]]
    assert heard(model)[1][-1] == ("user", "for the boss")


async def test_whoever_has_the_conversation_hears_it() -> None:
    somebody = User()

    def slip(told: object, _: object) -> None:
        somebody.says.append("are you b?")

    spoken = ScriptedModel([say("I am."), say("Yes, b.")])
    target = Agent("b", spoken)
    call = ToolCall(id="c1", name="transfer_to_b", arguments="{}")
    model = ScriptedModel([call_tools(call)])
    who = Agent("a", model, handoffs=[target], hooks=Hooks(after_model=slip))
    log = await executed(who, request("give me b"), somebody)
    assert heard(spoken)[0][-1] == ("user", "are you b?")
    assert log.one(RunCompleted).last_agent == "b"


async def test_an_input_guardrail_is_asked_about_it() -> None:
    somebody = User()
    asked: list[str] = []

    def polite(text: str) -> bool:
        asked.append(text)
        return "damn" not in text

    hooks = Hooks(after_model=lambda _told, _said: somebody.says.append("damn"))
    who, model = agent(call_tools(LOOK), say("never"), hooks=hooks, input_guardrails=[polite])
    log = await executed(who, request("hello"), somebody)
    assert asked == ["hello", "damn"]
    assert log.one(RunFailed).error.code == GuardrailTripwire.code
    assert model.calls == 1


async def test_a_log_that_takes_nothing_ends_the_run_at_once() -> None:
    class Broken(Exception):
        pass

    async def steered() -> Sequence[Message]:
        raise Broken

    log = Log()
    who, model = agent(say("never"))
    with pytest.raises(Broken):
        await who.execute(replace(request(), steered=steered), log.emit)
    assert (log.types, model.calls) == (["run.started"], 0)


async def test_an_agent_that_nobody_can_speak_to_runs_as_ever() -> None:
    who, _ = agent(say("Hello."))
    assert (await run(who)).one(RunCompleted).output == "Hello."


# --- in a program -----------------------------------------------------------------------------


async def test_a_program_steers_a_run_in_its_own_process() -> None:
    who, model = agent(call_tools(LOOK), say("Trees, in English."))
    handle = stream(who, "look")
    types: list[str] = []
    async for event in handle.events:
        types.append(event.type)
        if isinstance(event, ToolStarted):
            handle.steer("in English")
    assert types.index("input.steered") > types.index("tool.completed")
    assert heard(model)[1][-1] == ("user", "in English")
    result = await handle.result
    assert [(m.role, m.content) for m in result.messages if m.role != "tool"] == [
        ("user", "look"),
        ("assistant", ""),
        ("user", "in English"),
        ("assistant", "Trees, in English."),
    ]
    assert handle.unheard == ()
    with pytest.raises(RuntimeFault, match="over"):
        handle.steer("thanks")


async def test_what_is_said_while_a_run_waits_for_a_human_is_heard_when_it_goes_on() -> None:
    @tool(name="look", needs_approval=True)
    async def guarded() -> str:
        return "trees"

    model = ScriptedModel([call_tools(LOOK), say("Trees.")])
    handle: RunHandle = stream(Agent("a", model, tools=[guarded]), "look")
    async for event in handle.events:
        if isinstance(event, RunInterrupted):
            break
        if event.type == "approval.requested":
            handle.steer("quickly")
    (asked,) = (await handle.result).interrupted
    assert handle.unheard == (user("quickly"),)
    rest = handle.resume({asked.approval_id: Decision("approved")})
    await rest.drain()
    assert heard(model)[1][-1] == ("user", "quickly")
    assert rest.unheard == ()


async def test_a_graph_does_not_listen_while_it_works() -> None:
    who, _ = agent(say("Hello."))
    graph = MessageGraph(name="g").node("n", who, END).start("n").build()
    with pytest.raises(RuntimeFault, match="does not listen"):
        stream(graph, "go").steer("faster")


async def test_what_a_turn_of_a_session_does_not_hear_is_for_the_next_one() -> None:
    model = ScriptedModel([say("One."), say("Two."), say("Three.")])
    session = create_session(Agent("a", model, max_turns=1))
    with pytest.raises(RuntimeFault, match="no turn"):
        session.steer("hello")
    session.send("count")
    async for event in session.stream():
        if event.type == "message.delta":
            session.steer("on")
    assert [(m.role, m.content) for m in session.messages] == [
        ("user", "count"),
        ("assistant", "One."),
    ]
    session.send("please")
    async for _ in session.stream():
        pass
    assert heard(model)[1][-1] == ("user", "on\n\nplease")
    assert session.result.output == "Two."
