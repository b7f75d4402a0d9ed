"""The event log: features append to it inside their own transactions, and readers follow it."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from inboxd.domain.event import EventType, NewEvent, StoredEvent, matching
from inboxd.events import store
from inboxd.events.envelope import Envelope, RenderedEvent
from inboxd.events.store import Ends, EventFilter
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import InboxdError
from inboxd.runtime.worker import Wakeup
from inboxd.storage.database import Database

LATEST: Final = "latest"
"""The cursor for what comes from now on."""
RENDER_SLICE: Final = 50
"""Events that are rendered before the event loop serves others."""


class CursorGoneError(InboxdError):
    """The log cannot be read from this cursor: what follows it was pruned, or the log ends before it."""

    def __init__(self, message: str, oldest: int, lost: int = 0) -> None:
        super().__init__(message)
        self.lost = lost
        """How many events between the cursor and `oldest` are no longer kept, about."""
        self.oldest = oldest
        """The cursor from which everything that is kept can be read."""


class EventPage(NamedTuple):
    """Some events, in order, and where to go on."""

    events: list[RenderedEvent]
    next_cursor: int
    more: bool
    """Whether there are events after `next_cursor`."""


class EventLog:
    """Appends events. `on_append` are called on the event loop after each commit that appended some; must not raise."""

    def __init__(self, clock: Clock, *, ids_only: Callable[[], bool]) -> None:
        self._clock = clock
        self._ids_only = ids_only
        self._appended = self._told = 0
        """`total_changes` of the writer after the last append, and at the commit of which readers were last told."""
        self._readers: set[Wakeup] = set()
        self.on_append: list[Callable[[], None]] = []

    @property
    def ids_only(self) -> bool:
        """Whether events must be appended without texts and names."""
        return self._ids_only()

    def append(self, connection: sqlite3.Connection, events: Sequence[NewEvent]) -> None:
        """Append `events` in this order, in the caller's transaction."""
        if events:
            store.append(connection, events, self._clock.now_ms())
            self._appended = connection.total_changes

    def committed(self, changes: int) -> None:
        """Called on the event loop after each commit, or an attempt of one.

        `changes` is the `total_changes` of the writer's connection then. The writer may be in the next transaction
        already, and have appended what no reader can see yet. So readers are told until a commit is known that has all
        that was appended: to look once more does no harm.
        """
        if self._appended <= self._told:
            return
        self._told = changes
        for reader in tuple(self._readers):
            reader.notify()
        for tell in self.on_append:
            tell()

    @contextmanager
    def notifying(self, wakeup: Wakeup) -> Iterator[None]:
        """Within this context, `wakeup` is notified of each commit that appended events, and stopped by `close`."""
        self._readers.add(wakeup)
        try:
            yield
        finally:
            self._readers.discard(wakeup)

    def close(self) -> None:
        """End everything that waits for events: the daemon stops."""
        for reader in tuple(self._readers):
            reader.stop()


class EventReader:
    """Reads the log. `types` are the types of all features, which are built later: they are looked at when reading."""

    def __init__(self, database: Database, types: Sequence[EventType]) -> None:
        self._database = database
        self._all_types = types
        self._by_name: dict[str, EventType] = {}
        self._log = logs.get("events")

    @property
    def types(self) -> dict[str, EventType]:
        """All types of events, by name."""
        if len(self._by_name) != len(self._all_types):
            self._by_name = {one.name: one for one in self._all_types}
        return self._by_name

    def names(self, patterns: Sequence[str]) -> list[str]:
        """The names of the types that match `patterns`: a name, `message.*`, or `*`."""
        return matching(patterns, self.types)

    async def cursor(self, text: str | None) -> int | None:
        """Where somebody who asks with this text begins: None is the oldest event. Raises StorageError."""
        if text == LATEST:
            return (await self.ends()).last
        return None if text is None else int(text)

    async def ends(self) -> Ends:
        """Where the log begins and ends. Raises StorageError."""
        return await self._database.reading(store.ends)

    async def behind(self, after: int) -> int:
        """How many events there are after a cursor, about. Raises StorageError."""
        return await self._database.reading(lambda connection: store.count_after(connection, after))

    async def page(self, after: int | None, *, limit: int, only: EventFilter = EventFilter()) -> EventPage:  # noqa: B008 - frozen
        """Up to `limit` events after the cursor `after`. There may be fewer, or none, although `more` is true.

        None: from the oldest that is kept, so never gone. Raises CursorGoneError, and StorageError.
        """
        ends, found = await self._database.reading(lambda connection: store.page(connection, after, limit, only))
        after = ends.pruned_to if after is None else after
        if after < ends.pruned_to:
            msg = f"Events up to {ends.pruned_to} are no longer kept. Read on from there."
            raise CursorGoneError(msg, ends.pruned_to, store.count_between(after, ends.pruned_to))
        if after > ends.last:
            msg = f"The event log ends at {ends.last}: this cursor is from another database. Start again without it."
            raise CursorGoneError(msg, ends.pruned_to)
        rendered: list[RenderedEvent] = []
        for number, event in enumerate(found.events, 1):
            rendered.append(self._rendered(event))
            if number % RENDER_SLICE == 0:
                await asyncio.sleep(0)
        return EventPage(rendered, found.next_cursor, found.more)

    def _rendered(self, event: StoredEvent) -> RenderedEvent:
        kind = self.types.get(event.type)
        try:
            shown = msgspec.Raw(b"{}") if kind is None else kind.render(event)
            data = shown if isinstance(shown, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(shown))
        except Exception:  # noqa: BLE001 - one event that cannot be shown must not stop its readers
            self._log.exception("event_not_rendered", event_id=event.id, type=event.type)
            data = msgspec.Raw(b"{}")
        body = msgspec.json.encode(Envelope.of(event, data))
        about = (event.type, event.account_id, event.conversation_id, event.recorded_at)
        return RenderedEvent(event.seq, event.id, *about, body)
