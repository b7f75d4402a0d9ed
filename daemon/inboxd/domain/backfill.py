"""A backfill run: one walk over an account's conversations that lack a profile, and how long it will take."""

import math
from enum import StrEnum
from typing import Final

import msgspec

MAX_BATCH: Final = 100
DEFAULT_BATCH: Final = 10


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting-for-budget"
    """It is running, and the next call must wait. Never stored: it is how a running one looks."""
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}


class Steering(StrEnum):
    """What may be done with a run."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


STEERING: Final = {
    Steering.PAUSE: (RunStatus.PAUSED, frozenset({RunStatus.QUEUED, RunStatus.RUNNING})),
    Steering.RESUME: (RunStatus.RUNNING, frozenset({RunStatus.PAUSED})),
    Steering.CANCEL: (RunStatus.CANCELLED, frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED})),
}
"""What each sets a run to, and of which runs."""


class ConversationOutcome(StrEnum):
    """What became of one conversation of a run."""

    SUCCESS = "success"
    ERROR = "error"
    SKIPPED = "skipped"
    """It must wait for the person, or is known to have no profile: nothing was asked."""


class BackfillRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run. Times are milliseconds since the epoch, UTC."""

    id: str
    account_id: str
    status: RunStatus
    origin: str
    batch_size: int
    max_conversations: int | None = None
    refresh_before: int = 0
    """Profiles that were fetched before this (ms) are fetched again."""
    dry_run: bool = False
    total: int
    success_count: int = 0
    error_count: int = 0
    skipped_count: int = 0
    reason: str | None = None
    created_at: int
    started_at: int | None = None
    finished_at: int | None = None

    @property
    def processed(self) -> int:
        """Conversations that are done with, one way or another."""
        return self.success_count + self.error_count + self.skipped_count

    @property
    def left(self) -> int:
        """Conversations still to come."""
        return max(0, self.total - self.processed)

    def duration_ms(self, now: int) -> int:
        """How long it has taken so far, or took."""
        return 0 if self.started_at is None else (self.finished_at or now) - self.started_at


def estimated_s(
    calls: int,
    *,
    now_free: int,
    per_hour: int,
    per_second: float,
    wait_s: float,
    slowness: float = 1.0,
    slow_s: float = 0.0,
) -> float:
    """Seconds that `calls` will take: `now_free` of them at once, the others `per_hour`, none faster than `per_second`.

    `wait_s` is how long nothing may be called at all. For `slow_s` calls are `slowness` times slower than that.
    """
    if calls <= 0:
        return 0.0
    slow_calls = min(calls, int(slow_s * per_second / slowness)) if slowness > 1 else 0
    if slow_calls == calls:
        return wait_s + calls * slowness / per_second
    if slow_calls:
        wait_s, calls = wait_s + slow_s, calls - slow_calls
        now_free = max(0, now_free - slow_calls)
    later = max(0, calls - max(0, now_free))
    if later == 0:
        return wait_s + calls / per_second
    full_hours = math.ceil(later / max(1, per_hour))
    last = later - (full_hours - 1) * max(1, per_hour)
    return wait_s + full_hours * 3600.0 + last / per_second
