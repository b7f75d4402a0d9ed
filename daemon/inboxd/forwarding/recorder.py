"""What a worker has done since it last saved, and when and how that is saved."""

from collections.abc import Iterable
from typing import Final

from inboxd.forwarding.endpoint import Endpoint
from inboxd.forwarding.progress_store import Health, Progress, ProgressStore, PushAttempt, RetryRow
from inboxd.forwarding.window import PushWindow
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageError

SAVE_S: Final = 1.0
"""How long what was done may stay unsaved: after a kill it is done again."""
SKIPPED_SAVE_S: Final = 30.0
"""The same for a cursor that only passed over what is not wanted."""
REFUSED_S: Final = 5.0
"""How long nothing is saved after storage refused. One lane tries then, and tells it; the others go on with pushing."""
SAVE_RESULTS: Final = 200
MAX_RESULTS: Final = 2000
"""Results that may wait while storage refuses. Then nothing is pushed."""
MAX_ROWS: Final = 10_000
"""Items of an endpoint that may wait for retries. Then its cursor stands still until some are delivered."""
MAX_SUCCESSES: Final = 100
"""Successful attempts that one save keeps. Failures are kept up to MAX_FAILURES."""
MAX_FAILURES: Final = 1000


class _Unsaved:
    """Rows and attempts that are to be saved."""

    def __init__(self) -> None:
        self.rows: dict[int, RetryRow] = {}
        self.done: set[int] = set()
        self.successes: list[PushAttempt] = []
        self.failures: list[PushAttempt] = []
        self.results = 0
        self.lost = 0
        self.told = 0

    def __bool__(self) -> bool:
        return bool(self.results or self.rows or self.done or self.lost)

    def progress(self, cursor: int, health: Health) -> Progress:
        attempts = sorted([*self.successes, *self.failures], key=lambda one: one.at)
        return Progress(cursor, health, list(self.rows.values()), sorted(self.done), attempts, self.lost, self.told)

    def before(self, newer: "_Unsaved") -> "_Unsaved":
        """This, which could not be saved, and `newer` together."""
        both = _Unsaved()
        both.rows = {**{seq: row for seq, row in self.rows.items() if seq not in newer.done}, **newer.rows}
        both.done = newer.done | (self.done - newer.rows.keys())
        both.successes = [*self.successes, *newer.successes][-MAX_SUCCESSES:]
        both.failures = [*self.failures, *newer.failures][-MAX_FAILURES:]
        both.results = self.results + newer.results
        both.lost = self.lost + newer.lost
        both.told = self.told + newer.told
        return both


class Recorder:
    """Collects what is done for one endpoint, from one reading of it to the next."""

    def __init__(self, store: ProgressStore, clock: Clock, endpoint: Endpoint, rows: int) -> None:
        self._store = store
        self._clock = clock
        self._endpoint_id = endpoint.id
        self._generation = endpoint.generation
        self._saved_cursor = endpoint.cursor
        self._unsaved = _Unsaved()
        self._being_saved = 0
        """How many results are being saved: they count until storage has them."""
        self._refused_until = 0.0
        """Until when nothing is saved (s, monotonic)."""
        self.health = Health(
            endpoint.failing_since, endpoint.last_success_at, endpoint.last_attempt_at, endpoint.last_error
        )
        self.rows = rows
        """How many items wait for retries."""
        self.save_at: float | None = None
        """When to save (s, monotonic). None: there is nothing to save."""
        self.is_stale = False
        """Whether somebody else moved the cursor, or the endpoint is gone: what is in memory is of no use."""

    @property
    def is_due(self) -> bool:
        """Whether it is time to save."""
        if self.refused_s > 0:
            return False
        if self._unsaved.results >= SAVE_RESULTS:
            return True
        return self.save_at is not None and self._clock.monotonic() >= self.save_at

    @property
    def refused_s(self) -> float:
        """Seconds until storage that refused is tried again; not positive when it did not refuse just now."""
        return self._refused_until - self._clock.monotonic()

    @property
    def overflows(self) -> bool:
        """Whether nothing more may be pushed before something is saved."""
        return self._unsaved.results + self._being_saved >= MAX_RESULTS

    def moved(self) -> None:
        """The cursor passed over something."""
        self._save_within(SKIPPED_SAVE_S)

    def keep(self, rows: Iterable[RetryRow]) -> None:
        """Something is kept for a retry, or differently from before."""
        for row in rows:
            self._unsaved.rows[row.seq] = row
            self._unsaved.done.discard(row.seq)
            self._save_within(SAVE_S)

    def drop(self, seq: int) -> None:
        """Something is no longer kept for a retry."""
        self._unsaved.rows.pop(seq, None)
        self._unsaved.done.add(seq)
        self.rows = max(0, self.rows - 1)
        self._save_within(SAVE_S)

    def lost(self, count: int, *, told: int = 0) -> None:
        """Something is no longer kept. `told`: how much of it is counted already."""
        self._unsaved.lost += count
        self._unsaved.told += told
        self._save_within(SAVE_S)

    def attempted(self, attempt: PushAttempt) -> None:
        """Something was tried."""
        delivered = attempt.error is None
        unsaved, most = self._unsaved, MAX_SUCCESSES if delivered else MAX_FAILURES
        unsaved.results += 1
        kept = unsaved.successes if delivered else unsaved.failures
        kept.append(attempt)
        if len(kept) > most:
            del kept[0]
        error = self.health.last_error if delivered else attempt.error
        self.health = self.health._replace(last_attempt_at=attempt.at, last_error=error)
        self._save_within(SAVE_S)

    async def save(self, window: PushWindow, *, stragglers: bool = False) -> None:
        """Save what was done. Raises StorageError; then it is saved later.

        `stragglers`: let the cursor go on to the last item that is delivered, and keep those before it for a retry.
        """
        if stragglers or window.read_to - window.cursor > SAVE_RESULTS:
            late = window.stragglers()
            self.rows += len(late)
            self.keep(late)
        cursor, taken = window.cursor, self._unsaved
        self.save_at = None
        if not taken and cursor == self._saved_cursor:
            return
        self._unsaved, self._being_saved = _Unsaved(), taken.results
        try:
            saved = await self._store.save(self._endpoint_id, self._generation, taken.progress(cursor, self.health))
        except BaseException as error:
            if isinstance(error, StorageError):
                self._refused_until = self._clock.monotonic() + REFUSED_S
                self.save_at = None  # what was done meanwhile set it: it is not due before that either
            self._unsaved = taken.before(self._unsaved)
            self._save_within(SAVE_S)
            raise
        finally:
            self._being_saved = 0
        self._saved_cursor = cursor
        self.is_stale = not saved

    def _save_within(self, seconds: float) -> None:
        at = max(self._clock.monotonic() + seconds, self._refused_until)
        self.save_at = at if self.save_at is None else min(self.save_at, at)
