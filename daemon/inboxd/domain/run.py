"""A run of any kind, which is a durable job over an account's conversations: status, steering, duration."""

import math
from enum import StrEnum
from typing import Final

import msgspec


class RunStatus(StrEnum):
    """The status of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting-for-budget"
    """Running, but its next call must wait. Never stored: shown instead of `running`."""
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}


class Steering(StrEnum):
    """The actions of a person on a run."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


STEERING: Final = {
    Steering.PAUSE: (RunStatus.PAUSED, frozenset({RunStatus.QUEUED, RunStatus.RUNNING})),
    Steering.RESUME: (RunStatus.RUNNING, frozenset({RunStatus.PAUSED})),
    Steering.CANCEL: (RunStatus.CANCELLED, frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED})),
}
"""The status that each action sets, and the statuses that a run may have before it."""


UNFINISHED: Final = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED)
"""The stored statuses of a run that has not ended."""


class RunKind(StrEnum):
    """What a run does. An account has one run of each kind at a time."""

    BACKFILL = "backfill"
    """Fetches the profiles that conversations lack."""
    HISTORY = "history"
    """Imports the messages from before the account was connected."""


class ConversationOutcome(StrEnum):
    """The outcome of one conversation of a run."""

    SUCCESS = "success"
    ERROR = "error"
    SKIPPED = "skipped"
    """There was nothing to do for it, or nothing that could succeed."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run of any kind; a subclass for each kind adds its options. Times are milliseconds since the epoch, UTC."""

    id: str
    account_id: str
    status: RunStatus
    origin: str
    max_conversations: int | None = None
    dry_run: bool = False
    total: int
    success_count: int = 0
    error_count: int = 0
    skipped_count: int = 0
    added_count: int = 0
    """Messages that were new here. This and the next two are counted by history imports."""
    known_count: int = 0
    """Messages that were here already."""
    unavailable_count: int = 0
    """Messages that were listed without their details."""
    reason: str | None = None
    created_at: int
    started_at: int | None = None
    finished_at: int | None = None

    @property
    def processed(self) -> int:
        """Conversations that have an outcome."""
        return self.success_count + self.error_count + self.skipped_count

    @property
    def left(self) -> int:
        """Conversations still to come."""
        return max(0, self.total - self.processed)

    @property
    def success(self) -> bool | None:
        """Whether it completed without errors. None: it is not finished, or only counted."""
        if self.dry_run or not self.status.finished:
            return None
        return self.status is RunStatus.COMPLETED and self.error_count == 0

    def duration_ms(self, now: int) -> int:
        """How long (ms) the run took; for a run that is not finished, how long until `now` (ms)."""
        return 0 if self.started_at is None else (self.finished_at or now) - self.started_at


class Estimate(msgspec.Struct, frozen=True):
    """The status of a run at this moment, and how long the run will still take."""

    status: RunStatus
    reason: str | None
    eta_s: float | None


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

    No call may be made for `wait_s`. Then, for `slow_s`, calls are `slowness` times slower than `per_second`.
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
