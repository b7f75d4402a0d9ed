"""What the log keeps of conversations and messages: readable for as long as it is kept, and bounded."""

import json
import sqlite3
from contextlib import closing
from typing import Any, Final

import msgspec
import pytest
from inboxd.conversations import message_store
from inboxd.conversations.event_recording import record_changes
from inboxd.conversations.event_types import event_types
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.event import StoredEvent
from inboxd.domain.message import Content, Deleted, Direction, Edited, MessageChange, Reacted, Seen, Sent
from inboxd.profiles import store as profiles
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, BRUNO, T0, Json, event_log

TYPES: Final = {kind.name: kind for kind in event_types({ACCOUNT})}
OLD: Final = (
    '{"message":{"mid":"m1","noticed_at":1790000001000,"sender_id":"7000000000000001","direction":0,'
    '"sent_at":1790000001000,"content":{"type":"text","text":"hi"}},"created_at":1790000002000,'
    '"conversation":[1,"17841400000000001","7000000000000001","ana.b","Ana","https://x/p.jpg",1790000001000,null,null,'
    'null,1,"open","{}",1790000002000,1790000002000,null,"complete",null,null],'
    '"reaction":{"by":"7000000000000001","at":1790000001000,"reaction":"love","emoji":"x"},"read_by":"participant"}'
)
"""As it was stored by the first release that had the log. Never change it: files have such rows."""


def shown(kind: str, data: str) -> Json:
    event = StoredEvent(7, kind, ACCOUNT, ANA, 1, 5, None, T0, T0, data.encode())
    found: Json = msgspec.json.decode(msgspec.json.encode(TYPES[kind].render(event)))
    return found


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_what_an_older_release_stored_is_still_shown(kind: str) -> None:
    data = shown(kind, OLD)
    assert (data["conversationId"], data["participantPlatformId"]) == ("1", ANA)
    assert data["conversation"]["participantUsername"] == data["participant"]["username"] == "ana.b"
    if kind.startswith(("message.", "postback.")):
        assert (data["messageId"], data["message"]["content"], data["platformMessageId"]) == ("5", "hi", "m1")
    if "reaction" in kind:
        assert data["reaction"]["reaction"] == "love"
    if kind == "message.read":
        assert data["readBy"] == "participant"


def test_an_event_before_its_message_says_which_it_is_by_the_id_of_meta() -> None:
    event = StoredEvent(7, "message.reaction_added", ACCOUNT, ANA, 1, None, None, T0, T0, OLD.encode())
    data: Json = msgspec.json.decode(msgspec.json.encode(TYPES[event.type].render(event)))
    assert (data["messageId"], data["platformMessageId"], data["reaction"]["reaction"]) == (None, "m1", "love")
    assert "message" not in data


def test_what_a_newer_release_stored_is_shown_without_what_is_unknown() -> None:
    """After a downgrade: columns and members that this release does not know."""
    newer = json.loads(OLD)
    newer["conversation"] += [None, None, None, None, None, 0, None, "a new column"]
    newer["mood"] = "good"
    newer["message"]["colour"] = "green"
    assert shown("message.received", json.dumps(newer)) == shown("message.received", OLD)


CHANGES: Final[list[MessageChange]] = [
    one
    for who in (ANA, BRUNO)
    for mid in ("m1", "m2")
    for key in [ConversationKey(ACCOUNT, who)]
    for one in (
        Reacted(key=key, mid=mid, at=T0 + 3, by=who, reaction="love", emoji=None),
        Sent(
            key=key,
            mid=mid,
            at=T0,
            sender_id=who,
            direction=Direction.INBOUND,
            content=Content(type="text", text=f"{mid} of {who}"),
        ),
        Edited(key=key, mid=mid, at=T0 + 2, sender_id=who, text="edited", number=1),
        Seen(key=key, mid=mid, at=T0 + 4, by_account=True),
        Sent(
            key=key,
            mid=mid,
            at=T0,
            sender_id=who,
            direction=Direction.INBOUND,
            content=Content(type="text", text=f"{mid} of {who}"),
        ),
        Reacted(key=key, mid=mid, at=T0 + 5, by=who, reaction=None, emoji=None),
        *([Deleted(key=key, mid=mid, at=T0 + 6, sender_id=who)] if mid == "m2" else []),
    )
]


async def recorded(database: Database, size: int, changes: list[MessageChange]) -> list[Any]:
    """What is recorded of `changes`, stored in batches of `size`: type, whose, of which message, when, whose id."""
    log = event_log()

    def store(connection: sqlite3.Connection, some: list[MessageChange]) -> None:
        keys = {change.key for change in some}
        applied = message_store.apply_changes(connection, keys, [(None, change) for change in some], T0)
        profiles.ensure(connection, [key for key, _ in applied.created], T0)
        record_changes(connection, log, applied.created, applied.changed, T0)

    ((before,),) = await database.read("SELECT coalesce(max(seq), 0) FROM events")
    for start in range(0, len(changes), size):
        some = changes[start : start + size]
        await database.write(lambda connection, some=some: store(connection, some))  # type: ignore[misc]
    return await database.read(
        "SELECT e.type, e.participant_id, e.data ->> '$.message.mid', e.occurred_at, m.mid FROM events AS e"
        " LEFT JOIN messages AS m ON m.id = e.message_id WHERE e.type LIKE 'message.%' AND e.seq > ? ORDER BY e.seq",
        (before,),
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 500])
async def test_batches_of_any_size_record_the_same(database: Database, size: int) -> None:
    found = await recorded(database, size, CHANGES)
    assert [row for row in found if row[1:3] == (ANA, "m1")] == [
        ("message.reaction_added", ANA, "m1", T0 + 3, None),
        ("message.received", ANA, "m1", T0, "m1"),
        ("message.edited", ANA, "m1", T0 + 2, "m1"),
        ("message.read", ANA, "m1", T0 + 4, "m1"),
        ("message.reaction_removed", ANA, "m1", T0 + 5, "m1"),
    ]
    assert len(found) == 4 * 5 + 2
    assert found == sorted(found, key=lambda row: (row[1], row[2])), "in the order of the changes"
    assert await recorded(database, size, CHANGES) == [], "all of it is known"
    assert await recorded(database, size, CHANGES[::-1]) == []


async def test_large_parts_of_a_message_are_left_out_of_its_events(database: Database) -> None:
    """Each event of a message repeats it: reactions to a huge one must not fill the disk."""
    key = ConversationKey(ACCOUNT, ANA)
    content = Content(type="text", text="x" * 500_000, details={"referral": {"ref": "y" * 500_000}})
    sent = Sent(key=key, mid="m1", at=T0, sender_id=ANA, direction=Direction.INBOUND, content=content)
    reactions: list[MessageChange] = [
        Reacted(key=key, mid="m1", at=T0 + number, by=ANA, reaction=f"r{number}", emoji=None) for number in range(20)
    ]
    assert len(await recorded(database, 1, [sent, *reactions])) == 21
    ((size,),) = await database.read("SELECT max(length(data)) FROM events")
    assert size < 100_000
    with closing(sqlite3.connect(database.path)) as file:
        ((data,),) = file.execute("SELECT data FROM events WHERE type = 'message.received'").fetchall()
    assert shown("message.received", data)["message"]["content"] == "x" * 20_000


async def test_a_text_that_comes_and_goes_in_one_batch_is_not_in_the_log(database: Database) -> None:
    found = await recorded(database, 500, [change for change in CHANGES if change.mid == "m2"])
    assert "message.deleted" in {row[0] for row in found}
    rows = await database.read("SELECT data FROM events WHERE data LIKE '%m2 of%' OR data LIKE '%edited%'")
    assert rows == []
