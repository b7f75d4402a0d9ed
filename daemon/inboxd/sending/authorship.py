"""Whether a message of the account may be one of ours whose answer was not seen. If not, a human wrote it elsewhere."""

import sqlite3
from collections.abc import Sequence

from inboxd.domain.conversation import ConversationKey
from inboxd.sending import echo_store, matching_store
from inboxd.sending.echo_store import Undecided


def may_be_ours(
    connection: sqlite3.Connection, key: ConversationKey, mid: str, message_id: int | None, parts: Sequence[Undecided]
) -> bool:
    """Whether one of the undecided `parts` may have become the message `mid` of the conversation `key`.

    Of a private reply nobody knows yet whose conversation it opens. So it hides no message that says something else.
    """
    return any(_may_be(connection, part, key, mid, message_id) for part in parts)


def _may_be(
    connection: sqlite3.Connection, part: Undecided, key: ConversationKey, mid: str, message_id: int | None
) -> bool:
    if message_id is not None and message_id <= part.after_message_id:
        return False  # it was there before
    if part.participant_id is not None:
        return True
    return echo_store.is_new_since(connection, key, part.part_id) and matching_store.may_be(
        connection, part.part_id, key, mid
    )
