"""Every query of a hot path or a list finds its rows by an index."""

import re
from typing import Any

import pytest
from inboxd.domain.conversation import ConversationStatus
from inboxd.store import (
    avatars,
    backfills,
    conversations,
    deletions,
    erasure,
    events,
    graph_calls,
    inbox,
    profiles,
    retention,
    search,
    statistics,
)
from inboxd.store.conversations import ConversationFilter, Place, _stretches
from inboxd.store.database import Database

STATEMENTS = {
    "pending": inbox._PENDING,
    "backlog": inbox._BACKLOG,
    "failed deliveries": inbox._LIST,
    "all deliveries": inbox._LIST_ALL,
    "deliveries to expire": retention._DELIVERIES,
    "events to expire": retention._EVENTS,
    "messages to expire": retention._MESSAGES,
    "conversation ids": conversations._IDS,
    "messages by mid": conversations._LOAD,
    "derive": conversations._DERIVE,
    "messages of a conversation": conversations._MESSAGES,
    "count messages": conversations._COUNT_MESSAGES,
    "latest": conversations._LATEST,
    "due": profiles._DUE,
    "next due": profiles._NEXT_DUE,
    "look up": profiles._LOOK_UP,
    "one participant": profiles._PARTICIPANTS + " WHERE account_id = ? AND participant_id = ?",
    "due pictures": avatars._DUE,
    "next due picture": avatars._NEXT_DUE,
    "avatars in use": avatars._REFERRED,
    "old avatars": avatars._TRIM,
    "due pictures of a host": avatars._PUT_OFF_HOST,
    "calls": graph_calls._CALLS,
    "forget calls": graph_calls._FORGET,
    "dated candidates": backfills._DATED,
    "undated candidates": backfills._UNDATED,
    "run by account": backfills._ACTIVE,
    "run by key": backfills._BY_KEY,
    "problems of a run": backfills._PROBLEMS,
    "batches of a run": backfills._BATCHES,
    "attempts to expire": backfills._EXPIRE_ATTEMPTS,
    "numbers of profiles": statistics._PROFILES,
    "events": f"{events._PAGE} WHERE kind = ? AND id < ? ORDER BY id DESC LIMIT ?",
    "messages by words": search.MESSAGE_IDS,
    "messages to index": search._INDEX,
    "open deletions": deletions._OPEN,
    "known accounts": deletions._KNOWN,
    "messages to delete": erasure._MESSAGES,
    "conversations to delete": erasure._CONVERSATIONS,
    "conversations of an account to delete": erasure._CONVERSATIONS_OF_ACCOUNT,
    "conversations of a person to delete": erasure._CONVERSATIONS_OF_PERSON,
    "mids of a person": erasure._MIDS,
    **{f"{name} of a person": sql for name, sql in erasure._OF_PERSON.items()},
    **{f"{name} of an account": sql for name, sql in erasure._OF_ACCOUNT.items() if name != "events"},  # has no index
}


async def plan(database: Database, sql: str) -> str:
    named = set(re.findall(r":(\w+)", sql))
    numbered = set(re.findall(r"\?\d+", sql))
    parameters: Any = dict.fromkeys(named) if named else [None] * (len(numbered) or sql.count("?"))
    return "\n".join(str(row[3]) for row in await database.read(f"EXPLAIN QUERY PLAN {sql}", parameters))


@pytest.mark.parametrize("name", STATEMENTS)
async def test_statement_searches(database: Database, name: str) -> None:
    steps = await plan(database, STATEMENTS[name])

    for step in steps.splitlines():
        if step.startswith("SCAN"):
            assert (
                "json_each" in step
                or "VIRTUAL TABLE" in step
                or "CONSTANT" in step
                or step.startswith("SCAN (")
                or "USING" in step
                or (
                    name == "all deliveries" and step == "SCAN deliveries"  # by id, from its end
                )
            ), steps
    assert "TEMP B-TREE FOR ORDER BY" not in steps


@pytest.mark.parametrize(
    "condition",
    [
        ConversationFilter(),
        ConversationFilter(account_id="1"),
        ConversationFilter(status=ConversationStatus.OPEN),
        ConversationFilter(has_unread=True),
        ConversationFilter(account_id="1", status=ConversationStatus.CLOSED, has_unread=False),
        ConversationFilter(before=Place(5, 5)),
        ConversationFilter(account_id="1", before=Place(5, 5)),
    ],
)
async def test_lists_of_conversations_walk_the_index_of_activity(
    database: Database, condition: ConversationFilter
) -> None:
    where, _ = condition.where()
    more, _ = _stretches(condition.before)[0]
    whole = f"{where} AND {more}" if where and more else where or (f" WHERE {more}" if more else "")
    listing = await plan(database, conversations._IDS_OF_PAGE + whole + conversations._ORDER)
    counting = await plan(database, f"SELECT count(*) FROM conversations AS c{where}")

    assert "conversations_by_activity" in listing
    assert "TEMP B-TREE" not in listing
    assert "COVERING INDEX" in counting


def test_kept_events_are_told_apart_by_content() -> None:
    one = events.KeptEvent("unknown", "1", None, None, "reason", b"{}", 1)

    assert one.fingerprint == one._replace(delivery_id=2).fingerprint
    assert one.fingerprint != one._replace(payload=b"[]").fingerprint
    assert one.fingerprint != one._replace(account_id="2").fingerprint
    assert one.fingerprint != one._replace(kind="unknown1", account_id="").fingerprint, "parts do not run together"
