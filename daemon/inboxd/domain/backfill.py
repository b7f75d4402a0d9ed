"""A backfill run: it fetches the missing profiles of an account's conversations, one after the other."""

from enum import StrEnum
from typing import Final

import msgspec

from inboxd.domain.run import RunStatus

MAX_BATCH: Final = 100
DEFAULT_BATCH: Final = 10


class ConversationOutcome(StrEnum):
    """The outcome of one conversation of a run."""

    SUCCESS = "success"
    ERROR = "error"
    SKIPPED = "skipped"
    """Nothing was fetched: the participant must write first, or is known to have no profile."""


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
        """Conversations that have an outcome."""
        return self.success_count + self.error_count + self.skipped_count

    @property
    def left(self) -> int:
        """Conversations still to come."""
        return max(0, self.total - self.processed)

    def duration_ms(self, now: int) -> int:
        """How long (ms) the run took; for a run that is not finished, how long until `now` (ms)."""
        return 0 if self.started_at is None else (self.finished_at or now) - self.started_at
