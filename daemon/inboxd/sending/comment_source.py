"""How the outbox learns of comments, which a feature above it keeps."""

import sqlite3
from collections.abc import Callable
from typing import NamedTuple


class CommentToAnswer(NamedTuple):
    """A comment that may get a private reply."""

    participant_id: str | None
    """Its author, if Meta said who that is."""
    expires_at: int
    """Until when (ms) Meta takes a private reply."""


CommentSource = Callable[[sqlite3.Connection, str, str], CommentToAnswer | None]
"""`find(connection, account_id, comment_id)`: the comment; None when it is not known, or cannot be answered."""
