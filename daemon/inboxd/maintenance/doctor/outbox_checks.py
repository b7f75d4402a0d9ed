"""Checks of the outbox: what waits, what failed, and what a person has to look into."""

from pathlib import Path
from typing import Final

from inboxd.domain.account import DAY_MS
from inboxd.maintenance.doctor.diagnosis import Diagnosis, Severity
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import InboxdError
from inboxd.runtime.plural import counted
from inboxd.sending import delivery_store
from inboxd.sending.delivery_store import Backlog, Failures
from inboxd.sending.overview import PATIENCE_MS
from inboxd.sending.uploads.store import UPLOAD_FOLDER, lost
from inboxd.storage.database import open_for_reading

_LOOK: Final = "See 'Answers are not sent' in docs/operations.md"


async def check_uploads(database: Path) -> list[Diagnosis]:
    """Whether the files that were uploaded to be sent can be read. Nothing when there are none."""
    folder = database.parent / UPLOAD_FOLDER
    try:
        async with open_for_reading(database) as connection:
            kept, problems = await lost(connection.read, folder)
    except (InboxdError, OSError):
        return []  # check_storage reports it
    if problems:
        detail = f"{len(problems)} of {counted(kept, 'uploaded file')} cannot be read in {folder}: {problems[0]}"
        remedy = f"Put {folder} back and let inboxd read and write there; what is lost has to be uploaded again."
        return [Diagnosis("uploads", Severity.WRONG, detail, remedy)]
    return [Diagnosis("uploads", Severity.OK, f"{counted(kept, 'file')} to send")] if kept else []


async def check_outbox(database: Path) -> list[Diagnosis]:
    """What the database says of the outbox, also while no daemon runs."""
    now = Clock().now_ms()
    try:
        async with open_for_reading(database) as connection:
            backlogs = await delivery_store.backlogs(connection.read)
            failures = await delivery_store.failures(connection.read, now - DAY_MS)
    except (InboxdError, OSError):
        return []  # check_storage reports it
    found = [*map(_unresolved, backlogs), *(_waiting(one, now) for one in backlogs), *map(_failed, failures)]
    wrong = [one for one in found if one is not None]
    return wrong or [Diagnosis("outbox", Severity.OK, "nothing waits for long, nothing failed in a day")]


def _unresolved(one: Backlog) -> Diagnosis | None:
    if not one.unresolved:
        return None
    detail = f"of {counted(one.unresolved, 'message')} it could not be found out in a day whether they were sent"
    remedy = f"Look into the conversations, then cancel or retry them: GET {_path(one.account_id, 'unknown')}"
    return Diagnosis(f"outbox {one.account_id}", Severity.WRONG, detail, remedy)


def _waiting(one: Backlog, now: int) -> Diagnosis | None:
    if one.restricted:
        detail = f"Meta restricts the account, so {counted(one.waiting, 'message')} wait since {iso_utc(one.oldest_at)}"
        remedy = f"Look into the account's and the app's alerts at Meta; it is tried again by itself. {_LOOK}."
        return Diagnosis(f"outbox {one.account_id}", Severity.WRONG, detail, remedy)
    if now - one.oldest_at < PATIENCE_MS:
        return None
    detail = f"{counted(one.waiting, 'message')} not sent yet, the oldest since {iso_utc(one.oldest_at)}"
    remedy = f"{_LOOK}; GET {_path(one.account_id, 'queued')} says for what each waits."
    return Diagnosis(f"outbox {one.account_id}", Severity.WARNING, detail, remedy)


def _failed(one: Failures) -> Diagnosis:
    detail = f"{counted(one.failed, 'message')} failed in a day, the last at {iso_utc(one.latest_at)}: {one.reason}"
    remedy = f"{_LOOK}. Retry or cancel them: GET {_path(one.account_id, 'failed')}"
    return Diagnosis(f"outbox {one.account_id}", Severity.WARNING, detail, remedy)


def _path(account_id: str, state: str) -> str:
    return f"/api/messaging/outbound?state={state}&accountId={account_id}"
