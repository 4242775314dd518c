"""Writers that say less than they are told."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from runtime.graph import END, Graph, Key, NodeContext, View
from runtime.throttle import Progress, batch, throttle
from tests.graph.graphs import all_results

ROWS = Key("rows", 0)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.rows("A30")
def test_the_first_every_thousandth_and_the_last_are_delivered() -> None:
    said: list[Mapping[str, Any]] = []

    with throttle(said.append, every=1000) as say:
        for row in range(2500):
            say({"row": row})

    assert [update["row"] for update in said] == [0, 1000, 2000, 2499]


@pytest.mark.rows("A30")
def test_nothing_is_delivered_twice_and_the_last_one_survives_a_failure() -> None:
    said: list[Mapping[str, Any]] = []

    def fail_in_between() -> None:
        with throttle(said.append, every=3) as say:
            for row in range(5):
                say({"row": row})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_between()
    exact = throttle(said.append, every=1)
    exact({"row": 9})
    exact.flush()

    assert [update["row"] for update in said] == [0, 3, 4, 9]


@pytest.mark.rows("A30")
def test_one_update_is_delivered_in_each_interval() -> None:
    said: list[Mapping[str, Any]] = []
    clock = Clock()
    say = throttle(said.append, interval=1.0, clock=clock)

    for tenth in range(25):
        clock.now = tenth / 10
        say({"tenth": tenth})
    say.flush()
    say.flush()

    assert [update["tenth"] for update in said] == [0, 10, 20, 24]


@pytest.mark.rows("A30")
def test_a_batch_holds_all_updates_in_order() -> None:
    said: list[Mapping[str, Any]] = []
    clock = Clock()

    with batch(said.append, size=2) as say:
        for row in range(5):
            say({"row": row})
    slow = batch(said.append, interval=1.0, key="rows", clock=clock)
    for second in (0.0, 0.5, 1.5, 1.6):
        clock.now = second
        slow({"at": second})
    slow.flush()
    slow.flush()

    assert said == [
        {"batch": [{"row": 0}, {"row": 1}]},
        {"batch": [{"row": 2}, {"row": 3}]},
        {"batch": [{"row": 4}]},
        {"rows": [{"at": 0.0}, {"at": 0.5}, {"at": 1.5}]},
        {"rows": [{"at": 1.6}]},
    ]


def test_several_threads_may_share_one() -> None:
    said: list[Mapping[str, Any]] = []
    with batch(said.append, size=7) as say:
        threads = [
            threading.Thread(target=lambda: [say({"row": row}) for row in range(100)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sum(len(update["batch"]) for update in said) == 400


@pytest.mark.rows("A19")
def test_without_a_writer_nothing_is_said() -> None:
    with throttle(None, every=2) as say, batch(None, size=2) as gather:
        say({"row": 1})
        gather({"row": 1})


@pytest.mark.parametrize(
    "pace", [{}, {"every": 2, "interval": 1.0}, {"every": 0}, {"interval": 0.0}]
)
def test_a_pace_is_one_number(pace: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="number of updates"):
        throttle(print, **pace)


@pytest.mark.rows("A31")
async def test_progress_is_told_in_words_that_clients_know() -> None:
    async def load(context: NodeContext, view: View) -> dict[str, int]:
        with throttle(context.writer, every=2) as say:
            for part in range(4):
                say(Progress(stage="load", progress=(part + 1) / 4, message="rows").updates())
        return {"rows": 4}

    results = await all_results(Graph(ROWS).node("load", load, END).start("load").build().run())

    assert [result.updates for result in results if result.partial] == [
        {"stage": "load", "progress": 0.25, "message": "rows"},
        {"stage": "load", "progress": 0.75, "message": "rows"},
        {"stage": "load", "progress": 1.0, "message": "rows"},
    ]
    assert Progress(stage="x").updates() == {"stage": "x"}
    with pytest.raises(ValidationError):
        Progress(progress=2)
