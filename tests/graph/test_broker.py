"""The broker: publish from anywhere, never waiting for a subscriber."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from typing import Any

import pytest
from pydantic import ValidationError

from runtime.broker import GAP, Broker, BrokerEvent, Subscription
from tests.support.waiting import proven_blocked

PATIENCE = 30.0


def event(number: int) -> BrokerEvent:
    return BrokerEvent(type="news", data=number)


async def rest(subscription: Subscription) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [event.data async for event in subscription]


@pytest.mark.rows("C25")
async def test_brokers_know_nothing_of_each_other() -> None:
    one, other = Broker(), Broker()
    heard, silent = one.subscribe("client"), other.subscribe("client")
    one.publish(event(1))
    one.close()
    other.close()
    assert await rest(heard) == [1]
    assert await rest(silent) == []


@pytest.mark.rows("C26", "C30")
async def test_each_subscriber_gets_all_that_is_published_after_it_came_in_order() -> None:
    broker = Broker()
    early = broker.subscribe("early")
    broker.publish(event(1))
    late = broker.subscribe("late")
    for number in range(2, 6):
        broker.publish(event(number))
    broker.close()
    assert await rest(early) == [1, 2, 3, 4, 5]
    assert await rest(late) == [2, 3, 4, 5]


@pytest.mark.rows("C26")
async def test_a_subscriber_waits_for_the_next_event() -> None:
    broker = Broker()
    async with broker.subscribe("client") as subscription:
        waiting = asyncio.create_task(subscription.__anext__())
        await proven_blocked(waiting)
        broker.publish(event(1))
        async with asyncio.timeout(PATIENCE):
            assert (await waiting).data == 1


@pytest.mark.rows("C27")
async def test_leaving_the_context_unsubscribes_however_it_is_left() -> None:
    broker = Broker()
    subscription = broker.subscribe("client")
    async with subscription:
        assert broker.subscriber_count == 1
    assert broker.subscriber_count == 0
    assert await rest(subscription) == []

    with pytest.raises(ZeroDivisionError):
        async with broker.subscribe("client"):
            raise ZeroDivisionError
    assert broker.subscriber_count == 0

    async def listen() -> None:
        async with broker.subscribe("client") as events:
            await anext(events)

    listening = asyncio.create_task(listen())
    await proven_blocked(listening)
    assert broker.subscriber_count == 1
    listening.cancel()
    await asyncio.wait([listening])
    assert broker.subscriber_count == 0


@pytest.mark.rows("C27")
async def test_a_loop_that_is_left_by_break_leaves_no_subscription() -> None:
    broker = Broker()
    broker.publish(event(0))
    async for _ in broker.subscribe("client", after=0):
        break
    gc.collect()
    assert broker.subscriber_count == 0


@pytest.mark.rows("C27", "CX11")
async def test_unsubscribing_ends_the_iteration_and_may_be_done_twice_or_in_vain() -> None:
    broker = Broker()
    subscription = broker.subscribe("client")
    broker.publish(event(1))
    reading = asyncio.create_task(rest(subscription))
    await proven_blocked(reading)
    other = broker.subscribe("other")
    broker.unsubscribe("client")
    broker.unsubscribe("client")
    broker.unsubscribe("nobody")
    assert await reading == [1]
    broker.publish(event(2))
    assert broker.subscriber_count == 1
    broker.close()
    assert await rest(other) == [2]
    assert broker.subscriber_count == 0


@pytest.mark.rows("W-C2", "CX11")
async def test_two_subscriptions_of_one_client_both_live_and_leave_alone() -> None:
    broker = Broker()
    older, newer = broker.subscribe("dashboard"), broker.subscribe("dashboard")
    broker.publish(event(1))
    async with older:
        pass
    broker.publish(event(2))
    assert broker.subscriber_count == 1
    again = broker.subscribe("dashboard")
    broker.publish(event(3))
    broker.unsubscribe("dashboard")
    assert await rest(older) == [1]
    assert await rest(newer) == [1, 2, 3]
    assert await rest(again) == [3]


@pytest.mark.rows("C28")
async def test_publishing_to_nobody_and_after_the_end_does_nothing() -> None:
    broker = Broker()
    broker.publish(event(1))
    broker.close()
    broker.publish(event(2))
    subscription = broker.subscribe("late")
    assert broker.subscriber_count == 0
    assert await rest(subscription) == []
    assert broker.closed


@pytest.mark.rows("C28")
async def test_threads_may_publish_and_the_loop_hears_it() -> None:
    broker = Broker()
    async with broker.subscribe("client") as subscription:
        waiting = asyncio.create_task(subscription.__anext__())
        await proven_blocked(waiting)
        await asyncio.to_thread(broker.publish_threadsafe, event(1))
        async with asyncio.timeout(PATIENCE):
            assert (await waiting).data == 1


@pytest.mark.rows("CX11", "C28")
async def test_publishing_and_subscribing_from_many_sides_at_once_loses_nothing() -> None:
    broker = Broker()
    go = threading.Barrier(5)

    def speak(side: int) -> None:
        go.wait()
        for number in range(250):
            broker.publish_threadsafe(BrokerEvent(type="news", data=[side, number]))

    threads = [threading.Thread(target=speak, args=(side,)) for side in range(4)]
    subscription = broker.subscribe("first")
    for thread in threads:
        thread.start()
    await asyncio.to_thread(go.wait)
    others = []
    for _ in range(50):
        others.append(broker.subscribe("more"))
        await asyncio.sleep(0)
    for thread in threads:
        await asyncio.to_thread(thread.join)
    broker.close()
    heard = await rest(subscription)
    assert len(heard) == 1000
    for side in range(4):
        assert [number for who, number in heard if who == side] == list(range(250))
    for other in others:
        after = await rest(other)
        assert after == heard[len(heard) - len(after) :]


@pytest.mark.rows("W-C1", "CX11", "W-A4")
async def test_a_subscriber_ten_thousand_events_behind_misses_none_and_delays_nobody() -> None:
    broker = Broker()
    slow, quick = broker.subscribe("slow"), broker.subscribe("quick")
    for number in range(10_000):
        broker.publish(event(number))  # a plain call: nothing can wait for anybody
        if number % 100 == 0:
            assert (await anext(quick)).data == number // 100
    broker.close()
    assert await rest(slow) == list(range(10_000))


@pytest.mark.rows("W-C1")
async def test_a_subscriber_further_behind_gets_one_gap_with_the_exact_range() -> None:
    broker = Broker(keep=100)
    slow = broker.subscribe("slow")
    for number in range(1, 251):
        broker.publish(event(number))
    gap = await anext(slow)
    assert gap == BrokerEvent(type=GAP, data={"first": 1, "last": 150})
    assert slow.seq == 150
    broker.close()
    assert await rest(slow) == list(range(151, 251))


@pytest.mark.rows("W-C8", "W-A6")
async def test_who_was_away_goes_on_after_the_last_event_that_it_saw() -> None:
    broker = Broker()
    async with broker.subscribe("client") as subscription:
        broker.publish(event(1))
        broker.publish(event(2))
        assert (await anext(subscription)).data == 1
        seen = subscription.seq
    broker.publish(event(3))
    again = broker.subscribe("client", after=seen)
    broker.close()
    assert await rest(again) == [2, 3]


@pytest.mark.rows("C29")
def test_an_event_is_exactly_its_type_and_data() -> None:
    said = BrokerEvent(type="node_end", data={"node": "extract", "status": "done"})
    assert said.model_dump_json() == '{"type":"node_end","data":{"node":"extract","status":"done"}}'
    assert json.loads(BrokerEvent(type="x").model_dump_json()) == {"type": "x", "data": None}
    with pytest.raises(ValidationError):
        said.type = "other"  # type: ignore[misc]  # it is frozen
    with pytest.raises(ValidationError):
        BrokerEvent(type="x", other=1)  # type: ignore[call-arg]  # it takes nothing else


@pytest.mark.rows("C29")
def test_the_data_of_an_event_is_a_copy_as_json() -> None:
    data = {"list": [1]}
    said = BrokerEvent(type="x", data={"data": data, "odd": object(), "bytes": b"\0"})
    data["list"].append(2)
    assert said.data == {"data": {"list": [1]}, "odd": "<object>", "bytes": "AA=="}


@pytest.mark.rows("W-C8", "L17")
@pytest.mark.parametrize("type_", ["a\nb", "a\r", "\0", "data: x\n\n", "x\n"])
def test_a_type_that_could_break_a_line_is_refused(type_: str) -> None:
    with pytest.raises(ValidationError):
        BrokerEvent(type=type_)
    with pytest.raises(ValueError, match="type"):
        Broker().emit(type_)


@pytest.mark.rows("L17")
@pytest.mark.parametrize("type_", ["custom_progress_update", "another-type", "ü.1", "a b"])
def test_any_other_type_is_taken(type_: str) -> None:
    assert BrokerEvent(type=type_).type == type_
