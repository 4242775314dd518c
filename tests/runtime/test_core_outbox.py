"""What is said through an outbox is reported in order, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

import pytest

from runtime.errors import RunAborted
from runtime.events import Custom, Event, NodeUpdate, ToolProgress
from runtime.outbox import Outbox
from tests.runtime.support import PATIENCE

REPEATS = 200


def custom(payload: object, name: str = "n") -> Custom:
    return Custom(run_id="run_1", path=("g",), name=name, payload=payload)


def update(**updates: object) -> NodeUpdate:
    return NodeUpdate(run_id="run_1", path=("g",), node="n", updates=updates)


class Desk:
    """Takes reports; each waits for the gate."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.taken: list[Event] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.error: BaseException | None = None
        if is_open:
            self.gate.set()

    async def report(self, event: Event) -> None:
        self.begun.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.taken.append(event)

    @property
    def payloads(self) -> list[object]:
        return [event.payload for event in self.taken if isinstance(event, Custom)]


def talk(outbox: Outbox, payloads: Iterable[object]) -> None:
    for payload in payloads:
        outbox.put(custom(payload))


async def until_waiting(outbox: Outbox, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(outbox._threads) < count:  # noqa: ASYNC110 - threads set no events
            await asyncio.sleep(0)


async def joined(*threads: threading.Thread) -> None:
    async with asyncio.timeout(PATIENCE):
        for thread in threads:
            await asyncio.to_thread(thread.join)


async def test_no_task_runs_while_nobody_speaks() -> None:
    before = asyncio.all_tasks()
    desk = Desk()
    outbox = Outbox(desk.report)
    await outbox.send(custom(1))
    assert asyncio.all_tasks() == before
    outbox.put(custom(2))
    await outbox.flush()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert desk.payloads == [1, 2]


async def test_what_is_put_and_what_is_sent_is_reported_in_the_order_in_which_it_was_said() -> None:
    desk = Desk(is_open=False)
    outbox = Outbox(desk.report)
    async with asyncio.TaskGroup() as group:
        outbox.put(custom(0))
        group.create_task(outbox.send(custom(1)))
        await asyncio.sleep(0)
        outbox.put(custom(2))
        group.create_task(outbox.send(custom(3)))
        await asyncio.sleep(0)
        assert desk.taken == []
        desk.gate.set()
    assert desk.payloads == [0, 1, 2, 3]


async def test_a_send_returns_once_its_own_event_is_reported_however_much_follows() -> None:
    desk = Desk(is_open=False)
    outbox = Outbox(desk.report)
    outbox.put(custom("first"))
    sent = asyncio.create_task(outbox.send(custom("mine")))
    await desk.begun.wait()
    talking = True

    async def talk() -> None:
        while talking:
            outbox.put(custom("more"))
            await asyncio.sleep(0)

    talker = asyncio.create_task(talk())
    desk.gate.set()
    async with asyncio.timeout(PATIENCE):
        await sent
        await outbox.flush()
    talking = False
    await talker
    await outbox.flush()
    assert desk.payloads[:2] == ["first", "mine"]


async def test_the_loop_never_waits_and_beyond_the_limit_the_newest_of_a_kind_is_replaced() -> None:
    desk = Desk(is_open=False)
    outbox = Outbox(desk.report, limit=4)
    for i in range(1000):
        outbox.put(update(progress=i, **{f"k{i % 3}": i}))
    outbox.put(custom("a"))
    outbox.put(custom("b"))
    assert outbox.peak <= 5
    desk.gate.set()
    await outbox.flush()
    updates = [event.updates for event in desk.taken if isinstance(event, NodeUpdate)]
    assert [u["progress"] for u in updates[:3]] == [0, 1, 2]
    assert updates[-1] == {"progress": 999, "k0": 999, "k1": 997, "k2": 998}  # nothing is lost
    assert desk.payloads == ["b"]


async def test_only_what_says_the_same_thing_anew_is_merged() -> None:
    desk = Desk(is_open=False)
    outbox = Outbox(desk.report, limit=1)
    said: list[Event] = [
        custom("gate"),
        custom(1),
        custom(1, name="other"),
        custom(2).model_copy(update={"path": ("elsewhere",)}),
        update(a=1),
        update(a=1).model_copy(update={"node": "m"}),
        ToolProgress(run_id="run_1", path=("g",), call_id="c1", data=1),
        ToolProgress(run_id="run_1", path=("g",), call_id="c2", data=1),
    ]
    for event in said:
        outbox.put(event)
    newer = [said[1].model_copy(update={"payload": 9}), said[6].model_copy(update={"data": 9})]
    for event in newer:
        outbox.put(event)
    desk.gate.set()
    await outbox.flush()
    assert desk.taken == [said[0], newer[0], *said[2:6], newer[1], said[7]]


async def test_a_sender_waits_for_room_and_nothing_is_merged_or_lost() -> None:
    desk = Desk(is_open=False)
    outbox = Outbox(desk.report, limit=3)
    outbox.put(custom("first"))
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for i in range(100):
            group.create_task(outbox.send(custom(i)))
        await desk.begun.wait()
        assert len(outbox._waiting) == 3
        desk.gate.set()
    assert outbox.peak == 3
    assert desk.payloads == ["first", *range(100)]


async def test_a_thread_waits_for_room_and_what_it_says_is_not_merged() -> None:
    desk = Desk(is_open=False)
    outbox = Outbox(desk.report, limit=2)
    outbox.put(custom("first"))
    done = threading.Event()

    def talk() -> None:
        for i in range(50):
            outbox.put(custom(i))
        done.set()

    thread = threading.Thread(target=talk)
    thread.start()
    await until_waiting(outbox, 1)
    assert not done.is_set()
    assert outbox.peak == 2
    desk.gate.set()
    await joined(thread)
    await outbox.flush()
    assert desk.payloads == ["first", *range(50)]
    assert outbox.peak == 2


async def test_many_threads_at_once_each_keep_their_own_order() -> None:
    desk = Desk()
    outbox = Outbox(desk.report, limit=5)
    threads = [
        threading.Thread(target=talk, args=(outbox, [f"{n} {i}" for i in range(100)]))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    await joined(*threads)
    await outbox.flush()
    for n in range(4):
        said = [payload for payload in desk.payloads if str(payload).startswith(f"{n} ")]
        assert said == [f"{n} {i}" for i in range(100)]


async def test_a_failing_report_is_told_once_and_raised_to_all_who_wait_or_speak_later() -> None:
    desk = Desk(is_open=False)
    failures: list[BaseException] = []
    outbox = Outbox(desk.report, limit=2, on_failure=failures.append)
    desk.error = OSError("disk full")
    outbox.put(custom(0))
    thread = threading.Thread(target=talk, args=(outbox, range(5)))
    waiting = [asyncio.create_task(outbox.send(custom(i))) for i in range(4)]
    waiting.append(asyncio.create_task(outbox.flush()))
    await desk.begun.wait()
    thread.start()
    await until_waiting(outbox, 1)
    desk.gate.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(waiting)
    assert [task.exception() for task in waiting] == [desk.error] * 5
    await joined(thread)
    outbox.put(custom("late"))
    with pytest.raises(OSError, match="disk full"):
        await outbox.send(custom("late"))
    with pytest.raises(OSError, match="disk full"):
        await outbox.flush()
    assert failures == [desk.error]
    assert desk.taken == []
    await outbox.aclose()


async def test_a_send_that_fails_at_once_is_a_failure_for_all_that_follows_too() -> None:
    desk = Desk()
    desk.error = OSError("disk full")
    failures: list[BaseException] = []
    outbox = Outbox(desk.report, on_failure=failures.append)
    with pytest.raises(OSError, match="disk full"):
        await outbox.send(custom(1))
    desk.error = None
    outbox.put(custom(2))
    with pytest.raises(OSError, match="disk full"):
        await outbox.flush()
    assert desk.taken == []
    assert len(failures) == 1


async def test_closing_drops_what_waits_and_releases_everyone() -> None:
    desk = Desk(is_open=False)
    failures: list[BaseException] = []
    outbox = Outbox(desk.report, limit=2, on_failure=failures.append)
    outbox.put(custom(0))
    waiting = [asyncio.create_task(outbox.send(custom(i))) for i in range(4)]
    await desk.begun.wait()
    thread = threading.Thread(target=lambda: outbox.put(custom("thread")))
    thread.start()
    await until_waiting(outbox, 1)
    async with asyncio.timeout(PATIENCE):
        await outbox.aclose()
        await asyncio.wait(waiting)
    await joined(thread)
    assert all(isinstance(task.exception(), RunAborted) for task in waiting)
    outbox.put(custom("late"))
    with pytest.raises(RunAborted):
        await outbox.send(custom("late"))
    with pytest.raises(RunAborted):
        await outbox.flush()
    desk.gate.set()
    await asyncio.sleep(0)
    assert desk.taken == []
    assert failures == []
    await outbox.aclose()


async def test_closing_before_the_reporter_took_its_first_step_leaves_nobody_waiting() -> None:
    desk = Desk()
    outbox = Outbox(desk.report)
    outbox.put(custom(0))
    flushing = asyncio.create_task(outbox.flush())
    async with asyncio.timeout(PATIENCE):
        await outbox.aclose()
        with pytest.raises(RunAborted):
            await outbox.flush()
        with pytest.raises(RunAborted):
            await flushing
    assert desk.taken == []


async def test_a_reporter_that_is_cancelled_before_its_first_step_is_a_failure_and_no_hang() -> (
    None
):
    failures: list[BaseException] = []
    outbox = Outbox(Desk().report, on_failure=failures.append)
    outbox.put(custom(0))
    assert outbox._reporter is not None
    outbox._reporter.cancel()  # as at the end of the loop
    flushing = asyncio.create_task(outbox.flush())
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait((flushing,))
    assert flushing.cancelled()
    assert [type(failure) for failure in failures] == [asyncio.CancelledError]


async def test_threads_that_wait_are_let_in_one_by_one_as_room_comes() -> None:
    desk = Desk(is_open=False)
    outbox = Outbox(desk.report, limit=2)
    outbox.put(custom("first"))
    threads = [threading.Thread(target=talk, args=(outbox, [i, i])) for i in range(5)]
    for thread in threads:
        thread.start()
    await until_waiting(outbox, 4)
    desk.gate.set()
    await joined(*threads)
    await outbox.flush()
    assert len(desk.payloads) == 11
    assert outbox.peak == 2


async def test_a_sender_that_is_cancelled_while_it_waits_for_room_has_said_nothing() -> None:
    desk = Desk(is_open=False)
    outbox = Outbox(desk.report, limit=1)
    outbox.put(custom(0))
    gone = asyncio.create_task(outbox.send(custom("gone")))
    stays = asyncio.create_task(outbox.send(custom("stays")))
    await desk.begun.wait()
    gone.cancel()
    await asyncio.wait((gone,))
    desk.gate.set()
    async with asyncio.timeout(PATIENCE):
        await stays
    assert desk.payloads == [0, "stays"]


def test_a_thread_that_speaks_while_the_loop_shuts_down_is_released() -> None:
    """The default executor is joined at the end of `asyncio.run`: a thread must not wait for ever."""
    reached = threading.Event()

    async def main() -> None:
        desk = Desk(is_open=False)
        outbox = Outbox(desk.report, limit=1)
        outbox.put(custom(0))

        def talk() -> None:
            reached.set()
            for i in range(3):
                outbox.put(custom(i))

        speaking = asyncio.get_running_loop().run_in_executor(None, talk)
        async with asyncio.timeout(PATIENCE):
            while not (reached.is_set() and outbox._threads):  # noqa: ASYNC110 - a thread's state
                await asyncio.sleep(0)
        assert not speaking.done()

    runner = threading.Thread(target=lambda: asyncio.run(main()))
    runner.start()
    runner.join(PATIENCE)
    assert not runner.is_alive()


def test_a_thread_that_speaks_after_the_loop_is_closed_says_nothing() -> None:
    made: list[Outbox] = []

    async def main() -> None:
        made.append(Outbox(Desk().report))

    asyncio.run(main())
    made[0].put(custom("late"))


def test_a_thread_whose_word_the_loop_never_takes_is_released_when_the_loop_is_closed() -> None:
    loop = asyncio.new_event_loop()

    async def make() -> Outbox:
        return Outbox(Desk().report)

    outbox = loop.run_until_complete(make())
    thread = threading.Thread(target=lambda: outbox.put(custom("never")))
    thread.start()  # the loop does not run: its callback waits in the loop
    while not loop._ready:  # type: ignore[attr-defined]  # the only place that shows it
        pass
    loop.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("closing", [False, True])
async def test_two_hundred_times_nobody_hangs_whatever_comes_first(closing: bool) -> None:
    """Senders, a thread and a failure or a close, at every turn of the loop."""
    for turn in range(REPEATS):
        desk = Desk(is_open=False)
        outbox = Outbox(desk.report, limit=2)
        tasks = [asyncio.create_task(outbox.send(custom(i))) for i in range(3)]
        outbox.put(custom("put"))
        thread = threading.Thread(target=talk, args=(outbox, range(4)))
        thread.start()
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            if closing:
                await outbox.aclose()
                desk.gate.set()
            else:
                desk.error = OSError("full")
                desk.gate.set()
            await asyncio.wait(tasks)
            await joined(thread)
            with pytest.raises((OSError, RunAborted)):
                await outbox.flush()
        for task in tasks:
            task.exception()
        await outbox.aclose()
