"""Events for many listeners in one process: whoever has something to say, publishes it.

A broker is a feed with names on its readers. Publishing never waits for a subscriber, and a
subscriber that is too slow is told exactly what it missed.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Self
from weakref import WeakSet

from pydantic import BeforeValidator, Field

from runtime.feed import KEEP, Cursor, Feed, Gap
from runtime.messages import Frozen
from runtime.plain import plain

if TYPE_CHECKING:
    from runtime.event_source import Handler

__all__ = ["GAP", "Broker", "BrokerEvent", "Subscription"]

GAP = "stream.gap"
"""The type of the event that says what a subscriber missed; its data has `first` and `last`."""

KEEPALIVE_SECONDS = 15.0
"""A silent stream gets a comment this often; common proxies cut after 60 s of silence."""

SEND_SECONDS = 10.0
"""A client that takes nothing for this long is cut off."""


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

    @cached_property
    def text(self) -> str:
        """Its JSON in one line, made once for all who are sent it."""
        return self.model_dump_json()


class Broker:
    """Hands each published event to all who had subscribed by then, in order.

    It is an `Emitter` too. `publish` and `emit` may be called from any thread, all else from the
    event loop.

    Attributes:
        epoch: Another one for each broker: the numbers of its events mean nothing to others.
    """

    def __init__(self, keep: int = KEEP) -> None:
        """Make a broker without subscribers.

        Args:
            keep: How many events a subscriber may be behind before it misses some.
        """
        self.epoch = secrets.token_hex(4)
        self._feed: Feed[BrokerEvent] = Feed(keep)
        # Weak: a subscription is only a place in the feed, and one that is forgotten is over.
        self._subscriptions: WeakSet[Subscription] = WeakSet()

    @property
    def subscriber_count(self) -> int:
        """How many subscriptions have not ended."""
        return len(self._subscriptions)

    @property
    def tail(self) -> int:
        """The number of the last event that was published, counted from 1."""
        return self._feed.tail

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

    def sse_handler(
        self,
        client_id: str | None = None,
        *,
        keepalive: float = KEEPALIVE_SECONDS,
        send_timeout: float = SEND_SECONDS,
    ) -> Handler:
        """Return a handler of aiohttp that streams what is published to an `EventSource`.

            app.router.add_get("/events", broker.sse_handler("client-123"))

            async def stop(app):  # else the server waits for its streams before it stops
                broker.close()

            app.on_shutdown.append(stop)

        A frame is `id: epoch.seq` and `data: {"type":…,"data":…}`; `?named=1` adds `event: <type>`.
        A client that comes back with its `Last-Event-ID`, or `?last_event_id=`, gets what it missed,
        as far as it is kept; a `stream.gap` says what is not, and has neither `first` nor `last`
        where the client had listened to a broker that is no more.

        Args:
            client_id: By which `unsubscribe` knows all who ask; without it, each names itself in the
                path, as `{client_id}`, or as `?client_id=`, and gets 400 if it does not.
            keepalive: Seconds between comments.
            send_timeout: Seconds after which a client that takes nothing is cut off. It may come
                back.
        """
        from runtime.event_source import handler  # noqa: PLC0415 - most brokers serve no HTTP

        return handler(self, client_id, keepalive=keepalive, send_timeout=send_timeout)

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
