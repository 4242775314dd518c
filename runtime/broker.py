"""Events for many listeners in one process: whoever has something to say, publishes it.

A broker is a feed with names on its readers. Publishing never waits for a subscriber, and a
subscriber that is too slow is told exactly what it missed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Self
from weakref import WeakSet

from pydantic import BeforeValidator, Field

from runtime.feed import KEEP, Cursor, Feed, Gap
from runtime.messages import Frozen
from runtime.plain import plain

__all__ = ["GAP", "Broker", "BrokerEvent", "Subscription"]

GAP = "stream.gap"
"""The type of the event that says what a subscriber missed; its data has `first` and `last`."""


def _json(data: Any) -> Any:
    return plain(data, "a broker event")


class BrokerEvent(Frozen):
    """Something that happened. As JSON it is exactly `{"type": …, "data": …}`.

    Attributes:
        type: Any text without CR, LF and NUL, so that it can stand in a line of a stream.
        data: Any value that pydantic can write as JSON; it is copied.
    """

    type: Annotated[str, Field(pattern=r"\A[^\r\n\x00]*\z")]
    data: Annotated[Any, BeforeValidator(_json)] = None


class Broker:
    """Hands each published event to all who had subscribed by then, in order.

    It is an `Emitter` too. `publish` and `emit` may be called from any thread, all else from the
    event loop.
    """

    def __init__(self, keep: int = KEEP) -> None:
        """Make a broker without subscribers.

        Args:
            keep: How many events a subscriber may be behind before it misses some.
        """
        self._feed: Feed[BrokerEvent] = Feed(keep)
        # Weak: a subscription is only a place in the feed, and one that is forgotten is over.
        self._subscriptions: WeakSet[Subscription] = WeakSet()

    @property
    def subscriber_count(self) -> int:
        """How many subscriptions have not ended."""
        return len(self._subscriptions)

    @property
    def closed(self) -> bool:
        """Whether nothing is published any more."""
        return self._feed.closed

    def publish(self, event: BrokerEvent) -> None:
        """Hand an event to all subscribers. Never waits and never fails; after `close`, a no-op."""
        self._feed.append(event)

    def publish_threadsafe(self, event: BrokerEvent) -> None:
        """Do the same as `publish`, which other threads may call too."""
        self.publish(event)

    def emit(self, type: str, data: Any = None) -> None:
        """Publish an event of this type with this data.

        Raises:
            ValueError: If the type holds CR, LF or NUL.
        """
        self.publish(BrokerEvent(type=type, data=data))

    def subscribe(self, client_id: str, *, after: int | None = None) -> Subscription:
        """Return what is published from now on; several subscriptions may have one `client_id`.

        Args:
            client_id: By which `unsubscribe` knows it.
            after: Begin after the event of this number instead, if it is still kept.
        """
        cursor = self._feed.follow(self._feed.tail if after is None else after)
        subscription = Subscription(client_id, cursor, self._subscriptions)
        if not self.closed:
            self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, client_id: str) -> None:
        """End all subscriptions of a client, after what was published so far; none is fine."""
        for subscription in list(self._subscriptions):
            if subscription.client_id == client_id:
                subscription.close()

    def close(self) -> None:
        """End all subscriptions, after what was published so far. Safe to call twice."""
        self._feed.close()
        self._subscriptions.clear()


class Subscription(AsyncIterator[BrokerEvent]):
    """A client's events, for `async for` and `anext`; leaving it as `async with` ends it.

    Attributes:
        client_id: Whose it is.
    """

    def __init__(
        self, client_id: str, cursor: Cursor[BrokerEvent], others: WeakSet[Subscription]
    ) -> None:
        self.client_id = client_id
        self._cursor = cursor
        self._others = others

    @property
    def seq(self) -> int:
        """The number of the last event that was given; one can begin after it again."""
        return self._cursor.after

    async def __anext__(self) -> BrokerEvent:
        """Return the next event; one of type `stream.gap` stands for all that were missed.

        Raises:
            StopAsyncIteration: When the subscription has ended.
        """
        try:
            found = await anext(self._cursor)
        except StopAsyncIteration:
            self._others.discard(self)
            raise
        if isinstance(found, Gap):
            return BrokerEvent(type=GAP, data={"first": found.first, "last": found.last})
        _, event = found
        return event

    def close(self) -> None:
        """End it, after what was published so far. Safe to call twice."""
        self._others.discard(self)
        self._cursor.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
