"""What a worker holds in memory: the items that it has read and not delivered yet, lane by lane. No I/O."""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from inboxd.forwarding.items import Item, ItemPage
from inboxd.forwarding.progress_store import RetryRow, RetryState

MAX_ITEMS: Final = 500
MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass(slots=True, eq=False)
class WindowEntry:
    """An item on its way. Times in ms."""

    item: Item
    lane: str
    attempts: int = 0
    has_row: bool = False
    """Whether it is one of those that are kept for retries."""
    first_failed_at: int | None = None

    @classmethod
    def of_row(cls, item: Item, row: RetryRow) -> "WindowEntry":
        """An item that is tried again."""
        return cls(item, row.lane, row.attempts, has_row=True, first_failed_at=row.first_failed_at)

    def row(self, state: RetryState, next_attempt_at: int = 0, error: str | None = None) -> RetryRow:
        """What is kept of it for a retry."""
        item = self.item
        about = (item.seq, item.id, item.type, self.lane, state, self.attempts, next_attempt_at)
        return RetryRow(*about, item.recorded_at, self.first_failed_at, error)


class PushWindow:
    """The items of one endpoint between its durable cursor and its reading cursor.

    `blocked` are the lanes in which something waits for a retry, with the time of it (ms). `ordered`: a lane waits for
    an item that could not be delivered; otherwise that item gets a lane of its own.
    """

    def __init__(self, cursor: int, blocked: Mapping[str, int], *, ordered: bool) -> None:
        self.read_to = cursor
        self._ordered = ordered
        self._busy: set[str] = set()
        self._bytes = 0
        self._lanes: dict[str, deque[WindowEntry]] = {}
        self._ready: deque[str] = deque()
        self._open: dict[int, WindowEntry] = {}
        """Fresh items that are neither delivered nor kept for a retry, by their sequence numbers, which rise."""
        self._left = 0
        """The highest sequence number of a fresh item that was open and is no more."""
        self._blocked = dict(blocked)
        self._due = [(at, lane) for lane, at in blocked.items()]
        heapq.heapify(self._due)

    @property
    def cursor(self) -> int:
        """Up to here everything is delivered or kept for a retry."""
        return next(iter(self._open)) - 1 if self._open else self.read_to

    @property
    def in_flight(self) -> int:
        """How many items are on their way."""
        return len(self._busy)

    @property
    def is_ready(self) -> bool:
        """Whether there may be something to take."""
        return bool(self._ready)

    @property
    def room(self) -> int:
        """How many more items may be read."""
        return 0 if self._bytes >= MAX_BYTES else max(0, MAX_ITEMS - len(self._open))

    def add(self, page: ItemPage) -> list[RetryRow]:
        """Take items that were read. Returns what must wait behind a retry, to be kept."""
        waiting = []
        for item in page.items:
            entry = WindowEntry(item, item.lane)
            if item.lane in self._blocked:
                waiting.append(entry.row(RetryState.WAITING))
                self._left = max(self._left, item.seq)
            else:
                self._open[item.seq] = entry
                self._append(entry)
        self.read_to = page.next_cursor
        return waiting

    def is_blocked(self, lane: str) -> bool:
        """Whether something of the lane waits for a retry."""
        return lane in self._blocked

    def take(self) -> WindowEntry | None:
        """The next item to push: of a lane in which nothing is on its way."""
        while self._ready:
            lane = self._ready.popleft()
            if lane in self._lanes and lane not in self._busy:
                self._busy.add(lane)
                return self._lanes[lane][0]
        return None

    def delivered(self, entry: WindowEntry) -> None:
        """The item is delivered."""
        self._leave(entry)

    def put_back(self, entry: WindowEntry) -> None:
        """The item could not be delivered, and stays where it is."""
        self._busy.discard(entry.lane)
        self._ready.append(entry.lane)

    def keep(self, entry: WindowEntry, due_at: int) -> list[RetryRow]:
        """The item is kept for a retry at `due_at` (ms). Returns what must wait behind it, to be kept too."""
        self._leave(entry)
        if not self._ordered:
            entry.lane = _own_lane(entry)
            self.block(entry.lane, due_at)
            return []
        behind = self._lanes.pop(entry.lane, deque())
        for one in behind:
            self._forget(one)
        self.block(entry.lane, due_at)
        return [one.row(RetryState.WAITING) for one in behind if not one.has_row]

    def block(self, lane: str, due_at: int) -> None:
        """Something of the lane is tried again at `due_at` (ms)."""
        self._blocked[lane] = due_at
        heapq.heappush(self._due, (due_at, lane))

    def unblock(self, lane: str) -> None:
        """Nothing of the lane waits any more."""
        self._blocked.pop(lane, None)

    def all_due(self, now: int) -> None:
        """Everything is tried again at once: the endpoint works again."""
        self._due = [(now, lane) for lane in self._blocked if lane not in self._lanes]
        heapq.heapify(self._due)
        self._blocked.update({lane: now for _, lane in self._due})

    @property
    def next_due(self) -> int | None:
        """When the next lane is to be tried again (ms)."""
        while self._due and not self._is_current(*self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def due_lane(self, now: int) -> str | None:
        """A lane that is to be tried again at `now` (ms); it is given once."""
        at = self.next_due
        return heapq.heappop(self._due)[1] if at is not None and at <= now else None

    def first_lane(self) -> str | None:
        """The lane that is to be tried again first, whenever that is; it is given once."""
        return heapq.heappop(self._due)[1] if self.next_due is not None else None

    def load(self, entries: Iterable[WindowEntry]) -> None:
        """Take items of a blocked lane that are to be tried again."""
        for entry in entries:
            self._append(entry)

    def stragglers(self) -> Sequence[RetryRow]:
        """What to keep so that the cursor can go on to what is delivered: all open items before the last of those."""
        late = []
        for seq in list(self._open):
            if seq > self._left:
                break
            entry = self._open.pop(seq)
            entry.has_row = True
            state = RetryState.RETRYING if entry.attempts else RetryState.WAITING
            late.append(entry.row(state)._replace(lane=entry.lane if self._ordered else _own_lane(entry)))
        return late

    def _is_current(self, at: int, lane: str) -> bool:
        return self._blocked.get(lane) == at and lane not in self._lanes

    def _append(self, entry: WindowEntry) -> None:
        queue = self._lanes.setdefault(entry.lane, deque())
        queue.append(entry)
        self._bytes += len(entry.item.body)
        if len(queue) == 1:
            self._ready.append(entry.lane)

    def _leave(self, entry: WindowEntry) -> None:
        """The item, which is the first of its lane and was on its way, leaves the window."""
        self._busy.discard(entry.lane)
        queue = self._lanes[entry.lane]
        queue.popleft()
        self._forget(entry)
        if queue:
            self._ready.append(entry.lane)
            return
        del self._lanes[entry.lane]
        if entry.lane in self._blocked:  # perhaps more of it is kept
            self.block(entry.lane, 0)

    def _forget(self, entry: WindowEntry) -> None:
        self._bytes -= len(entry.item.body)
        if self._open.pop(entry.item.seq, None) is not None:
            self._left = max(self._left, entry.item.seq)


def _own_lane(entry: WindowEntry) -> str:
    return f"#{entry.item.seq}"
