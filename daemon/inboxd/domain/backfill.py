"""A backfill run: it fetches the missing profiles of an account's conversations, one after the other."""

from typing import Final

from inboxd.domain.run import Run

MAX_BATCH: Final = 100
DEFAULT_BATCH: Final = 10


class BackfillRun(Run, frozen=True, kw_only=True):
    """A run. Times are milliseconds since the epoch, UTC."""

    batch_size: int
    refresh_before: int = 0
    """Profiles that were fetched before this (ms) are fetched again."""
