"""History imports as JSON of the API."""

from typing import Annotated, Any, Final, Self

from msgspec import Meta

from inboxd.domain.history import HistoryRun
from inboxd.domain.run import Estimate
from inboxd.http.resource import EXAMPLE_ACCOUNT, Resource, iso
from inboxd.runs.resources import RunBatch, RunProblem, RunSummary
from inboxd.runs.store import Attempt

PATH: Final = "/api/workers/import-history"
EXAMPLE: Final[dict[str, Any]] = {"accountId": EXAMPLE_ACCOUNT, "since": "2026-01-01T00:00:00Z"}


class NewHistoryImport(Resource, frozen=True, forbid_unknown_fields=True):
    """A history import to start."""

    account_id: Annotated[str, Meta(min_length=1, max_length=32)]
    since: Annotated[str, Meta(max_length=40, description="ISO 8601; earlier messages are left out.")] | None = None
    max_conversations: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    emit_events: bool = False
    dry_run: bool = False


class HistoryProblem(RunProblem, frozen=True):
    """A conversation that was not imported."""

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """From an attempt that did not succeed."""
        return cls(**cls.fields_of(attempt))


class ImportSummary(RunSummary, frozen=True):
    """A history import, and how it stands now. `duration` is in milliseconds; the counts are of conversations.

    `total` is how many were found so far.
    """

    since: str | None
    max_conversations: int | None
    emit_events: bool
    messages_added: int
    messages_known: int
    messages_unavailable: int
    """Listed without their details."""

    @classmethod
    def fields_of(cls, run: HistoryRun, estimate: Estimate, now: int) -> dict[str, Any]:
        """The values of a run at the moment `now` (ms)."""
        return {
            **cls.base_of(run, estimate, now, PATH),
            "since": iso(run.since or None),
            "max_conversations": run.max_conversations,
            "emit_events": run.emit_events,
            "messages_added": run.added_count,
            "messages_known": run.known_count,
            "messages_unavailable": run.unavailable_count,
        }

    @classmethod
    def example_fields(cls) -> dict[str, Any]:
        """The values of a run, for the documentation."""
        return {
            **cls.base_example(PATH),
            "since": "2026-01-01T00:00:00.000Z",
            "max_conversations": None,
            "emit_events": False,
            "messages_added": 380,
            "messages_known": 12,
            "messages_unavailable": 96,
        }

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(**cls.example_fields())


class ImportResource(ImportSummary, frozen=True):
    """An import with a page of its errors and the latest of its batches, which are pages of Meta's list."""

    errors: list[HistoryProblem]
    limit: int
    offset: int
    batches: list[RunBatch]

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        problem = HistoryProblem(**HistoryProblem.example_fields())
        return cls(**cls.example_fields(), errors=[problem], limit=50, offset=0, batches=[RunBatch.example()])


class ImportList(Resource, frozen=True):
    """Imports, the latest first."""

    imports: list[ImportSummary]
    total: int
    limit: int
    offset: int

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(imports=[ImportSummary.example()], total=1, limit=50, offset=0)
