"""Every query about comments that is asked often uses an index."""

import itertools

import pytest
from inboxd.comments import due_store, media_store, outbound_store, personal_data_store, replies_store, store
from inboxd.comments.store import ThreadFilter, page_query
from inboxd.domain.comment import CommentState
from inboxd.domain.paging import Place
from inboxd.events import store as events_store
from inboxd.storage.database import Database

FILTERS = [
    ThreadFilter(account_id=account_id, media_id=media_id, state=state, answered=answered, words=words)
    for account_id, media_id, state, answered, words in itertools.product(
        (None, "1"), (None, "2"), (None, CommentState.HIDDEN), (None, False), (None, '"precio"')
    )
]


async def plan(database: Database, sql: str) -> str:
    rows = await database.read(f"EXPLAIN QUERY PLAN {sql}")
    return "\n".join(row[3] for row in rows)


@pytest.mark.parametrize("before", [None, Place(5, 7)])
async def test_a_page_of_threads_is_read_in_the_order_of_an_index(database: Database, before: Place | None) -> None:
    for wanted in FILTERS:
        sql, values = page_query(wanted, before, 50)
        rows = await database.read(f"EXPLAIN QUERY PLAN {sql}", values)
        steps = "\n".join(row[3] for row in rows)
        if wanted.words is None:
            assert "TEMP B-TREE" not in steps, wanted
        else:
            assert "SCAN comments\n" not in steps + "\n", wanted


@pytest.mark.parametrize(
    ("module", "name", "index"),
    [
        (events_store, "_WORDLESS", "events_of_comments"),
        (store, "_BY_KEY", "sqlite_autoindex_comments_1"),
        (store, "_PLACES", "sqlite_autoindex_comments_1"),
        (store, "_THREAD", "comments_by_root"),
        (due_store, "_DUE", "comments_due"),
        (due_store, "_NEXT", "comments_due"),
        (media_store, "_DUE", "comment_media_due"),
        (media_store, "_NEXT", "comment_media_due"),
        (media_store, "_MANY", "sqlite_autoindex_comment_media_1"),
        (outbound_store, "_PRIVATE", "outbound_by_comment"),
        (outbound_store, "_PUBLIC", "outbound_by_comment"),
        (replies_store, "_OWN", "comments_by_root"),
        (personal_data_store, "_BY_AUTHOR", "comments_by_author"),
        (personal_data_store, "_BY_AUTHOR", "comments_by_name"),
    ],
)
async def test_an_index_is_used(database: Database, module: object, name: str, index: str) -> None:
    sql = getattr(module, name)
    for parameter in (":account", ":participant", "?1", "?2"):
        sql = sql.replace(parameter, "'1'")
    steps = await plan(database, sql.replace("?", "1"))
    assert index in steps
    assert "SCAN c\n" not in steps + "\n"
    assert "SCAN comments\n" not in steps + "\n"
