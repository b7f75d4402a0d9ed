"""Joins what was read from the Conversations API to what webhooks brought, in whichever order both come."""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from inboxd.conversations import early_changes_store as early_changes
from inboxd.conversations import message_store, reply_window_store
from inboxd.conversations.message_store import ChangedMessage, mid_key
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import MessageChange, ReadBack, SentFromHere, Source
from inboxd.domain.reply_window import openings_of
from inboxd.events import store as events
from inboxd.profiles import store as profiles
from inboxd.storage.connection import fetch_packed

_KNOWN: Final = """
SELECT json_group_array(json_array(m.mid, m.listed_at, m.source))
FROM json_each(?3) AS k
JOIN conversations AS c ON c.account_id = ?1 AND c.participant_id = ?2
CROSS JOIN messages AS m ON m.mid_key = k.value ->> 0 AND m.conversation_id = c.id AND m.mid = k.value ->> 1
"""
_SAME: Final = """
SELECT json_group_array(json_array(k.value ->> 0, m.mid))
FROM json_each(?3) AS k
JOIN conversations AS c ON c.account_id = ?1 AND c.participant_id = ?2
CROSS JOIN messages AS m
    ON m.conversation_id = c.id AND m.timeline_at BETWEEN (k.value ->> 1) - 1000 AND (k.value ->> 1) + 1000
WHERE m.sender_id = k.value ->> 2 AND coalesce(m.text, '') = k.value ->> 3 AND m.sent_at IS NOT NULL
"""


class ReadConversation(NamedTuple):
    """What was read of a conversation from the Conversations API."""

    key: ConversationKey
    username: str | None
    """The participant's username, if the API told it."""
    messages: Sequence[ReadBack]
    changes: Sequence[MessageChange] = ()
    """Other changes that the API shows, such as reactions. They name messages by the ids in `messages`."""
    undated: frozenset[str] = frozenset()
    """The mids in `messages` whose time is not known."""


Created = list[tuple[ConversationKey, int]]
"""Conversations that were created, with their ids."""


class Joined(NamedTuple):
    """What really changed by it."""

    created: Created
    """The conversation, if it was created, with its id."""
    changed: list[ChangedMessage]
    added: list[ChangedMessage]
    """Those of `changed` by which a message arrived that was not known. What was sent from here was known."""
    confirmed: list[ChangedMessage]
    """Those by which the API listed, for the first time, a message that a webhook had brought."""
    erased_at: int | None = None
    """When the participant was erased (ms), if nothing was stored for that reason."""


def join(connection: sqlite3.Connection, read: ReadConversation, now: int) -> Joined:
    """Store what was read of one conversation. `now` in ms.

    The participant is created without a fetch: the API told the username, and backfill finds who lacks a profile.
    Messages from before the participant was erased are left out, also when that was while they were read.
    """
    erased_at = events.erased_at(connection, *read.key)
    if erased_at is not None:
        read = _since(read, erased_at)
        if not read.messages:
            return Joined([], [], [], [], erased_at)
    names = _same_messages(connection, read)
    messages: list[MessageChange] = [_named(one, names) for one in read.messages]
    changes = messages + [_named(one, names) for one in read.changes]
    known = _known(connection, read.key, messages)
    listed = {mid for mid, (at, _) in known.items() if at is not None}
    ours = {mid for mid, (_, source) in known.items() if source == Source.SENT}
    applied = message_store.apply_changes(connection, {read.key}, [(None, one) for one in changes], now)
    reply_window_store.opened(connection, openings_of(changes), now)
    for key, _ in applied.created:
        profiles.register(connection, key, read.username, None, now)
    if not applied.created and read.username is not None:
        profiles.name(connection, {read.key: read.username}, now)
    waiting = early_changes.join(connection, [], [one.mid for one in messages], now)
    first: dict[int, ChangedMessage] = {}
    for one in applied.changed:
        first.setdefault(one.message_id, one)
    new = [one for one in first.values() if one.message.listed_at is not None and one.message.mid not in listed]
    unconfirmed = [one for one in new if one.message.sent_at is None and one.message.mid not in ours]
    added = [one for one in unconfirmed if one.message.direction is not None]
    confirmed = [one for one in new if one.message.sent_at is not None]
    return Joined(applied.created, [*applied.changed, *waiting], added, confirmed)


def _since(read: ReadConversation, erased_at: int) -> ReadConversation:
    """What is certainly from after `erased_at` (ms)."""
    messages = [one for one in read.messages if one.at > erased_at and one.mid not in read.undated]
    left = {one.mid for one in messages}
    return read._replace(messages=messages, changes=[one for one in read.changes if one.mid in left])


def join_sent(connection: sqlite3.Connection, sent: SentFromHere, now: int) -> tuple[Created, list[ChangedMessage]]:
    """Store a message that was sent from here. Returns the conversation, if it was created, and what really changed.

    Its echo joins the same row, whichever comes first. A participant who is new, as the author of a comment who gets a
    private reply, is created without a fetch: Meta shows profiles only of people who wrote.
    """
    applied = message_store.apply_changes(connection, {sent.key}, [(None, sent)], now)
    for key, _ in applied.created:
        profiles.register(connection, key, None, None, now)
    waiting = early_changes.join(connection, [], [sent.mid], now)
    return applied.created, [*applied.changed, *waiting]


def _same_messages(connection: sqlite3.Connection, read: ReadConversation) -> dict[str, str]:
    """The mids by which webhooks brought messages that the API shows under other ids.

    Both ids are the same as far as anyone has seen. If they ever differ, the same sender, second and text say that it
    is the same message. A message that the API shows under its own mid is no other.
    """
    known = _known(connection, read.key, read.messages)
    wanted = [
        (one.mid, one.at, one.sender_id, one.content.text or "")
        for one in read.messages
        if one.mid not in known and one.content is not None and one.sender_id is not None
    ]
    if not wanted:
        return {}
    listed = {one.mid for one in read.messages}
    names: dict[str, str] = {}
    taken: set[str] = set()
    for api_id, mid in sorted(fetch_packed(connection, _SAME, (*read.key, _json(wanted)))):
        if api_id not in names and mid not in taken and mid not in listed:
            names[api_id] = mid
            taken.add(mid)
    return names


def _known(
    connection: sqlite3.Connection, key: ConversationKey, changes: Sequence[MessageChange]
) -> dict[str, tuple[int | None, int | None]]:
    """By mid, the messages that are stored: when the API lists them, if it was seen to (ms), and their source."""
    mids = _json([(mid_key(one.mid), one.mid) for one in changes])
    return {mid: (at, source) for mid, at, source in fetch_packed(connection, _KNOWN, (*key, mids))}


def _named(change: MessageChange, names: dict[str, str]) -> MessageChange:
    mid = names.get(change.mid)
    return change if mid is None else msgspec.structs.replace(change, mid=mid)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
