"""Backfill runs as JSON of the API."""

from typing import Annotated, Any, Self

from msgspec import Meta

from inboxd.domain.backfill import DEFAULT_BATCH, MAX_BATCH, BackfillRun
from inboxd.domain.run import Estimate
from inboxd.http.resource import EXAMPLE_ACCOUNT, EXAMPLE_PARTICIPANT, Resource, iso
from inboxd.runs.store import Attempt, Batch
from inboxd.runtime.clock import iso_utc


class NewBackfill(Resource, frozen=True, forbid_unknown_fields=True):
    """A backfill to start."""

    account_id: Annotated[str, Meta(min_length=1, max_length=32)]
    batch_size: Annotated[int, Meta(ge=1, le=MAX_BATCH)] = DEFAULT_BATCH
    max_conversations: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    dry_run: bool = False
    force: bool = False
    older_than_seconds: Annotated[int, Meta(ge=0, le=315_360_000)] = 86_400


class BackfillLinks(Resource, frozen=True, rename={"self_": "self"}):
    """Where a run is looked at and steered."""

    self_: str
    events: str
    pause: str
    resume: str
    cancel: str

    @classmethod
    def of(cls, address: str) -> Self:
        """The links of the run at `address`."""
        return cls(
            self_=address,
            events=f"{address}/events",
            pause=f"{address}/pause",
            resume=f"{address}/resume",
            cancel=f"{address}/cancel",
        )


class BackfillProblem(Resource, frozen=True):
    """A conversation of a run that got no profile."""

    conversation_id: str
    participant_platform_id: str
    outcome: str
    code: int | None
    error: str
    attempts: int
    at: str

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """From an attempt that got no profile."""
        return cls(
            conversation_id=str(attempt.item),
            participant_platform_id=attempt.participant_id or "",
            outcome=attempt.outcome.value,
            code=attempt.code,
            error=attempt.reason or "",
            attempts=attempt.attempts,
            at=iso_utc(attempt.at),
        )


class BackfillBatch(Resource, frozen=True):
    """One batch of a run."""

    number: int
    started_at: str
    finished_at: str
    success_count: int
    error_count: int
    skipped_count: int

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """From a stored batch."""
        return cls(
            number=batch.number,
            started_at=iso_utc(batch.started_at),
            finished_at=iso_utc(batch.finished_at),
            success_count=batch.success_count,
            error_count=batch.error_count,
            skipped_count=batch.skipped_count,
        )


class BackfillSummary(Resource, frozen=True):
    """A backfill run, and how it stands now. `duration` is in milliseconds, `ratePerMinute` over all of it."""

    job_id: str
    account_id: str
    status: str
    reason: str | None
    origin: str
    batch_size: int
    dry_run: bool
    success: bool | None
    total: int
    total_processed: int
    success_count: int
    error_count: int
    skipped_count: int
    duration: int
    rate_per_minute: float | None
    estimated_duration_seconds: int | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    links: BackfillLinks

    @classmethod
    def fields_of(cls, run: BackfillRun, estimate: Estimate, now: int, path: str) -> dict[str, Any]:
        """The values of a run at the moment `now` (ms). `path` is where runs are found."""
        duration = run.duration_ms(now)
        return {
            "job_id": run.id,
            "account_id": run.account_id,
            "status": estimate.status.value,
            "reason": estimate.reason,
            "origin": run.origin,
            "batch_size": run.batch_size,
            "dry_run": run.dry_run,
            "success": run.success,
            "total": run.total,
            "total_processed": run.processed,
            "success_count": run.success_count,
            "error_count": run.error_count,
            "skipped_count": run.skipped_count,
            "duration": duration,
            "rate_per_minute": round(run.processed * 60_000 / duration, 1) if duration and run.processed else None,
            "estimated_duration_seconds": None if estimate.eta_s is None else round(estimate.eta_s),
            "created_at": iso_utc(run.created_at),
            "started_at": iso(run.started_at),
            "finished_at": iso(run.finished_at),
            "links": BackfillLinks.of(f"{path}/{run.id}"),
        }

    @classmethod
    def example_fields(cls) -> dict[str, Any]:
        """The values of a run, for the documentation."""
        job_id = "0198c2f4a1b27c3d"
        return {
            "job_id": job_id,
            "account_id": EXAMPLE_ACCOUNT,
            "status": "completed",
            "reason": None,
            "origin": "api",
            "batch_size": 10,
            "dry_run": False,
            "success": False,
            "total": 25,
            "total_processed": 25,
            "success_count": 24,
            "error_count": 1,
            "skipped_count": 0,
            "duration": 31_250,
            "rate_per_minute": 48.0,
            "estimated_duration_seconds": None,
            "created_at": "2026-09-21T02:00:00.000Z",
            "started_at": "2026-09-21T02:00:00.020Z",
            "finished_at": "2026-09-21T02:00:31.270Z",
            "links": BackfillLinks.of(f"/api/workers/backfill-profiles/{job_id}"),
        }

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(**cls.example_fields())


class BackfillResource(BackfillSummary, frozen=True):
    """A run with a page of its errors and the latest of its batches."""

    errors: list[BackfillProblem]
    limit: int
    offset: int
    batches: list[BackfillBatch]

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        problem = BackfillProblem(
            conversation_id="1",
            participant_platform_id=EXAMPLE_PARTICIPANT,
            outcome="error",
            code=2,
            error="Graph error 2: an unexpected error has occurred",
            attempts=3,
            at="2026-09-21T02:00:29.110Z",
        )
        batch = BackfillBatch(
            number=3,
            started_at="2026-09-21T02:00:25.000Z",
            finished_at="2026-09-21T02:00:31.270Z",
            success_count=4,
            error_count=1,
            skipped_count=0,
        )
        return cls(**cls.example_fields(), errors=[problem], limit=50, offset=0, batches=[batch])


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
