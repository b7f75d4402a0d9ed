"""Queries on the column `account_id`, which tables of several features have."""

import sqlite3
from typing import Final

import msgspec

_OTHERS: Final = """
WITH RECURSIVE kept (account_id) AS (
    SELECT min(account_id) FROM {table}
    UNION ALL
    SELECT (SELECT min(t.account_id) FROM {table} AS t WHERE t.account_id > kept.account_id) FROM kept
    WHERE kept.account_id IS NOT NULL
)
SELECT EXISTS (
    SELECT 1 FROM kept WHERE account_id IS NOT NULL AND account_id NOT IN (SELECT value FROM json_each(?1))
)
"""
"""Steps from account to account along the index. The number of rows per account does not matter."""
_ANY: Final = "SELECT EXISTS (SELECT 1 FROM {table} WHERE account_id = ?)"


def has_others(connection: sqlite3.Connection, table: str, accounts: frozenset[str]) -> bool:
    """Whether `table` has a row of an account that is not one of `accounts`."""
    known = msgspec.json.encode(sorted(accounts)).decode()
    return bool(connection.execute(_OTHERS.format(table=table), (known,)).fetchone()[0])


def has_account(connection: sqlite3.Connection, table: str, account_id: str) -> bool:
    """Whether `table` has a row of the account."""
    return bool(connection.execute(_ANY.format(table=table), (account_id,)).fetchone()[0])
