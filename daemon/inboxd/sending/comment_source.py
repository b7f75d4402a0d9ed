"""How the outbox learns of comments, which a feature above it keeps."""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple


class CommentToAnswer(NamedTuple):
    """A comment that may get a private reply."""

    participant_id: str | None
    """Its author, if Meta said who that is."""
    expires_at: int
    """Until when (ms) Meta takes a private reply."""


CommentSource = Callable[[sqlite3.Connection, str, str], CommentToAnswer | None]
"""`find(connection, account_id, comment_id)`: the comment; None when it is not known, or cannot be answered."""

CommentLinks = Callable[[Sequence[tuple[str, str]]], Awaitable[Mapping[tuple[str, str], str]]]
"""The pages on which comments stand, by account and key of the comment. Those that are not kept are missing."""
