"""Deletions of whole accounts, as the API says them."""

from typing import Annotated, Literal, Self

from msgspec import Meta

from inboxd.http.resource import MetaId, Resource, iso
from inboxd.privacy.deletion_store import DeletionOutcome, Receipt
from inboxd.runtime.clock import iso_utc

Code = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)")]


class NewDeletion(Resource, frozen=True, forbid_unknown_fields=True):
    """Whose data is to be erased, and the confirmation code of a request of Meta's that could not be matched."""

    account_id: MetaId
    code: Code | None = None


class DeletionResource(Resource, frozen=True):
    """How a deletion stands."""

    code: str
    status: Literal["running", "completed", "nothing_kept", "not_matched"]
    requested_at: str
    completed_at: str | None
    waits_for: str | None

    @classmethod
    def of(cls, code: str, receipt: Receipt) -> Self:
        """The resource of a receipt."""
        status: Literal["running", "completed", "nothing_kept", "not_matched"] = (
            "running" if receipt.completed_at is None else "completed"
        )
        if receipt.outcome is not None:
            status = "not_matched" if receipt.outcome is DeletionOutcome.NOT_MATCHED else "nothing_kept"
        return cls(
            code=code,
            status=status,
            requested_at=iso_utc(receipt.requested_at),
            completed_at=None if receipt.outcome is DeletionOutcome.NOT_MATCHED else iso(receipt.completed_at),
            waits_for=receipt.waits_for,
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            code="0123456789abcdef0123456789abcdef",
            status="completed",
            requested_at="2026-09-21T15:00:00.000Z",
            completed_at="2026-09-21T15:00:02.000Z",
            waits_for=None,
        )
