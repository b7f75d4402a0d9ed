"""`inboxd backup`, `restore`, `forget`, `erase-account` and `export`."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Final

import click
import msgspec

from inboxd.accounts.store import AccountStore
from inboxd.config.admin_access import admin_access
from inboxd.config.schema import Secrets, Settings
from inboxd.core import AVATAR_FOLDER
from inboxd.domain.conversation import ConversationKey
from inboxd.http.client import AdminClient
from inboxd.privacy.account_eraser import Eraser
from inboxd.privacy.api import NOTHING_KNOWN
from inboxd.privacy.api import PATH as DELETIONS
from inboxd.privacy.deletion_store import Deletions, Outcome
from inboxd.privacy.deletion_worker import DeletionWorker
from inboxd.privacy.participant_eraser import BACKUPS, Erasure, Forgetter, Person
from inboxd.privacy.resources import DeletionResource, NewDeletion
from inboxd.profiles.avatar_store import Avatars
from inboxd.profiles.cache import ProfileCache
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import EX_OK, EX_UNAVAILABLE, DatabaseLockedError, InboxdError
from inboxd.storage import backup
from inboxd.storage.database import Database

UNFINISHED: Final = 1
"""The exit code when something could not be erased yet."""
POLLS: Final = 300
POLL_S: Final = 0.2


class NobodyError(InboxdError):
    """Nothing is kept of the person."""

    exit_code = EX_UNAVAILABLE


def key_of(account_id: str, participant_id: str) -> ConversationKey:
    """Whose data it is about. Raises UsageError: ids go into addresses."""
    if not (account_id.isascii() and account_id.isdigit() and participant_id.isascii() and participant_id.isdigit()):
        msg = "ids of accounts and participants are numbers, such as 17841400000000001"
        raise click.UsageError(msg)
    return ConversationKey(account_id, participant_id)


def person_of(account_id: str, participant_id: str) -> ConversationKey:
    """Who is to be forgotten. Raises UsageError: the account itself is no person."""
    if account_id == participant_id:
        msg = f"{participant_id} is the account itself, and no participant; delete its conversation instead"
        raise click.UsageError(msg)
    return key_of(account_id, participant_id)


def make_backup(database: Path, file: Path | None, *, folder: Path, keep: int) -> None:
    """Back up to `file`, or to a new file in `folder`, of which the latest `keep` stay. Raises InboxdError."""
    if file is None:
        file = backup.make(database, folder, keep=keep, on_stuck=_complain)
    elif file.exists():
        msg = f"{file} exists: backups are not written over"
        raise backup.BackupError(msg)
    else:
        backup.snapshot(database, file)
    click.echo(f"{file}: {file.stat().st_size >> 10} KiB, checked")


def _complain(error: OSError) -> None:
    click.echo(f"{error.filename} could not be removed: {error.strerror}", err=True)


def put_back(file: Path, database: Path) -> None:
    """Restore `file`. Raises InboxdError."""
    aside = backup.restore(file, database)
    click.echo(f"{database} is now what {file} was")
    if aside is not None:
        click.echo(f"the database that was there is {aside}; delete it when all is well")


async def forget(settings: Settings, secrets: Secrets, path: Path, key: ConversationKey, *, as_json: bool) -> int:
    """Erase one person, and say what was erased; the exit code."""
    async with AsyncExitStack() as stack:
        try:
            forgetter = await stack.enter_async_context(_forgetter(path))
        except DatabaseLockedError:
            remote = await stack.enter_async_context(AdminClient(*admin_access(settings, secrets)))
            erasure = await remote.call("DELETE", _address(key), Erasure)
        else:
            erasure = await forgetter.forget(key, patient=False)
    if as_json:
        click.echo(msgspec.json.encode(erasure).decode())
    elif not erasure.nobody:
        _tell(erasure)
    if erasure.nobody:
        raise _nobody(key)
    return EX_OK if erasure.complete else UNFINISHED


async def erase_account(
    settings: Settings, secrets: Secrets, path: Path, account_id: str, code: str | None, *, as_json: bool
) -> int:
    """Erase an account with everybody in it, and say how it stands; the exit code."""
    wanted = NewDeletion(account_id=account_id, code=code)
    async with AsyncExitStack() as stack:
        try:
            database = await stack.enter_async_context(Database(path))
        except DatabaseLockedError:
            remote = await stack.enter_async_context(AdminClient(*admin_access(settings, secrets)))
            deletion = await remote.call("POST", DELETIONS, DeletionResource, wanted)
            for _ in range(POLLS):
                if deletion.status != "running" or deletion.waits_for is not None:
                    break
                await Clock().sleep(POLL_S)
                deletion = await remote.call("GET", f"{DELETIONS}/{deletion.code}", DeletionResource)
        else:
            deletion = await _erase_account(database, wanted)
    if as_json:
        click.echo(msgspec.json.encode(deletion).decode())
    elif deletion.status == "completed":
        click.echo(f"everything of {account_id} is erased; {BACKUPS}")
    elif deletion.status == "running":
        click.echo(
            f"{deletion.code}: not complete yet, it waits for: {deletion.waits_for or 'its turn'}. "
            "The daemon goes on with it",
            err=True,
        )
    if deletion.status == "nothing_kept":
        msg = f"nothing is known of the account {account_id}, and nothing of it is kept"
        raise NobodyError(msg)
    return EX_OK if deletion.status == "completed" else UNFINISHED


async def _erase_account(database: Database, wanted: NewDeletion) -> DeletionResource:
    """The same without a daemon. Raises NobodyError for a code that waits for nobody."""
    clock, deletions, accounts = Clock(), Deletions(database), AccountStore(database)
    code = wanted.code or token_hex(16)
    if wanted.code is not None:
        receipt = await deletions.receipt(wanted.code)
        if receipt is None or receipt.outcome is not Outcome.NOT_MATCHED:
            msg = f"there is no request with the code {wanted.code} that waits for you"
            raise NobodyError(msg)
        if not await deletions.knows(wanted.account_id):
            raise NobodyError(NOTHING_KNOWN.format(wanted.account_id))
    known = {one.account.id: one.account for one in await accounts.all()}

    async def erased(account_id: str) -> None:
        if account_id in known and not known[account_id].configured:
            await accounts.remove(account_id)

    avatars = Avatars(database, database.path.parent / AVATAR_FOLDER)
    eraser = Eraser(database, avatars, ProfileCache(clock, ttl_s=1, size=1), clock)
    aliases = {alias: one.id for one in known.values() for alias in one.aliases}
    worker = DeletionWorker(eraser, deletions, aliases, clock, on_erased=erased)
    await deletions.request(code, wanted.account_id, clock.now_ms())
    await worker.carry_out()
    receipt = await deletions.receipt(code)
    if receipt is None:  # pragma: no cover - it was requested above
        raise NobodyError(code)
    return DeletionResource.of(code, receipt)


async def export(settings: Settings, secrets: Secrets, path: Path, key: ConversationKey) -> None:
    """Print what is kept of one person."""
    async with AsyncExitStack() as stack:
        try:
            forgetter = await stack.enter_async_context(_forgetter(path))
        except DatabaseLockedError:
            remote = await stack.enter_async_context(AdminClient(*admin_access(settings, secrets)))
            person = await remote.call("GET", f"{_address(key)}/export", Person)
        else:
            found = await forgetter.export(key)
            if found is None:
                raise _nobody(key)
            person = found
    click.echo(msgspec.json.format(msgspec.json.encode(person)).decode())


@asynccontextmanager
async def _forgetter(path: Path) -> AsyncIterator[Forgetter]:
    clock = Clock()
    async with Database(path) as database:
        avatars = Avatars(database, path.parent / AVATAR_FOLDER)
        yield Forgetter(database, avatars, ProfileCache(clock, ttl_s=1, size=1), clock)


def _nobody(key: ConversationKey) -> NobodyError:
    return NobodyError(f"nothing is kept of {key.participant_id} in account {key.account_id}")


def _address(key: ConversationKey) -> str:
    return f"/api/participants/{key.account_id}/{key.participant_id}"


def _tell(erasure: Erasure) -> None:
    for name, count in msgspec.structs.asdict(erasure).items():
        if isinstance(count, int) and name not in {"deliveries_waiting", "journal_emptied", "files_left"}:
            things = name.replace("_", " ")
            thing = "delivery" if things == "deliveries" else things.removesuffix("s")
            click.echo(f"{count:>8} {thing if count == 1 else things} erased")
    if erasure.deliveries_waiting:
        click.echo(
            f"deliveries that mention the person and wait to be understood: {erasure.deliveries_waiting}; "
            "let the daemon finish, and forget once more",
            err=True,
        )
    if not erasure.journal_emptied:
        click.echo(
            "another program reads the database, so its journal keeps traces: forget once more when it has ended",
            err=True,
        )
    if erasure.files_left:
        click.echo(
            f"{erasure.files_left} picture files could not be removed: may inboxd write to the folder of avatars? "
            "Forget once more then",
            err=True,
        )
    click.echo(erasure.note)
