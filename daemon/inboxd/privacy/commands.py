"""`inboxd forget`, `erase-account` and `export`."""

import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, NamedTuple

import click
import msgspec

from inboxd.accounts.store import AccountStore
from inboxd.domain.conversation import ConversationKey
from inboxd.events.log import EventLog
from inboxd.http.client import AdminClient
from inboxd.http.command_access import CommandAccess
from inboxd.privacy.account_eraser import AccountEraser
from inboxd.privacy.api import NOTHING_KNOWN
from inboxd.privacy.api import PATH as DELETIONS
from inboxd.privacy.deletion_store import DeletionOutcome, DeletionStore
from inboxd.privacy.deletion_worker import DeletionWorker
from inboxd.privacy.participant_eraser import BACKUPS, Erasure, ParticipantEraser
from inboxd.privacy.resources import DeletionResource, NewDeletion
from inboxd.runtime.clock import Clock
from inboxd.runtime.command_line import account_option, config_option, json_option, run_async
from inboxd.runtime.errors import EX_OK, EX_UNAVAILABLE, InboxdError
from inboxd.storage.database import Database
from inboxd.storage.personal_data import PersonalData

UNFINISHED: Final = 1
"""The exit code when something could not be erased yet."""
POLLS: Final = 300
POLL_S: Final = 0.2


class OfflineData(NamedTuple):
    """The database when no daemon runs, and what the features declare about it."""

    database: Database
    personal_data: tuple[PersonalData, ...]
    event_log: EventLog


PrivacySetup = Callable[[Path | None], CommandAccess[OfflineData]]
"""What the commands are given: the daemon or the database itself, by the path of the configuration file."""

participant_option = click.option("--participant", "participant_id", required=True, help="The person's id (IGSID).")


class NobodyError(InboxdError):
    """Nothing is kept of the person."""

    exit_code = EX_UNAVAILABLE


def _key_of(account_id: str, participant_id: str) -> ConversationKey:
    """Whose data it is. Raises UsageError for anything but digits, because ids go into addresses."""
    if not (account_id.isascii() and account_id.isdigit() and participant_id.isascii() and participant_id.isdigit()):
        msg = "ids of accounts and participants are numbers, such as 17841400000000001"
        raise click.UsageError(msg)
    return ConversationKey(account_id, participant_id)


def _person_of(account_id: str, participant_id: str) -> ConversationKey:
    """Who is to be forgotten. Raises UsageError for the account itself, which is no person."""
    if account_id == participant_id:
        msg = f"{participant_id} is the account itself, and no participant; delete its conversation instead"
        raise click.UsageError(msg)
    return _key_of(account_id, participant_id)


@click.command()
@config_option
@json_option
@account_option
@participant_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def forget(
    set_up: PrivacySetup, config_path: Path | None, *, as_json: bool, account_id: str, participant_id: str, yes: bool
) -> None:
    """Erase one person everywhere, for ever: messages, profile, picture, raw deliveries, search index."""
    whom = _person_of(account_id, participant_id)
    if not yes:
        click.confirm(f"Erase everything about {participant_id} of account {account_id}?", abort=True, err=True)
    sys.exit(run_async(_forget(set_up(config_path), whom, as_json=as_json)))


def _eraser(found: OfflineData) -> ParticipantEraser:
    return ParticipantEraser(found.database, found.personal_data, Clock(), found.event_log)


async def _forget(access: CommandAccess[OfflineData], key: ConversationKey, *, as_json: bool) -> int:
    """Erase one person and print what was erased. Returns the exit code."""
    async with access.open() as found:
        if isinstance(found, AdminClient):
            erasure = await found.call("DELETE", _address(key), Erasure)
        else:
            erasure = await _eraser(found).forget(key, patient=False)
    if as_json:
        click.echo(msgspec.json.encode(erasure).decode())
    elif not erasure.nobody:
        _tell(erasure)
    if erasure.nobody:
        raise _nobody(key)
    return EX_OK if erasure.complete else UNFINISHED


@click.command("erase-account")
@config_option
@json_option
@account_option
@click.option("--code", help="The confirmation code of a deletion request that could not be matched.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def erase_account(
    set_up: PrivacySetup, config_path: Path | None, *, as_json: bool, account_id: str, code: str | None, yes: bool
) -> None:
    """Erase an account with everybody in it, for ever. Exits 1 if something has to be waited for.

    For somebody who asked Meta to delete their data when nobody could tell which account is theirs; with their code the
    page that they were given says how it stands.
    """
    if not yes:
        click.confirm(f"Erase the account {account_id} with everybody in it?", abort=True, err=True)
    account_id, _ = _key_of(account_id, account_id)
    sys.exit(run_async(_erase(set_up(config_path), NewDeletion(account_id=account_id, code=code), as_json=as_json)))


async def _erase(access: CommandAccess[OfflineData], wanted: NewDeletion, *, as_json: bool) -> int:
    """Erase an account with everybody in it and print the status. Returns the exit code."""
    async with access.open() as found:
        deletion = await (_ask_daemon(found, wanted) if isinstance(found, AdminClient) else _carry_out(found, wanted))
    if as_json:
        click.echo(msgspec.json.encode(deletion).decode())
    elif deletion.status == "completed":
        click.echo(f"everything of {wanted.account_id} is erased; {BACKUPS}")
    elif deletion.status == "running":
        click.echo(
            f"{deletion.code}: not complete yet, it waits for: {deletion.waits_for or 'its turn'}. "
            "The daemon goes on with it",
            err=True,
        )
    if deletion.status == "nothing_kept":
        msg = f"nothing is known of the account {wanted.account_id}, and nothing of it is kept"
        raise NobodyError(msg)
    return EX_OK if deletion.status == "completed" else UNFINISHED


async def _ask_daemon(daemon: AdminClient, wanted: NewDeletion) -> DeletionResource:
    """Ask the daemon to erase the account, and wait up to a minute."""
    deletion = await daemon.call("POST", DELETIONS, DeletionResource, wanted)
    for _ in range(POLLS):
        if deletion.status != "running" or deletion.waits_for is not None:
            break
        await Clock().sleep(POLL_S)
        deletion = await daemon.call("GET", f"{DELETIONS}/{deletion.code}", DeletionResource)
    return deletion


async def _carry_out(found: OfflineData, wanted: NewDeletion) -> DeletionResource:
    """Erase the account without a daemon. Raises NobodyError when no request with the code waits for an account."""
    clock, deletions = Clock(), DeletionStore(found.database, found.personal_data)
    accounts = AccountStore(found.database)
    code = wanted.code or token_hex(16)
    if wanted.code is not None:
        receipt = await deletions.receipt(wanted.code)
        if receipt is None or receipt.outcome is not DeletionOutcome.NOT_MATCHED:
            msg = f"there is no request with the code {wanted.code} that waits for you"
            raise NobodyError(msg)
        if not await deletions.knows(wanted.account_id):
            raise NobodyError(NOTHING_KNOWN.format(wanted.account_id))
    known = {one.account.id: one.account for one in await accounts.all()}

    async def erased(account_id: str) -> None:
        if account_id in known and not known[account_id].configured:
            await accounts.remove(account_id)

    eraser = AccountEraser(found.database, found.personal_data, clock)
    aliases = {alias: one.id for one in known.values() for alias in one.aliases}
    worker = DeletionWorker(eraser, deletions, aliases, clock, on_erased=erased)
    await deletions.request(code, wanted.account_id, clock.now_ms())
    await worker.carry_out()
    receipt = await deletions.receipt(code)
    if receipt is None:  # pragma: no cover - it was requested above
        raise NobodyError(code)
    return DeletionResource.of(code, receipt)


@click.command()
@config_option
@account_option
@participant_option
@click.pass_obj
def export(set_up: PrivacySetup, config_path: Path | None, account_id: str, participant_id: str) -> None:
    """Print everything that is kept of one person, as JSON."""
    found = set_up(config_path)
    run_async(_export(found, _key_of(account_id, participant_id)))


async def _export(access: CommandAccess[OfflineData], key: ConversationKey) -> None:
    async with access.open() as found:
        if isinstance(found, AdminClient):
            person: dict[str, Any] | None = await found.call("GET", f"{_address(key)}/export", dict[str, Any])
        else:
            person = await _eraser(found).export(key)
    if person is None:
        raise _nobody(key)
    click.echo(msgspec.json.format(msgspec.json.encode(person)).decode())


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
            f"deliveries that mention the person and wait to be processed: {erasure.deliveries_waiting}; "
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
