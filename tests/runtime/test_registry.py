"""Runnables by name."""

from __future__ import annotations

import pytest

from runtime import Agent, AgentUnknown, ModelUnavailable, Registry, ScriptedModel
from runtime.agent import Handoff
from runtime.graph import END, Graph, Key
from tests.support.puppet import Part, Puppet


def agent(name: str, model: ScriptedModel | None = None) -> Agent:
    return Agent(name, model or ScriptedModel([]))


def test_the_first_is_the_default_and_the_order_is_kept() -> None:
    first, second = agent("first"), agent("second")
    registry = Registry(first, second)
    assert registry.get() is first
    assert registry.get("second") is second
    assert list(registry) == [first, second]
    assert len(registry) == 2


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    registry = Registry(agent("b"), agent("a"))
    with pytest.raises(AgentUnknown, match=r"no agent 'c'; registered: a, b"):
        registry.get("c")
    with pytest.raises(AgentUnknown):
        registry.get("")
    with pytest.raises(AgentUnknown):
        Registry().get()


def test_a_name_is_taken_once_and_must_be_one() -> None:
    registry = Registry(agent("a"))
    with pytest.raises(ValueError, match="registered already"):
        registry.register(agent("a"))
    registry.register(agent("support.triage"))
    long = f"{'x' * 32}.{'x' * 32}"
    for name in ("", "a b", "ä", "x" * 65, "a\n", "a.b.c", ".a", "a.", "a..b", long):
        with pytest.raises(ValueError, match="are allowed"):
            registry.register(agent(name))


async def test_closing_closes_each_model_once_and_one_that_fails_does_not_keep_the_others_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck(ScriptedModel):
        async def aclose(self) -> None:
            await super().aclose()
            raise OSError("stuck")

    stuck, shared, own = Stuck([]), ScriptedModel([]), ScriptedModel([])
    registry = Registry(agent("s", stuck), agent("a", shared), agent("b", shared), agent("c", own))
    await registry.aclose()
    assert (stuck.closed, shared.closed, own.closed) == (1, 1, 1)
    assert "stuck" in caplog.text


class SlowToStart(ScriptedModel):
    """Needs a while before its first answer."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__([])
        self.started = 0
        self.error = error

    async def start(self) -> None:
        self.started += 1
        if self.error is not None:
            raise self.error


async def test_models_that_can_get_ready_do_so_once_and_a_failure_keeps_nobody_back() -> None:
    shared, broken = SlowToStart(), SlowToStart(ModelUnavailable("no weights"))
    registry = Registry(
        Agent("a", broken), Agent("b", shared), Agent("c", shared), Agent("d", ScriptedModel([]))
    )
    await registry.start()
    assert (broken.started, shared.started) == (1, 1)


async def test_models_of_agents_below_get_ready_and_are_closed_too_each_once() -> None:
    target, helper, own = SlowToStart(), SlowToStart(), SlowToStart()
    second = Agent("second", target, handoffs=[Handoff(lambda: first)])  # a circle
    first = Agent(
        "first", own, handoffs=[second], tools=[Agent("helper", helper, "help").as_tool()]
    )
    registry = Registry(first, Agent("third", own, handoffs=[Handoff(lambda: first)]))
    await registry.start()
    assert (own.started, target.started, helper.started) == (1, 1, 1)
    await registry.aclose()
    assert (own.closed, target.closed, helper.closed) == (1, 1, 1)


async def test_models_in_graphs_and_whatever_else_can_get_ready_do_so() -> None:
    class Late(Puppet):
        """Connects somewhere before its first run."""

        started = 0

        async def start(self) -> None:
            self.started += 1

    async def play(part: Part) -> None:
        raise AssertionError

    writer, late = SlowToStart(), Late(play)
    text = Key("text", "")
    graph = Graph(text, name="g")
    graph.node("write", Agent("writer", writer), END, ask=lambda view: "hi", into=text)
    graph.start("write")
    registry = Registry(graph.build(), late)
    await registry.start()
    assert (writer.started, late.started) == (1, 1)
    await registry.aclose()
    assert writer.closed
