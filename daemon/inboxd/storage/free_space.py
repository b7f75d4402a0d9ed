"""Counts the free pages of the database file, and gives them back to the disk."""

import sqlite3
from typing import NamedTuple

from inboxd.storage.database import Database


class PageCount(NamedTuple):
    """How many pages the database file has."""

    total: int
    free: int


async def pages(database: Database) -> PageCount:
    """How many pages the file has, and how many of them are free. Raises StorageError."""
    ((total,),) = await database.read("PRAGMA page_count")
    ((free,),) = await database.read("PRAGMA freelist_count")
    return PageCount(int(total), int(free))


async def shrink(database: Database, limit: int) -> None:
    """Give up to `limit` free pages back. The file itself shrinks at the next checkpoint. Raises StorageError."""

    def transaction(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA incremental_vacuum({limit:d})").fetchall()

    await database.write(transaction)
