"""The worker that publishes the event log to NATS JetStream: in order, each event at least once.

The cursor moves when JetStream has acknowledged. It is stored about once a second, so after a crash the latest events
are published again, with the same ids: JetStream drops those that it has.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from inboxd.events.envelope import RenderedEvent
from inboxd.events.log import CursorGoneError, EventReader
from inboxd.forwarding.nats.connection import (
    JetStream,
    NatsUnavailableError,
    OutgoingMessage,
    PublishOutcome,
    PublishResult,
)
from inboxd.forwarding.nats.metrics import NatsMetrics
from inboxd.forwarding.nats.state import NAME, PublisherState
from inboxd.forwarding.nats.store import ConsumerStore, Position
from inboxd.forwarding.nats.subject import SubjectTemplate
from inboxd.runtime import logs
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageError
from inboxd.runtime.worker import Schedule, Wakeup

PAGE: Final = 500
MAX_IN_FLIGHT: Final = 256
MAX_BYTES_IN_FLIGHT: Final = 1024 * 1024
SAVE_S: Final = 1.0
"""How often the cursor is stored."""
LOOK_S: Final = 60.0
"""How often a stream is looked at again that is not as it must be."""
SCHEDULE: Final = Schedule(storage_event="nats_waits_for_storage", storage_rest_s=5)
_AGAIN: Final = Backoff(base_s=0.5, cap_s=30)
_EVENT_ID: Final = re.compile(r"evt_[0-9a-f]{12}([0-9a-f]{14})")
_PASSED_ON: Final = {PublishOutcome.STORED: "published", PublishOutcome.DUPLICATE: "duplicate"}

Connect = Callable[[Callable[[], None]], Awaitable[JetStream]]
"""Opens a connection. It calls the given function when it is lost."""


class NatsPublisher:
    """Publishes every event of the log, from the oldest that is kept, or from where it was."""

    name = NAME

    def __init__(
        self,
        reader: EventReader,
        store: ConsumerStore,
        connect: Connect,
        subjects: SubjectTemplate,
        clock: Clock,
        random: Callable[[], float],
        metrics: NatsMetrics,
    ) -> None:
        self.wakeup = Wakeup()
        self._reader = reader
        self._store = store
        self._connect = connect
        self._subjects = subjects
        self._clock = clock
        self._random = random
        self._metrics = metrics
        self._log = logs.get("nats")
        self._connection: JetStream | None = None
        self._position: Position | None = None
        self._saved: Position | None = None
        self._saved_at = 0.0
        self._tries = 0
        """How often in a row nothing could be published."""
        self._next_try_at = 0.0
        self._waits_for: str | None = None
        self._waits_since: int | None = None
        self._stream_problem: str | None = None
        self._look_at = 0.0
        metrics.connected.set_function(lambda: self._connection is not None and self._connection.lost is None)

    @property
    def state(self) -> PublisherState:
        """How it is doing now."""
        connection = self._connection
        server = connection.address if connection is not None and connection.lost is None else None
        position = self._position or Position(0)
        return PublisherState(position, server, self._waits_for, self._waits_since, self._stream_problem)

    async def poll(self) -> float | None:
        """Publish a page of events. Raises StorageError."""
        rest_s = self._next_try_at - self._clock.monotonic()
        if rest_s > 0:  # woken by new events; they do not bring the server back
            return rest_s
        if self._position is None:
            await self._load()
        try:
            connection = await self._connected()
            await self._look_at_stream(connection)
            more = await self._publish_page(connection)
        except NatsUnavailableError as error:
            rest_s = self._put_off(str(error))
            await self._save()
            return rest_s
        self._go_on()
        if more:
            return 0
        due_s = await self._save_when_due()
        return due_s if self._stream_problem is None else min(due_s or LOOK_S, LOOK_S)

    async def close(self) -> None:
        """Store the cursor and end the connection, after the worker has ended."""
        with suppress(StorageError):  # what is not stored is published again
            if self._position is not None:
                await self._save()
        await self._disconnect()

    async def _load(self) -> None:
        """Go on where it was. A new consumer begins with the oldest event that is kept. Raises StorageError."""
        self._saved = await self._store.load()
        self._position = self._saved or Position((await self._reader.ends()).pruned_to)

    # --- the connection -----------------------------------------------------------------------------------------------

    async def _connected(self) -> JetStream:
        """The connection; a new one if there is none. Raises NatsUnavailableError, StorageError."""
        if self._connection is not None:
            lost = self._connection.lost
            if lost is None:
                return self._connection
            self._log.warning("nats_disconnected", error=lost)
            self._note_error(lost)
            await self._disconnect()
        connection = await self._connect(self.wakeup.notify)
        try:
            made, self._stream_problem = await connection.ensure_stream()
            if not made:
                await self._find_place(await connection.last_id())
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        if made:
            self._log.info("nats_stream_made")
        if self._stream_problem is not None:
            self._log.warning("nats_stream_unfit", problem=self._stream_problem)
            self._look_at = self._clock.monotonic() + LOOK_S
        self._log.info("nats_connected", server=connection.address, cursor=self._here.cursor)
        return connection

    async def _look_at_stream(self, connection: JetStream) -> None:
        """Whether a stream that was not as it must be is so by now. Raises NatsUnavailableError."""
        if self._stream_problem is not None and self._clock.monotonic() >= self._look_at:
            self._look_at = self._clock.monotonic() + LOOK_S
            _, self._stream_problem = await connection.ensure_stream()

    async def _find_place(self, last_id: str | None) -> None:
        """Go on after the last event of the stream, if it is of this log and beyond the cursor. Raises StorageError.

        Events reach the stream in order, so everything before it is there too. Without this, what was published just
        before a crash would be published twice if the stream no longer recognizes it.
        """
        seq = _seq_of(last_id)
        if seq is None or seq <= self._here.cursor:
            return
        try:
            page = await self._reader.page(seq - 1, limit=1)
        except CursorGoneError:
            return
        if page.events and page.events[0].id == last_id:
            self._log.info("nats_position_found", event_id=last_id, events=seq - self._here.cursor)
            self._position = self._here._replace(cursor=seq)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # --- publishing ---------------------------------------------------------------------------------------------------

    async def _publish_page(self, connection: JetStream) -> bool:
        """Publish the next events. Whether there are more. Raises NatsUnavailableError, StorageError."""
        try:
            page = await self._reader.page(self._here.cursor, limit=PAGE)
        except CursorGoneError as gone:
            self._skip(gone)
            return True
        for window in _windows(page.events):
            if not await self._publish(connection, window):
                return True
            await self._save_when_due()
            if self.wakeup.stopping:
                return False
        self._position = self._here._replace(cursor=page.next_cursor)
        return page.more

    async def _publish(self, connection: JetStream, events: Sequence[RenderedEvent]) -> bool:
        """Publish `events`, all in flight at a time. Whether all are done; the cursor is moved to the last that is.

        Raises NatsUnavailableError when the first one that is not done has to wait.
        """
        answers = await connection.publish([self._message(event) for event in events])
        for number, (event, answer) in enumerate(zip(events, answers, strict=True)):
            if answer.outcome in _PASSED_ON:
                self._metrics.events.labels(_PASSED_ON[answer.outcome]).inc()
            elif answer.outcome is PublishOutcome.TOO_LARGE:
                self._set_aside(event, answer)
            elif answer.outcome is PublishOutcome.OUT_OF_ORDER and number:
                return False
            else:
                if answer.outcome in {PublishOutcome.LOST, PublishOutcome.NO_STREAM}:
                    await self._disconnect()  # the next connection looks for the stream, and for its place in it
                raise NatsUnavailableError(answer.reason or "the server does not take an event in its order")
            self._position = self._here._replace(cursor=event.seq, last_success_at=self._clock.now_ms())
        return True

    def _message(self, event: RenderedEvent) -> OutgoingMessage:
        return OutgoingMessage(self._subjects.subject(event.type, event.account_id), event.id, event.body)

    def _set_aside(self, event: RenderedEvent, answer: PublishResult) -> None:
        self._metrics.events.labels("too_large").inc()
        self._log.warning("nats_event_set_aside", event_id=event.id, type=event.type, reason=answer.reason)
        self._position = self._here._replace(set_aside=self._here.set_aside + 1)

    def _skip(self, gone: CursorGoneError) -> None:
        """Go on with the oldest event that is kept."""
        skipped, oldest = gone.lost, gone.oldest
        self._metrics.events.labels("skipped").inc(skipped)
        self._log.warning("nats_events_skipped", events=skipped, cursor=oldest)
        self._position = self._here._replace(cursor=oldest, skipped=self._here.skipped + skipped)

    # --- waiting, and what is stored ----------------------------------------------------------------------------------

    @property
    def _here(self) -> Position:
        assert self._position is not None  # noqa: S101 - loaded before anything else
        return self._position

    def _put_off(self, reason: str) -> float:
        """Try again later. Seconds until then."""
        self._tries += 1
        rest_s = _AGAIN.delay_s(self._tries, self._random)
        self._next_try_at = self._clock.monotonic() + rest_s
        if self._waits_since is None:
            self._waits_since = self._clock.now_ms()
        if reason != self._waits_for:
            self._log.warning("nats_waits", reason=reason, retry_in_s=round(rest_s, 1))
        self._waits_for = reason
        self._note_error(reason)
        return rest_s

    def _note_error(self, reason: str) -> None:
        self._position = self._here._replace(last_error=reason, last_error_at=self._clock.now_ms())

    def _go_on(self) -> None:
        if self._waits_since is not None:
            waited_s = (self._clock.now_ms() - self._waits_since) / 1000
            self._log.info("nats_goes_on", waited_s=round(waited_s, 1))
        self._tries = 0
        self._waits_for = self._waits_since = None

    async def _save_when_due(self) -> float | None:
        """Store the cursor, if that was not done just now. Seconds until it is due; None: there is nothing to store."""
        if self._position == self._saved:
            return None
        rest_s = self._saved_at + SAVE_S - self._clock.monotonic()
        if rest_s > 0:
            return rest_s
        await self._save()
        return None

    async def _save(self) -> None:
        """Store the position. Raises StorageError."""
        position = self._here
        if position != self._saved:
            await self._store.save(position)
            self._saved, self._saved_at = position, self._clock.monotonic()


def _seq_of(event_id: str | None) -> int | None:
    """The sequence number in the id of an event. None: it is no id of an event."""
    found = _EVENT_ID.fullmatch(event_id or "")
    return int(found[1], 16) if found else None


def _windows(events: Sequence[RenderedEvent]) -> Iterator[list[RenderedEvent]]:
    """The events in parts that may be in flight at a time, bounded in number and bytes."""
    window: list[RenderedEvent] = []
    size = 0
    for event in events:
        if window and (len(window) == MAX_IN_FLIGHT or size + len(event.body) > MAX_BYTES_IN_FLIGHT):
            yield window
            window, size = [], 0
        window.append(event)
        size += len(event.body)
    if window:
        yield window
