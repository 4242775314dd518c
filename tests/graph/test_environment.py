"""Environments: reports go up to whoever listens."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.broker import Broker
from runtime.environment import Emitter, Environment, FunctionEmitter


class Heard:
    """An emitter that remembers."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, Any]] = []
        self.closed = False

    def emit(self, type: str, data: Any) -> None:
        self.reports.append((type, data))


def never() -> Any:
    raise AssertionError("nobody listens, so nobody needs this")


@pytest.mark.rows("L20")
def test_an_environment_has_no_emitter_at_first_and_reports_to_the_one_that_is_set() -> None:
    environment, heard = Environment("flow"), Heard()
    assert environment.get_emitter() is None
    environment.set_emitter(heard)
    assert environment.get_emitter() is heard
    environment.emit("step", {"n": 1})
    environment.emit("made", lambda: {"n": 2})
    assert heard.reports == [("step", {"n": 1}), ("made", {"n": 2})]
    environment.set_emitter(None)
    assert environment.get_emitter() is None
    assert environment.name == "flow"


@pytest.mark.rows("L21", "W-L1")
def test_children_report_to_the_emitter_above_whenever_they_were_made() -> None:
    root = Environment("root")
    before = Environment("before", Environment("middle", root))
    heard = Heard()
    root.set_emitter(heard)
    after = Environment("after", Environment("middle", Environment("upper", root)))
    before.emit("a", 1)
    after.emit("b", 2)
    assert heard.reports == [("a", 1), ("b", 2)]
    other = Heard()
    root.set_emitter(other)
    before.emit("c", 3)
    assert other.reports == [("c", 3)]


@pytest.mark.rows("L21")
def test_the_emitter_of_a_child_goes_before_that_of_its_parent() -> None:
    root, above, own = Environment("root"), Heard(), Heard()
    child = Environment("child", root)
    grandchild = Environment("grandchild", child)
    root.set_emitter(above)
    child.set_emitter(own)
    grandchild.emit("a", 1)
    root.emit("b", 2)
    assert own.reports == [("a", 1)]
    assert above.reports == [("b", 2)]


@pytest.mark.rows("L22")
def test_without_an_emitter_nothing_happens_and_no_data_is_made() -> None:
    environment = Environment("child", Environment("root"))
    environment.emit("a", never)
    environment.emit("b")


@pytest.mark.rows("L23")
def test_a_closed_emitter_is_told_nothing_and_no_data_is_made_for_it() -> None:
    root, heard = Environment("root"), Heard()
    root.set_emitter(heard)
    child = Environment("child", root)
    own = Heard()
    own.closed = True
    child.set_emitter(own)
    child.emit("a", never)
    heard.closed = True
    root.emit("b", never)
    assert heard.reports == own.reports == []


@pytest.mark.rows("L17", "W-C8")
@pytest.mark.parametrize("type_", ["a\nevent: forged", "a\r", "a\0"])
def test_a_type_that_could_break_a_line_is_refused(type_: str) -> None:
    environment, heard = Environment("flow"), Heard()
    environment.set_emitter(heard)
    with pytest.raises(ValueError, match="CR, LF"):
        environment.emit(type_, 1)
    assert heard.reports == []


def test_a_function_can_be_an_emitter_until_it_is_closed() -> None:
    said: list[tuple[str, Any]] = []
    emitter: Emitter = FunctionEmitter(lambda type, data: said.append((type, data)))  # noqa: A006 - as the protocol names it
    environment = Environment("flow")
    environment.set_emitter(emitter)
    environment.emit("a", 1)
    assert isinstance(emitter, FunctionEmitter)
    emitter.close()
    emitter.close()
    assert emitter.closed
    emitter.emit("b", 2)
    environment.emit("c", never)
    assert said == [("a", 1)]


async def test_a_broker_is_an_emitter() -> None:
    broker, environment = Broker(), Environment("flow")
    subscription = broker.subscribe("client")
    environment.set_emitter(broker)
    environment.emit("step", {"n": 1})
    broker.close()
    environment.emit("late", never)
    assert [(event.type, event.data) async for event in subscription] == [("step", {"n": 1})]
