"""Runs of every kind as JSON of the API."""

from collections.abc import Sequence
from typing import Any, Self

from inboxd.domain.run import Estimate, Run
from inboxd.http.resource import EXAMPLE_ACCOUNT, EXAMPLE_PARTICIPANT, Resource, iso
from inboxd.runs.store import Attempt, Batch
from inboxd.runtime.clock import iso_utc


class RunLinks(Resource, frozen=True, rename={"self_": "self"}):
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


class RunProblem(Resource, frozen=True):
    """A conversation of a run that did not succeed."""

    participant_platform_id: str
    """Empty when it is not known."""
    outcome: str
    code: int | None
    error: str
    attempts: int
    at: str

    @classmethod
    def fields_of(cls, attempt: Attempt) -> dict[str, Any]:
        """The values of an attempt that did not succeed."""
        return {
            "participant_platform_id": attempt.participant_id or "",
            "outcome": attempt.outcome.value,
            "code": attempt.code,
            "error": attempt.reason or "",
            "attempts": attempt.attempts,
            "at": iso_utc(attempt.at),
        }

    @classmethod
    def example_fields(cls) -> dict[str, Any]:
        """The values of a problem, for the documentation."""
        return {
            "participant_platform_id": EXAMPLE_PARTICIPANT,
            "outcome": "error",
            "code": 2,
            "error": "Graph error 2: an unexpected error has occurred",
            "attempts": 3,
            "at": "2026-09-21T02:00:29.110Z",
        }


class RunBatch(Resource, frozen=True):
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

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            number=3,
            started_at="2026-09-21T02:00:25.000Z",
            finished_at="2026-09-21T02:00:31.270Z",
            success_count=4,
            error_count=1,
            skipped_count=0,
        )


class RunSummary(Resource, frozen=True):
    """A run, and how it stands now. `duration` is in milliseconds, `ratePerMinute` over all of it."""

    job_id: str
    account_id: str
    status: str
    reason: str | None
    origin: str
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
    links: RunLinks

    @classmethod
    def base_of(cls, run: Run, estimate: Estimate, now: int, path: str) -> dict[str, Any]:
        """The values that every kind has, at the moment `now` (ms). `path` is where runs of the kind are found."""
        duration = run.duration_ms(now)
        return {
            "job_id": run.id,
            "account_id": run.account_id,
            "status": estimate.status.value,
            "reason": estimate.reason,
            "origin": run.origin,
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
            "links": RunLinks.of(f"{path}/{run.id}"),
        }

    @classmethod
    def base_example(cls, path: str) -> dict[str, Any]:
        """The values that every kind has, for the documentation."""
        job_id = "0198c2f4a1b27c3d"
        return {
            "job_id": job_id,
            "account_id": EXAMPLE_ACCOUNT,
            "status": "completed",
            "reason": None,
            "origin": "api",
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
            "links": RunLinks.of(f"{path}/{job_id}"),
        }


def details(problems: Sequence[Any], batches: Sequence[Batch], *, limit: int, offset: int) -> dict[str, Any]:
    """The values that a run has beside its summary: a page of its problems, and its latest batches."""
    return {
        "errors": list(problems),
        "limit": limit,
        "offset": offset,
        "batches": [RunBatch.of(batch) for batch in batches],
    }
