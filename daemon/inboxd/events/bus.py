"""What happens, as it happens, for whoever listens: bounded in memory, and never waited for."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from inboxd.runtime.clock import Clock

HISTORY: Final = 1000
"""Happenings that a listener who comes back can still be told."""
HOLD_S: Final = 600.0
"""How long what happens is remembered for a listener who has gone away."""
MAX_BEHIND: Final = 256
"""Happenings that may wait for one listener; whoever is slower is dropped."""


class Event(NamedTuple):
    """Something that happened. Ids grow, also over a restart."""

    id: int
    kind: str
    data: dict[str, object]


class Subscriber:
    """One who listens. `overrun` turns true when they were too slow and are told no more."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(MAX_BEHIND + 1)
        self.overrun = False

    def offer(self, happening: Event) -> None:
        """Tell them, if they keep up."""
        if self.overrun:
            return
        if self._queue.qsize() >= MAX_BEHIND:
            self.overrun = True
            self._queue.put_nowait(None)
        else:
            self._queue.put_nowait(happening)

    def end(self) -> None:
        """Nothing more comes."""
        if not self._queue.full():
            self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (happening := await self._queue.get()) is not None:
            yield happening


class EventBus:
    """Tells everybody who listens what happened."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_id = self._forgotten_id = clock.now_ms() * 1000
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._listeners: set[Subscriber] = set()
        self._left_at = -math.inf

    @property
    def wanted(self) -> bool:
        """Whether anybody listens, or has until lately: otherwise nothing need be published."""
        return bool(self._listeners) or self._clock.monotonic() - self._left_at < HOLD_S

    def publish(self, kind: str, data: dict[str, object]) -> None:
        """Something happened. It is not remembered when nobody wants it."""
        if not self.wanted:
            return
        self._last_id = max(self._last_id + 1, self._clock.now_ms() * 1000)
        happening = Event(self._last_id, kind, data)
        if len(self._history) == HISTORY:
            self._forgotten_id = self._history[0].id
        self._history.append(happening)
        for listener in self._listeners:
            listener.offer(happening)

    def since(self, last_id: int) -> list[Event] | None:
        """What happened after `last_id`, or None when that is no longer known."""
        if last_id < self._forgotten_id:
            return None
        return [one for one in self._history if one.id > last_id]

    @contextmanager
    def listening(self) -> Iterator[Subscriber]:
        """Somebody who is told everything from now on."""
        listener = Subscriber()
        if not self.wanted:  # what happened while nobody was here is not known
            self._history.clear()
            self._forgotten_id = self._last_id = max(self._last_id, self._clock.now_ms() * 1000)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self._left_at = self._clock.monotonic()

    def close(self) -> None:
        """End every listener: the daemon stops."""
        for listener in self._listeners:
            listener.end()
