"""Backfill runs as JSON of the API."""

from typing import Annotated, Any, Final, Self

from msgspec import Meta

from inboxd.domain.backfill import DEFAULT_BATCH, MAX_BATCH, BackfillRun
from inboxd.domain.run import Estimate
from inboxd.http.resource import Resource
from inboxd.runs.resources import RunBatch, RunProblem, RunSummary
from inboxd.runs.store import Attempt

PATH: Final = "/api/workers/backfill-profiles"


class NewBackfill(Resource, frozen=True, forbid_unknown_fields=True):
    """A backfill to start."""

    account_id: Annotated[str, Meta(min_length=1, max_length=32)]
    batch_size: Annotated[int, Meta(ge=1, le=MAX_BATCH)] = DEFAULT_BATCH
    max_conversations: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    dry_run: bool = False
    force: bool = False
    older_than_seconds: Annotated[int, Meta(ge=0, le=315_360_000)] = 86_400


class BackfillProblem(RunProblem, frozen=True):
    """A conversation of a run that got no profile."""

    conversation_id: str

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """From an attempt that got no profile."""
        return cls(**cls.fields_of(attempt), conversation_id=str(attempt.item))


class BackfillSummary(RunSummary, frozen=True):
    """A backfill run, and how it stands now. `duration` is in milliseconds, `ratePerMinute` over all of it."""

    batch_size: int

    @classmethod
    def fields_of(cls, run: BackfillRun, estimate: Estimate, now: int) -> dict[str, Any]:
        """The values of a run at the moment `now` (ms)."""
        return {**cls.base_of(run, estimate, now, PATH), "batch_size": run.batch_size}

    @classmethod
    def example_fields(cls) -> dict[str, Any]:
        """The values of a run, for the documentation."""
        return {**cls.base_example(PATH), "batch_size": 10}

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(**cls.example_fields())


class BackfillResource(BackfillSummary, frozen=True):
    """A run with a page of its errors and the latest of its batches."""

    errors: list[BackfillProblem]
    limit: int
    offset: int
    batches: list[RunBatch]

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        problem = BackfillProblem(**BackfillProblem.example_fields(), conversation_id="1")
        return cls(**cls.example_fields(), errors=[problem], limit=50, offset=0, batches=[RunBatch.example()])


class BackfillList(Resource, frozen=True):
    """Runs, the latest first."""

    backfills: list[BackfillSummary]
    total: int
    limit: int
    offset: int

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(backfills=[BackfillSummary.example()], total=1, limit=50, offset=0)
