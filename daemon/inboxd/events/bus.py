"""The event bus: publishes events to subscribers within the process. Bounded in memory; publishing never waits."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from inboxd.runtime.clock import Clock

HISTORY: Final = 1000
"""Events that are kept for subscribers who come back."""
HOLD_S: Final = 600.0
"""How long events are kept after the last subscriber has left."""
MAX_BEHIND: Final = 256
"""Events that may wait for one subscriber. A slower one is dropped."""


class Event(NamedTuple):
    """One event. Ids grow, also over a restart."""

    id: int
    kind: str
    data: dict[str, object]


class Subscriber:
    """Iterates over the events published since it subscribed. `overrun` is set when it was too slow: then it ends."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(MAX_BEHIND + 1)
        self.overrun = False

    def offer(self, event: Event) -> None:
        """Queue an event. A subscriber with MAX_BEHIND events in its queue is overrun."""
        if self.overrun:
            return
        if self._queue.qsize() >= MAX_BEHIND:
            self.overrun = True
            self._queue.put_nowait(None)
        else:
            self._queue.put_nowait(event)

    def end(self) -> None:
        """End the iteration, after the events in the queue."""
        if not self._queue.full():
            self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._queue.get()) is not None:
            yield event


class EventBus:
    """Publishes events to all subscribers, and keeps the latest for those who come back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_id = self._forgotten_id = clock.now_ms() * 1000
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._subscribers: set[Subscriber] = set()
        self._left_at = -math.inf

    @property
    def wanted(self) -> bool:
        """Whether there is a subscriber, or was one in the last HOLD_S. Otherwise nothing needs to be published."""
        return bool(self._subscribers) or self._clock.monotonic() - self._left_at < HOLD_S

    def publish(self, kind: str, data: dict[str, object]) -> None:
        """Publish an event. It is dropped while `wanted` is false."""
        if not self.wanted:
            return
        self._last_id = max(self._last_id + 1, self._clock.now_ms() * 1000)
        event = Event(self._last_id, kind, data)
        if len(self._history) == HISTORY:
            self._forgotten_id = self._history[0].id
        self._history.append(event)
        for subscriber in self._subscribers:
            subscriber.offer(event)

    def since(self, last_id: int) -> list[Event] | None:
        """The events after `last_id`, or None when some of them are no longer kept."""
        if last_id < self._forgotten_id:
            return None
        return [one for one in self._history if one.id > last_id]

    @contextmanager
    def subscribe(self) -> Iterator[Subscriber]:
        """A subscriber to everything that is published from now on. A context manager."""
        subscriber = Subscriber()
        if not self.wanted:  # nothing was published meanwhile, so the history has a gap
            self._history.clear()
            self._forgotten_id = self._last_id = max(self._last_id, self._clock.now_ms() * 1000)
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
            self._left_at = self._clock.monotonic()

    def close(self) -> None:
        """End all subscribers: the daemon stops."""
        for subscriber in self._subscribers:
            subscriber.end()
