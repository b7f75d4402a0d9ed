"""What a feature says of the data that it keeps of people, and of how long it keeps things. No table is named here.

Whatever erases a person, exports one or removes what is old works from these declarations alone. A test fails when a
table of the schema is in no declaration.
"""

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Subject(NamedTuple):
    """Whose data it is: one participant's of an account, or the account's with everybody in it."""

    account_id: str
    participant_id: str | None
    """None: the account with everybody in it."""
    ids: frozenset[str]
    """By which raw deliveries and webhook events mention the subject."""

    @property
    def values(self) -> dict[str, object]:
        """The subject as the named parameters `:account` and `:participant` of a statement."""
        return {"account": self.account_id, "participant": self.participant_id}


class ExpiredRows(NamedTuple):
    """What one step of an expiry removed."""

    rows: int
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
    """`remove(before_ms, after_id, step)` looks at the next `step` rows after an id and removes those from before."""


class Mentioned(NamedTuple):
    """Rows whose bytes mention a subject, among those looked at up to `last_id` (None: there were none)."""

    settled: list[int]
    waiting: int
    last_id: int | None


class ErasedRows(NamedTuple):
    """How many rows were erased, and the newest id that is left: ids beyond it may be given again."""

    rows: int
    newest_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Raw bytes in which a subject may be mentioned: they are looked at row by row.

    The functions run in transactions that belong to whoever erases. `mentioned` tells whether bytes are about the
    subject.
    """

    name: str
    """The name of the count of erased rows."""
    look: Callable[[sqlite3.Connection, Callable[[bytes], bool], int, int], Mentioned]
    """`look(connection, mentioned, after_id, step)`: which of the next `step` rows mention the subject."""
    erase: Callable[[sqlite3.Connection, Sequence[int]], ErasedRows]
    more: Callable[[sqlite3.Connection, int], bool]
    """Whether there are rows after an id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalData:
    """What some tables keep of people, and how it is erased and exported."""

    tables: frozenset[str]
    reason: str = ""
    """Why nothing in them is ever erased for a person. Empty where `erase` or `scan` does it."""
    erase: Callable[[sqlite3.Connection, Subject, int], Counter[str]] | None = None
    """Erases about so many rows of the subject; what of how many. Nothing erased means that nothing is left."""
    scan: Scan | None = None
    mid_keys: Callable[[sqlite3.Connection, Subject], set[int]] | None = None
    """The keys of the subject's messages, by which raw bytes that name no party are recognised."""
    export: Callable[[sqlite3.Connection, Subject], Mapping[str, Any]] | None = None
    """Members of the export document."""
    forget: Callable[[Subject], None] | None = None
    """Drops what is in memory."""
    sweep: Callable[[], Awaitable[int]] | None = None
    """Removes files that no row names any more; how many could not be removed."""
    indexes: tuple[str, ...] = ()
    """Full-text indexes that hold the words of erased rows until they are merged."""
