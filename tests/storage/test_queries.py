"""Every query of a hot path or a list finds its rows by an index."""

import re
from typing import Any

import pytest
from inboxd.accounts import call_log_store as graph_calls
from inboxd.accounts import personal_data_store as accounts_data
from inboxd.conversations import message_store as messages
from inboxd.conversations import personal_data_store as conversations_data
from inboxd.conversations import search_store as search
from inboxd.conversations import store as conversations
from inboxd.conversations.store import ConversationFilter, _stretches
from inboxd.domain.conversation import ConversationStatus
from inboxd.domain.paging import Place
from inboxd.maintenance import statistics_store as statistics
from inboxd.privacy import deletion_store as deletions
from inboxd.profiles import avatar_store as avatars
from inboxd.profiles import personal_data_store as profiles_data
from inboxd.profiles import store as profiles
from inboxd.receiving import personal_data_store as receiving_data
from inboxd.receiving import store as inbox
from inboxd.receiving import webhook_event_store as webhook_events
from inboxd.runs.backfill import personal_data_store as backfill_data
from inboxd.runs.backfill import store as backfills
from inboxd.storage import account_rows
from inboxd.storage.database import Database

STATEMENTS = {
    "pending": inbox._PENDING,
    "backlog": inbox._BACKLOG,
    "failed deliveries": inbox._LIST,
    "all deliveries": inbox._LIST_ALL,
    "deliveries to expire": receiving_data._DELIVERIES_BY_STATE,
    "webhook events to expire": receiving_data._EVENTS_BY_ID,
    "messages to expire": conversations_data._BY_ID,
    "conversation ids": messages._IDS,
    "messages by mid": messages._LOAD,
    "derive": messages._DERIVE,
    "messages of a conversation": conversations._MESSAGES,
    "count messages": conversations._COUNT_MESSAGES,
    "last message of an account": conversations._LAST_MESSAGE_AT,
    "latest": conversations._LATEST,
    "conversation of a fetched profile": conversations.PARTICIPANT_CHANGED,
    "due": profiles._DUE,
    "next due": profiles._NEXT_DUE,
    "look up": profiles._LOOK_UP,
    "one participant": profiles._PARTICIPANTS + " WHERE account_id = ? AND participant_id = ?",
    "due pictures": avatars._DUE,
    "next due picture": avatars._NEXT_DUE,
    "avatars in use": avatars._REFERRED,
    "old avatars": avatars._TRIM,
    "due pictures of a host": avatars._POSTPONE_HOST,
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
    "webhook events": f"{webhook_events._PAGE} WHERE kind = ? AND id < ? ORDER BY id DESC LIMIT ?",
    "messages by words": search.MESSAGE_IDS,
    "messages to index": search._INDEX,
    "changed messages to index one by one": search._CHANGED_IDS,
    "new messages to index one by one": search._NEW_IDS,
    "open deletions": deletions._OPEN,
    "known accounts": accounts_data._KNOWN,
    "known conversations": account_rows._ANY.format(table="conversations"),
    "known participants": account_rows._ANY.format(table="participants"),
    "messages to delete": conversations_data._ERASE_MESSAGES,
    "conversations to delete": conversations_data._ERASE_CONVERSATIONS,
    "conversations of an account to delete": conversations_data._OF_ACCOUNT,
    "conversations of a person to delete": conversations_data._OF_PARTICIPANT,
    "mids of a person": conversations_data._MID_KEYS,
    "early changes of an account": conversations_data._ERASE_EARLY_CHANGES_OF_ACCOUNT,
    "profiles of a person": profiles_data._OF_PARTICIPANT,
    "profiles of an account": profiles_data._OF_ACCOUNT,
    "webhook events of a person": receiving_data._EVENTS_OF_PARTICIPANT,  # those of an account have no index
    "backfill_attempts of a person": backfill_data._ATTEMPTS_OF_PARTICIPANT,
    **{f"{name} of an account": sql for name, sql in (backfill_data._OF_ACCOUNT | accounts_data._ERASE).items()},
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


def test_webhook_events_are_told_apart_by_content() -> None:
    one = webhook_events.StoredWebhookEvent("unknown", "1", None, None, "reason", b"{}", 1)

    assert one.fingerprint == one._replace(delivery_id=2).fingerprint
    assert one.fingerprint != one._replace(payload=b"[]").fingerprint
    assert one.fingerprint != one._replace(account_id="2").fingerprint
    assert one.fingerprint != one._replace(kind="unknown1", account_id="").fingerprint, "parts do not run together"
