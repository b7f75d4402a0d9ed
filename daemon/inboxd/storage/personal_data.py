"""What a feature declares about the personal data that it keeps, and about how long it keeps rows. No table is named.

Whatever erases a person, exports one or removes what is old works from these declarations alone. A test fails when a
table of the schema is in no declaration.
"""

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from inboxd.domain.conversation import ConversationKey


class Subject(NamedTuple):
    """Whose data it is: one participant's of an account, or the account's with everybody in it."""

    account_id: str
    participant_id: str | None
    """None: the account with everybody in it."""
    ids: frozenset[str]
    """The ids by which raw deliveries and webhook events mention the subject."""

    @classmethod
    def participant(cls, key: ConversationKey) -> Self:
        """One participant. The id belongs to one account alone."""
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
    """How long the rows are kept; 0 means for ever. It is asked before each round."""
    remove: Callable[[int, int, int], Awaitable[ExpiredRows]]
    """`remove(before_ms, after_id, step)` looks at the next `step` rows after an id and removes those from before.

    An id may be given again between the look and the removal, so the removal checks the time once more.
    """


Mentioned = Callable[[bytes], bool]
"""Whether raw bytes mention the subject."""


class MentionedRows(NamedTuple):
    """Rows whose bytes mention a subject, among those that one step looked at."""

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
    """The newest id that is left. SQLite may give ids beyond it again."""
    waiting: int = 0
    """How many rows were not erased, because they have to be processed first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Raw bytes in which a subject may be mentioned. They are looked at row by row.

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
    """What some tables keep of people, and how it is erased and exported. Each member may be left out.

    The declarations are handed over in the order of the features, the lowest first. Rows are erased in the opposite
    order, because rows of a higher feature may refer to those of a lower one.
    """

    tables: frozenset[str] = frozenset()
    reason: str = ""
    """Why no row of these tables is ever erased for a person. Empty where `erase` or `scan` does it."""
    erase: Callable[[sqlite3.Connection, Subject, int], Counter[str]] | None = None
    """`erase(connection, subject, step)` erases about `step` rows; what of how many. Empty: nothing is left.

    It runs in a transaction of the caller, and must also work when it is called again.
    """
    scan: Scan | None = None
    mid_keys: Callable[[sqlite3.Connection, Subject], set[int]] | None = None
    """The keys of a participant's messages. Raw bytes that name no party are recognised by them."""
    export: Callable[[Subject, Mentioned], Awaitable[Mapping[str, Any]]] | None = None
    """Members of the export document of a participant."""
    keeps_others: Callable[[sqlite3.Connection, frozenset[str]], bool] | None = None
    """Whether anything is kept that does not belong to one of these accounts."""
    knows: Callable[[sqlite3.Connection, str], bool] | None = None
    """Whether anything is filed under this account."""
    forget: Callable[[Subject], None] | None = None
    """Drops what is in memory."""
    sweep: Callable[[], Awaitable[SweptFiles]] | None = None
    """Removes the files that no row names any more."""
    indexes: tuple[str, ...] = ()
    """Full-text indexes (FTS5). They hold the words of erased rows until they are merged."""
