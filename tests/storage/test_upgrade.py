"""A file of the first release goes forward by itself, with everything that is in it."""

import itertools
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from inboxd.conversations.message_store import mid_key
from inboxd.conversations.search_store import SearchIndexStore, phrase
from inboxd.conversations.store import ConversationFilter, ConversationStore
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.run import RunStatus
from inboxd.profiles.store import ProfileStore
from inboxd.receiving import webhook_event_store
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runtime.clock import Clock
from inboxd.storage import migrations
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, T0, event_log


def old_file(path: Path) -> None:
    """A database as version 3 of the schema left it."""
    with closing(sqlite3.connect(path)) as connection:
        for step in migrations.steps()[:3]:
            connection.executescript(step.sql)
        connection.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 3")
        connection.execute(
            "INSERT INTO participants (account_id, participant_id, state, username, profile_pic, fetched_at,"
            " created_at, updated_at) VALUES (?, ?, 'complete', 'ana_x', 'https://example.com/a.jpg', ?, ?, ?)",
            (ACCOUNT, ANA, T0, T0, T0),
        )
        connection.execute(
            "INSERT INTO conversations (id, account_id, participant_id, last_message_at, created_at, updated_at)"
            " VALUES (1, ?, ?, ?, ?, ?)",
            (ACCOUNT, ANA, T0, T0, T0),
        )
        connection.execute(
            "INSERT INTO messages (conversation_id, mid, mid_key, sender_id, direction, sent_at, timeline_at,"
            " noticed_at, type, text, created_at, updated_at)"
            " VALUES (1, 'm1', 1, ?, 0, ?, ?, ?, 'text', 'buenos días', ?, ?)",
            (ANA, T0, T0, T0, T0, T0),
        )
        connection.commit()


async def test_everything_is_there_and_found_after_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "inboxd.sqlite3"
    old_file(path)
    async with Database(path) as database:
        index = SearchIndexStore(database)
        while await index.advance(100):
            pass
        conversations = ConversationStore(database.read)
        for words in (None, "ana_x", "dias"):
            condition = ConversationFilter(matching=None if words is None else phrase(words))
            found, total = await conversations.page(condition, limit=10, offset=0)
            assert (total, found[0].participant_username) == (1, "ana_x"), words
        participant = await ProfileStore(database).one(ConversationKey(ACCOUNT, ANA))
        assert participant is not None
        assert (participant.previous_usernames, participant.avatar) == ([], None)
        assert await database.read("SELECT participant_avatar, content FROM v1_conversations, v1_messages") == [
            (None, "buenos días")
        ]


def file_of_version(path: Path, version: int) -> sqlite3.Connection:
    """A database as that version of the schema left it; the caller closes it."""
    connection = sqlite3.connect(path)
    for step in migrations.steps():
        if step.version <= version:
            connection.executescript(step.sql)
    connection.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    return connection


Row = tuple[str, int | None, str | None, int | None, int | None, str | None]
"""A message: mid, when it was sent, text; number, time and text of its edit."""


def store_messages(connection: sqlite3.Connection, rows: list[Row]) -> None:
    connection.execute(
        "INSERT INTO conversations (id, account_id, participant_id, created_at, updated_at) VALUES (1, ?, ?, 1, 1)",
        (ACCOUNT, ANA),
    )
    for number, (mid, sent_at, text, edit_number, edited_at, edited_text) in enumerate(rows, 1):
        connection.execute(
            "INSERT INTO messages (id, conversation_id, mid, mid_key, sender_id, direction, sent_at, timeline_at,"
            " noticed_at, type, text, edit_number, edited_at, edited_text, created_at, updated_at)"
            " VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, 'text', ?, ?, ?, ?, 1, 1)",
            (
                number, mid, mid_key(mid), ANA, None if sent_at is None else 0, sent_at, sent_at or T0 + 1, T0,
                text, edit_number, edited_at, edited_text,
            ),
        )  # fmt: skip


@pytest.mark.parametrize("version", [9, 13])
async def test_messages_are_not_called_edited_for_a_companion_with_their_own_text(tmp_path: Path, version: int) -> None:
    path = tmp_path / "inboxd.sqlite3"
    with closing(file_of_version(path, version)) as connection:
        store_messages(
            connection,
            [
                ("accompanied", T0, "otter", 0, T0 + 1, "otter"),
                ("edited", T0, "penguin", 1, T0 + 1, "penguin"),
                ("edited, without the number", T0, "heron", 0, T0 + 1, "egret"),
                ("never arrived", None, None, 0, T0 + 1, "orca"),
            ],
        )
        connection.commit()
    async with Database(path) as database:
        index = SearchIndexStore(database)
        while await index.advance(100):
            pass
        shown = await database.read("SELECT content, edited_at IS NULL FROM v1_messages ORDER BY id")
        assert shown == [("otter", 1), ("penguin", 0), ("egret", 0), ("orca", 0)]
        assert [row[0] for row in await database.read("SELECT text FROM message_search ORDER BY rowid")] == [
            text for text, _ in shown
        ]


async def test_messages_that_a_textless_edit_blanked_have_their_text_again(tmp_path: Path) -> None:
    path = tmp_path / "inboxd.sqlite3"
    with closing(file_of_version(path, 9)) as connection:
        rows: list[Row] = [
            ("blanked", T0, "walrus", 0, T0 + 1, ""),
            ("edited", T0, "penguin", 1, T0 + 1, "puffin"),
            ("untouched", T0, "seal", None, None, None),
            ("never arrived", None, None, 0, T0 + 1, ""),
        ]
        store_messages(connection, rows)
        connection.execute("UPDATE search_progress SET indexed_to = 4")
        connection.execute("INSERT INTO message_search (rowid, text) VALUES (2, 'puffin'), (3, 'seal')")
        connection.commit()

    async with Database(path) as database:
        index = SearchIndexStore(database)
        while await index.advance(100):
            pass
        shown = await database.read(
            "SELECT platform_message_id, content, edited_at IS NULL FROM v1_messages ORDER BY id"
        )
        assert shown == [("blanked", "walrus", 1), ("edited", "puffin", 0), ("untouched", "seal", 1)]
        assert await database.read("SELECT rowid, text FROM message_search ORDER BY 1") == [
            (1, "walrus"), (2, "puffin"), (3, "seal"),
        ]  # fmt: skip
        for sql, expected in (("PRAGMA integrity_check", [("ok",)]), ("PRAGMA foreign_key_check", [])):
            assert await database.read(sql) == expected


BARE = "Graph error 100: bad parameter, or no matching user"


@pytest.mark.parametrize(
    ("state", "reason", "fetched_at", "again"),
    [
        ("unavailable", BARE, None, True),
        ("unavailable", "Graph error 100: said otherwise by an older version", None, True),
        ("complete", BARE, 5, True),
        ("unavailable", "Graph error 9010: no matching Instagram user", None, False),
        ("unavailable", "Graph error 100/2534014: no matching Instagram user, or an id of the wrong kind", None, False),
        ("unavailable", "the account itself", None, False),
        ("no_consent", "Graph error 230: the person has not given consent: they must write first", None, False),
    ],
)
async def test_whoever_was_called_gone_because_of_a_bad_parameter_is_due_again(
    tmp_path: Path, state: str, reason: str, fetched_at: int | None, *, again: bool
) -> None:
    path = tmp_path / "inboxd.sqlite3"
    now = Clock().now_ms()
    month = now + 30 * 86_400_000
    with closing(file_of_version(path, 9)) as connection:
        connection.executemany(
            "INSERT INTO participants (account_id, participant_id, state, reason, attempts, next_attempt_at,"
            " fetched_at, username, created_at, updated_at) VALUES (?, ?, ?, ?, 3, ?, ?, ?, 1, ?)",
            [
                (account, str(number), state, reason, month, fetched_at, fetched_at and "ana_x", number)
                for account in ("1", "2")
                for number in range(1000, 1100)
            ],
        )
        connection.commit()
    async with Database(path) as database:
        rows = await database.read(
            "SELECT participant_id, state, attempts, next_attempt_at FROM participants WHERE account_id = '1'"
            " ORDER BY next_attempt_at, updated_at DESC"
        )
    if not again:
        assert {row[1:] for row in rows} == {(state, 3, month)}
        return
    assert {row[1:3] for row in rows} == {("pending" if fetched_at is None else "complete", 0)}
    times = [row[3] for row in rows]
    assert now - 1000 <= times[0] <= now + 200_000
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [180_000] * 99
    assert [row[0] for row in rows[:3]] == ["1099", "1098", "1097"], "the latest that was heard of first"


def test_every_migration_is_a_step() -> None:
    folder = Path(migrations.__file__).parent / "schema"
    assert [step.name for step in migrations.steps()] == sorted(path.name for path in folder.iterdir())
    assert [step.version for step in migrations.steps()] == list(range(1, migrations.newest() + 1))


async def test_webhook_events_are_found_after_their_table_got_another_name(tmp_path: Path) -> None:
    path = tmp_path / "inboxd.sqlite3"
    with closing(file_of_version(path, 14)) as connection:
        connection.executemany(
            "INSERT INTO events (fingerprint, kind, account_id, participant_id, payload, created_at)"
            " VALUES (?, ?, ?, ?, x'7b7d', ?)",
            [(b"1", "comment", ACCOUNT, None, T0), (b"2", "referral", ACCOUNT, ANA, T0)],
        )
        connection.execute("INSERT INTO deliveries (received_at, state, body) VALUES (?, 'done', x'7b7d')", (T0,))
        connection.commit()

    async with Database(path) as database:
        found = await webhook_event_store.page(database.read, kind=None, before_id=None, limit=10)
        assert [(one.kind, one.participant_id) for one in found] == [("referral", ANA), ("comment", None)]
        names = [row[0] for row in await database.read("SELECT name FROM sqlite_schema WHERE name LIKE '%events%'")]
        assert {"webhook_events", "webhook_events_by_kind", "webhook_events_by_participant"} <= set(names)
        assert not {"events_by_kind", "events_by_participant"} & set(names)
        assert await database.read("SELECT count(*) FROM events") == [(0,)], "the name is the event log's"
        assert await database.read("SELECT signature FROM deliveries") == [(None,)]


async def test_the_runs_of_backfill_are_there_after_all_kinds_got_one_table(tmp_path: Path) -> None:
    path = tmp_path / "inboxd.sqlite3"
    with closing(file_of_version(path, 19)) as connection:
        for number, status in enumerate(("completed", "paused")):
            connection.execute(
                "INSERT INTO backfill_runs (id, account_id, status, origin, batch_size, max_conversations,"
                " refresh_before, total, success_count, error_count, idempotency_key, request_hash, created_at,"
                " started_at)"
                " VALUES (?, ?, ?, 'api', 7, 90, 5, 3, 1, 1, ?, x'01', ?, ?)",
                (f"run{number}", ACCOUNT, status, f"key{number}", T0 + number, T0 + number),
            )
        connection.execute("INSERT INTO backfill_attempts VALUES ('run1', 1, ?, 'error', 2, 'no', 3, ?)", (ANA, T0))
        connection.execute("INSERT INTO backfill_batches VALUES ('run1', 1, ?, ?, 1, 1, 0)", (T0, T0 + 1))
        connection.commit()

    async with Database(path) as database:
        backfills = BackfillStore(database, event_log())
        runs, total = await backfills.page(account_id=ACCOUNT, status=None, limit=10, offset=0)
        assert ([run.id for run in runs], total) == (["run1", "run0"], 2)
        active = await backfills.active(ACCOUNT)
        assert active is not None
        assert (active.status, active.batch_size, active.max_conversations) == (RunStatus.PAUSED, 7, 90)
        assert (active.refresh_before, active.processed, active.started_at) == (5, 2, T0 + 1)
        (problem,) = await backfills.problems("run1", limit=10, offset=0)
        assert (problem.item, problem.participant_id, problem.code, problem.attempts) == (1, ANA, 2, 3)
        assert [batch.number for batch in await backfills.batches("run1", 10)] == [1]
        again = await backfills.create(active, key="key1", request_hash=b"\x01")
        assert again.id == "run1", "the key is known"
        (shown,) = await database.read("SELECT kind, total, created_at FROM v1_runs WHERE id = 'run0'")
        assert shown == ("backfill", 3, "2026-09-21T14:13:20.000Z")


async def test_the_reply_windows_of_earlier_conversations_are_known_after_an_upgrade(tmp_path: Path) -> None:
    path, now = tmp_path / "inboxd.sqlite3", int(time.time() * 1000)
    ad = '{"referral": {"source": "ADS", "ad_id": 1}}'
    rows = [
        (1, "m1", 0, T0, None),
        (1, "m2", 1, T0 + 9000, None),  # the account's own
        (1, "m3", None, T0 + 9000, None),  # a bare unsend
        (2, "m4", 0, now - 5000, ad),
        (2, "m5", 0, now - 1000, None),
        (3, "m6", 1, T0, None),
    ]
    with closing(file_of_version(path, 21)) as connection:
        for number in (1, 2, 3):
            connection.execute(
                "INSERT INTO conversations (id, account_id, participant_id, last_message_at, created_at, updated_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (number, ACCOUNT, str(number), now if number == 2 else T0, T0, T0),
            )
        for conversation, mid, direction, at, details in rows:
            connection.execute(
                "INSERT INTO messages (conversation_id, mid_key, mid, noticed_at, direction, timeline_at, details,"
                " standby, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
                (conversation, mid_key(mid), mid, at, direction, at, details, at, at),
            )
        connection.commit()
    async with Database(path) as database:
        found = await database.read("SELECT customer_wrote_at, ad_clicked_at FROM conversations ORDER BY id")
        assert found == [(T0, None), (now - 1000, now - 5000), (None, None)]
        assert await database.read("SELECT customer_wrote_at FROM v1_conversations WHERE id = '1'") == [
            ("2026-09-21T14:13:20.000Z",)
        ]


async def test_what_is_being_found_out_stays_findable_after_an_upgrade(tmp_path: Path) -> None:
    """The newest messages were erased before, and their ids are given again."""
    path = tmp_path / "inboxd.sqlite3"
    with closing(file_of_version(path, 27)) as connection:
        connection.execute(
            "INSERT INTO conversations (id, account_id, participant_id, created_at, updated_at) VALUES (1, ?, ?, 1, 1)",
            (ACCOUNT, ANA),
        )
        connection.execute(
            "INSERT INTO messages (id, conversation_id, mid, mid_key, noticed_at, created_at, updated_at)"
            " VALUES (3, 1, 'm3', 3, 1, 1, 1)"
        )
        connection.execute(
            "INSERT INTO outbound_messages (id, account_id, kind, participant_id, lane, state, sent_by, requested_by,"
            " created_at, updated_at) VALUES (1, ?, 'message', ?, ?, 'unknown', 'human', 'test', 1, 1)",
            (ACCOUNT, ANA, ANA),
        )
        connection.executemany(
            "INSERT INTO outbound_parts (outbound_id, position, state, after_message_id) VALUES (1, ?, ?, ?)",
            [(0, "sent", 7), (1, "unknown", 7), (2, "queued", None)],
        )
        connection.execute("INSERT INTO graph_stops VALUES (?, 'boot', 1, 2, 3, 'why')", (ACCOUNT,))
        connection.commit()
    async with Database(path) as database:
        parts = await database.read("SELECT after_message_id, began_at_meta FROM outbound_parts ORDER BY position")
        assert parts == [(7, None), (3, None), (None, None)]
        assert await database.read("SELECT strikes, reason, code, subcode FROM graph_stops") == [(3, "why", None, None)]
