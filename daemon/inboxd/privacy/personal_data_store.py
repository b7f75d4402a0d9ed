"""What privacy itself keeps: the receipts of deletions."""

from functools import partial
from typing import Final

from inboxd.privacy.deletion_store import DeletionStore
from inboxd.storage.personal_data import ExpiredRows, Expiry, PersonalData

KEEP_RECEIPTS_DAYS: Final = 730


def personal_data() -> tuple[PersonalData, ...]:
    """The receipts of deletions."""
    reason = "a receipt names its account only until the deletion is completed, and nobody afterwards"
    return (PersonalData(tables=frozenset({"deletions"}), reason=reason),)


def expiries(deletions: DeletionStore) -> tuple[Expiry, ...]:
    """Receipts of completed deletions are kept for two years."""
    return (Expiry(name="deletion_receipts", days=lambda: KEEP_RECEIPTS_DAYS, remove=partial(_expire, deletions)),)


async def _expire(deletions: DeletionStore, before: int, _after: int, _step: int) -> ExpiredRows:
    return ExpiredRows(await deletions.expire(before), None)
