"""The types with which a feature declares its personal data, and how long it keeps rows. This module names no table.

Erasing a person, exporting a person and removing old rows use only these declarations. A test fails when a table of
the schema is in no declaration.
"""

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from inboxd.domain.conversation import ConversationKey


class Subject(NamedTuple):
    """Whose data it is: one participant of an account, or the account with all its participants."""

    account_id: str
    participant_id: str | None
    """None: the account with all its participants."""
    ids: frozenset[str]
    """The ids by which raw deliveries and webhook events mention the subject."""

    @classmethod
    def participant(cls, key: ConversationKey) -> Self:
        """One participant. Its id is valid for one account only."""
        return cls(key.account_id, key.participant_id, frozenset({key.participant_id}))

    @property
    def values(self) -> dict[str, object]:
        """The subject as the named parameters `:account` and `:participant` of a statement."""
        return {"account": self.account_id, "participant": self.participant_id}


class ExpiredRows(NamedTuple):
    """The result of one step of an expiry."""

    rows: int
    """How many rows were removed."""
    last_id: int | None
    """The last row that the step looked at; None: there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """One kind of rows that are removed some time after they arrived."""

    name: str
    """The field of the log event `expired`."""
    days: Callable[[], int]
    """Days for which the rows are kept; 0 means for ever. It is called before each round."""
    remove: Callable[[int, int, int], Awaitable[ExpiredRows]]
    """`remove(before_ms, after_id, step)` reads the next `step` rows after an id and removes those before `before_ms`.

    SQLite may give an id to a new row between the read and the removal, so the removal checks the time again.
    """


Mentioned = Callable[[bytes], bool]
"""Whether raw bytes mention the subject."""


class MentionedRows(NamedTuple):
    """Rows whose bytes mention a subject, out of the rows that one step read."""

    processed: list[int]
    """Rows that can be erased."""
    waiting: int
    """How many rows have to be processed first."""
    last_id: int | None
    """The last row that the step looked at; None: there was none."""


class ErasedRows(NamedTuple):
    """The result of erasing rows by id."""

    rows: int
    """How many rows were erased."""
    newest_id: int
    """The newest id that is left. SQLite may use higher ids again."""
    waiting: int = 0
    """How many rows were not erased, because they have to be processed first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Raw bytes that may mention a subject. They are searched row by row.

    The functions run in a transaction of the caller.
    """

    name: str
    """The name of the count of erased rows."""
    look: Callable[[sqlite3.Connection, Mentioned, int, int], MentionedRows]
    """`look(connection, mentioned, after_id, step)`: which of the next `step` rows mention the subject."""
    erase: Callable[[sqlite3.Connection, Sequence[int]], ErasedRows]
    """Erases rows by id, and leaves those that have to be processed first."""
    more: Callable[[sqlite3.Connection, int], bool]
    """Whether there are rows after an id."""


class SweptFiles(NamedTuple):
    """The result of removing files that no row names."""

    name: str
    """The name of the count of removed files."""
    removed: int
    failed: int
    """How many could not be removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalData:
    """The personal data in some tables, and how it is erased and exported. Each member may be left out.

    The declarations are passed in the order of the features, the lowest first. Rows are erased in the opposite
    order, because rows of a higher feature may refer to those of a lower one.
    """

    tables: frozenset[str] = frozenset()
    reason: str = ""
    """Why no row of these tables is ever erased for a person. Empty if `erase` or `scan` erases them."""
    erase: Callable[[sqlite3.Connection, Subject, int], Counter[str]] | None = None
    """`erase(connection, subject, step)` erases about `step` rows. Returns how many of each kind; empty: none is left.

    It runs in a transaction of the caller. It must also work when it is called again.
    """
    scan: Scan | None = None
    mid_keys: Callable[[sqlite3.Connection, Subject], set[int]] | None = None
    """The keys of a participant's messages. They identify raw bytes that name no sender and no recipient."""
    ids: Callable[[sqlite3.Connection, Subject], set[str]] | None = None
    """More ids by which raw bytes mention a participant: of comments, which answers name and not their author."""
    export: Callable[[Subject, Mentioned], Awaitable[Mapping[str, Any]]] | None = None
    """Members of the export document of a participant."""
    keeps_others: Callable[[sqlite3.Connection, frozenset[str]], bool] | None = None
    """Whether there is data that belongs to none of these accounts."""
    knows: Callable[[sqlite3.Connection, str], bool] | None = None
    """Whether there is data of this account."""
    forget: Callable[[Subject], None] | None = None
    """Drops the subject's data from memory."""
    sweep: Callable[[], Awaitable[SweptFiles]] | None = None
    """Removes the files that no row names any more."""
    indexes: tuple[str, ...] = ()
    """Full-text indexes (FTS5). They hold the words of erased rows until they are merged."""
