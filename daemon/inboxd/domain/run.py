"""A run of any kind, which is a durable job over an account's conversations: status, steering, duration."""

import math
from enum import StrEnum
from typing import Final


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
