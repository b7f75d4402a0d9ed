"""The accounts table: the accounts and their encrypted tokens."""

import sqlite3
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from inboxd.domain.account import Account, AccountState, LoginType
from inboxd.storage.connection import Row
from inboxd.storage.database import Database, Read

_COLUMNS: Final = (
    "id, flavour, state, reason, name, username, app_scoped_id, page_id, configured, token_obtained_at, "
    "token_expires_at, refresh_tried_at, subscribed_fields, subscription_checked_at, created_at, updated_at, "
    "human_agent, human_agent_refused_at, wants_comments, refused_fields, refused_fields_at"
)
_LIST: Final = f"SELECT {_COLUMNS}, token, token_origin FROM accounts ORDER BY id"  # noqa: S608 - constants
_SAVE: Final = f"""
INSERT INTO accounts ({_COLUMNS}, token, token_origin)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    flavour = excluded.flavour, state = excluded.state, reason = excluded.reason, name = excluded.name,
    username = excluded.username, app_scoped_id = excluded.app_scoped_id, page_id = excluded.page_id,
    configured = excluded.configured, token_obtained_at = excluded.token_obtained_at,
    token_expires_at = excluded.token_expires_at, refresh_tried_at = excluded.refresh_tried_at,
    subscribed_fields = excluded.subscribed_fields, subscription_checked_at = excluded.subscription_checked_at,
    updated_at = excluded.updated_at, human_agent = excluded.human_agent,
    human_agent_refused_at = excluded.human_agent_refused_at, wants_comments = excluded.wants_comments,
    refused_fields = excluded.refused_fields, refused_fields_at = excluded.refused_fields_at,
    token_origin = excluded.token_origin,
    -- Keep a token that cannot be read now because its key is missing. Only a deauthorized account loses its token.
    token = CASE WHEN excluded.state = 'deauthorized' THEN NULL ELSE coalesce(excluded.token, token) END
"""  # noqa: S608 - constants


Record = Callable[[sqlite3.Connection], None]
"""Records in the event log what happened to an account."""


class StoredAccount(NamedTuple):
    """An account with its token as the table holds it."""

    account: Account
    token: bytes | None
    token_origin: bytes | None


def _nothing(_connection: sqlite3.Connection) -> None:
    """Record nothing."""


async def stored(read: Read) -> list[StoredAccount]:
    """Every stored account."""
    return [StoredAccount(_account(row[:-2]), *row[-2:]) for row in await read(_LIST, ())]


class AccountStore:
    """Reads and writes accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[StoredAccount]:
        """Every stored account."""
        return await stored(self._database.read)

    async def save(self, stored: StoredAccount, record: Record = _nothing) -> None:
        """Store an account; it is durable when this returns. `record` runs in the transaction. Raises StorageError."""
        await self._write(_SAVE, (*_row(stored.account), stored.token, stored.token_origin), record)

    async def remove(self, account_id: str, record: Record = _nothing) -> None:
        """Delete an account and its token. Its conversations stay. `record` runs in the transaction.

        Raises StorageError.
        """
        await self._write("DELETE FROM accounts WHERE id = ?", (account_id,), record)

    async def _write(self, sql: str, row: Row, record: Record) -> None:
        def transaction(connection: sqlite3.Connection) -> None:
            connection.execute(sql, row)
            record(connection)

        await self._database.write(transaction)


def _row(account: Account) -> Row:
    fields = account.subscribed_fields
    return (
        account.id,
        account.login_type.value,
        account.state.value,
        account.reason,
        account.name,
        account.username,
        account.app_scoped_id,
        account.page_id,
        account.configured,
        account.token_obtained_at,
        account.token_expires_at,
        account.refresh_tried_at,
        None if fields is None else msgspec.json.encode(fields).decode(),
        account.subscription_checked_at,
        account.created_at,
        account.updated_at,
        account.human_agent,
        account.human_agent_refused_at,
        account.wants_comments,
        msgspec.json.encode(account.refused_fields).decode() if account.refused_fields else None,
        account.refused_fields_at,
    )


def _account(row: Row) -> Account:
    (account_id, login_type, state, reason, name, username, app_scoped_id, page_id, configured, *times) = row
    (obtained_at, expires_at, refresh_tried_at, fields, checked_at, created_at, updated_at, *chosen) = times
    human_agent, human_agent_refused_at, wants_comments, refused, refused_at = chosen
    return Account(
        id=account_id,
        login_type=LoginType(login_type),
        state=AccountState(state),
        reason=reason,
        name=name,
        username=username,
        app_scoped_id=app_scoped_id,
        page_id=page_id,
        configured=bool(configured),
        token_obtained_at=obtained_at,
        token_expires_at=expires_at,
        refresh_tried_at=refresh_tried_at,
        subscribed_fields=None if fields is None else msgspec.json.decode(fields, type=tuple[str, ...]),
        subscription_checked_at=checked_at,
        created_at=created_at,
        updated_at=updated_at,
        human_agent=bool(human_agent),
        human_agent_refused_at=human_agent_refused_at,
        wants_comments=bool(wants_comments),
        refused_fields={} if refused is None else msgspec.json.decode(refused, type=dict[str, str]),
        refused_fields_at=refused_at,
    )
