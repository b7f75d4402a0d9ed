"""Reads what is to be pushed to one endpoint next into its window: fresh items, and those that are tried again."""

from collections.abc import Callable
from typing import Final

from inboxd.forwarding.items import PAGE, ItemPage, ItemSource, Missing
from inboxd.forwarding.progress_store import ProgressStore
from inboxd.forwarding.recorder import MAX_ROWS, Recorder
from inboxd.forwarding.window import PushWindow, WindowEntry
from inboxd.runtime.clock import Clock

LANE_ROWS: Final = 50
"""Rows of a lane that are read at once."""
LANES_AT_ONCE: Final = 8
PROBE_PAGE: Final = 50
"""Fresh items among which one is looked for to try an endpoint with that fails."""


class Feeder:
    """Fills a window. `on_lost` is told how many items are no longer kept that were not delivered."""

    def __init__(
        self,
        endpoint_id: str,
        source: ItemSource,
        store: ProgressStore,
        recorder: Recorder,
        clock: Clock,
        *,
        on_lost: Callable[[int], None],
    ) -> None:
        self._endpoint_id = endpoint_id
        self._source = source
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._on_lost = on_lost
        self.look = True
        """Whether there may be something to read."""

    @property
    def is_full(self) -> bool:
        """Whether so much waits for retries that nothing fresh is read."""
        return self._recorder.rows >= MAX_ROWS

    def wants(self, window: PushWindow) -> bool:
        """Whether something fresh can be read."""
        return self.look and window.room > 0 and not self.is_full

    async def fill(self, window: PushWindow) -> None:
        """Read what can be pushed next. Raises StorageError."""
        for _ in range(LANES_AT_ONCE if self._recorder.refused_s <= 0 else 0):  # what is read must be saved before
            lane = window.due_lane(self._clock.now_ms())
            if lane is None:
                break
            await self._load(window, lane, LANE_ROWS)
        if self.wants(window):
            self._add(window, await self._read(window, min(PAGE, window.room)))

    async def fill_for_probe(self, window: PushWindow) -> None:
        """Read one item to try an endpoint with that fails: a fresh one if there is any, since that may be sound."""
        if self.look and not self.is_full:
            page = await self._read(window, PROBE_PAGE)
            for number, item in enumerate(page.items, 1):
                if not window.is_blocked(item.lane):
                    self._add(window, ItemPage(page.items[:number], item.seq, more=True))
                    self.look = True
                    return
            self._add(window, page)
        lane = window.first_lane()
        if lane is not None:
            await self._load(window, lane, 1)

    async def _read(self, window: PushWindow, limit: int) -> ItemPage:
        self.look = False  # before reading: what is appended meanwhile is looked for again
        try:
            page = await self._source.page(window.read_to, limit)
        except BaseException:
            self.look = True
            raise
        self.look |= page.more
        self._recorder.is_stale |= page.is_stale
        self._tell_lost(page.lost)
        return page

    def _tell_lost(self, count: int) -> None:
        if count:
            self._recorder.lost(count)
            self._on_lost(count)

    def _add(self, window: PushWindow, page: ItemPage) -> None:
        if page.next_cursor != window.read_to:
            self._recorder.moved()
        waiting = window.add(page)
        self._recorder.rows += len(waiting)
        self._recorder.keep(waiting)

    async def _load(self, window: PushWindow, lane: str, limit: int) -> None:
        """Read what of a lane is to be tried again."""
        entries, expired = [], 0
        try:
            await self._recorder.save(window)  # what is read must be what is known
            rows = await self._store.lane(self._endpoint_id, lane, limit)
            for row in rows:
                item = await self._source.one(row.seq)
                if isinstance(item, Missing):
                    expired += item is Missing.EXPIRED
                    self._recorder.drop(row.seq)
                else:
                    entries.append(WindowEntry.of_row(item, row))
        except BaseException:
            window.block(lane, self._clock.now_ms())
            raise
        self._tell_lost(expired)
        if entries:
            window.load(entries)
        elif rows:
            window.block(lane, self._clock.now_ms())
        else:
            window.unblock(lane)
