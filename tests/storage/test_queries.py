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
from inboxd.conversations.store import ConversationFilter, _both, _stretches
from inboxd.domain.conversation import ConversationStatus
from inboxd.domain.paging import Place
from inboxd.events import personal_data_store as events_data
from inboxd.events import store as event_log
from inboxd.forwarding import delivery_store as forwarded_deliveries
from inboxd.forwarding import personal_data_store as forwarding_data
from inboxd.forwarding import progress_store as progress
from inboxd.forwarding import store as endpoints
from inboxd.maintenance import statistics_store as statistics
from inboxd.privacy import deletion_store as deletions
from inboxd.profiles import avatar_store as avatars
from inboxd.profiles import personal_data_store as profiles_data
from inboxd.profiles import store as profiles
from inboxd.receiving import personal_data_store as receiving_data
from inboxd.receiving import store as inbox
from inboxd.receiving import webhook_event_store as webhook_events
from inboxd.runs import personal_data_store as runs_data
from inboxd.runs import store as runs
from inboxd.runs.backfill import store as backfills
from inboxd.runs.history import imported_conversations_store as imported
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
    "messages in the order of their arrival": conversations._STORED_AFTER,
    "the newest message": conversations._NEWEST,
    "the last message that was read": conversations._LAST_READ,
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
    "run by account": runs._ACTIVE,
    "run by key": runs._BY_KEY,
    "problems of a run": runs._PROBLEMS,
    "batches of a run": runs._BATCHES,
    "items of runs to expire": runs._EXPIRE_ITEMS,
    "numbers of profiles": statistics._PROFILES,
    "webhook events": f"{webhook_events._PAGE} WHERE kind = ? AND id < ? ORDER BY id DESC LIMIT ?",
    "last event": event_log._TOTAL,
    "ends of the event log": event_log._ENDS,
    "events": f"{event_log._PAGE} ORDER BY seq LIMIT ?",
    "events of some kind": f"{event_log._PAGE}{''.join(event_log._CONDITIONS.values())} ORDER BY seq LIMIT ?",
    "events of messages that were taken back": event_log._BLANK,
    "events that are too old": event_log._OLD,
    "events that are too many": event_log._TOO_MUCH,
    "oldest events": event_log._OLDEST,
    "next event": event_log._FOLLOWING,
    "who was erased": event_log._ERASED,
    "events that may mention a person": events_data._LOOK.replace("mentioned(", "upper("),
    "prune events": event_log._PRUNE,
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
    "one endpoint": endpoints._ONE,
    "events at a time": endpoints._EVENT_AT,
    "deliveries at a time": endpoints._DELIVERY_AT,
    "retries of a lane": progress._LANE,
    "lanes with retries": progress._LANES,
    "failures": progress._PAGE,
    "failures in a state": progress._PAGE_OF_STATE,
    "old failures": progress._TRIM_FAILED,
    "attempts of an endpoint": progress._ATTEMPTS,
    "old attempts": progress._TRIM,
    "the event after a cursor": progress._NEXT_EVENT,
    "the delivery after a cursor": progress._NEXT_DELIVERY,
    "deliveries after a cursor": forwarded_deliveries._SIZES,
    "attempts at endpoints to expire": forwarding_data._BY_ID,
    "imported conversations": imported._KNOWN,
    "items that are done": imported._DONE,
    "messages that are readable": imported._READABLE,
    "imported conversations of a person": runs_data._IMPORTED_OF_PARTICIPANT,
    "items of runs of a person": runs_data._ITEMS_OF_PARTICIPANT,
    **{f"{name} of an account": sql for name, sql in (runs_data._OF_ACCOUNT | accounts_data._ERASE).items()},
}


FROM_AN_END = {
    ("all deliveries", "SCAN deliveries"),
    ("last event", "SCAN events"),
    ("size of the event log", "SCAN events"),
    ("events that are too many", "SCAN events"),
    ("ends of the event log", "SCAN event_log"),
    ("ends of the event log", "SCAN sqlite_sequence"),
}
"""What walks a table by its id up to a LIMIT, or a table of a handful of rows."""


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
                or (name, step) in FROM_AN_END
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
    listing = await plan(database, conversations._IDS_OF_PAGE + _both(where, more) + conversations._ORDER)
    counting = await plan(database, f"SELECT count(*) FROM conversations AS c{where}")

    assert "conversations_by_activity" in listing
    assert "TEMP B-TREE" not in listing
    assert "COVERING INDEX" in counting


@pytest.mark.parametrize(
    "condition",
    [
        ConversationFilter(),
        ConversationFilter(account_id="1"),
        ConversationFilter(status=ConversationStatus.OPEN),
        ConversationFilter(account_id="1", status=ConversationStatus.CLOSED, has_unread=False),
    ],
)
async def test_lists_of_updates_walk_the_index_of_updates_from_the_place_on(
    database: Database, condition: ConversationFilter
) -> None:
    where, _ = condition.where()
    listing = await plan(database, conversations._updates(where))
    counting = await plan(database, "SELECT count(*) FROM conversations AS c" + _both(where, conversations._SINCE))

    assert listing == "SEARCH c USING COVERING INDEX conversations_by_update (updated_at>?)"
    assert counting == "SEARCH c USING COVERING INDEX conversations_by_update (updated_at>?)"


@pytest.mark.parametrize("more", ["", _stretches(Place(5, 5))[0][0], conversations._AFTER])
@pytest.mark.parametrize("account_id", [None, "1"])
async def test_the_conversations_of_a_participant_are_found_by_an_index(
    database: Database, account_id: str | None, more: str
) -> None:
    where, _ = ConversationFilter(account_id=account_id, participant_id="2", has_unread=True).where()
    order = conversations._ORDER_OF_UPDATES if more == conversations._AFTER else conversations._ORDER
    listing = await plan(database, conversations._IDS_OF_PAGE + _both(where, more) + order)

    assert listing.startswith("SEARCH c USING INDEX conversations_by_participant (participant_id=?)")


@pytest.mark.parametrize(
    "statement", [messages._DERIVE, conversations._CHANGE, conversations._MARK_READ, conversations.PARTICIPANT_CHANGED]
)
async def test_the_latest_update_is_found_at_the_end_of_its_index(database: Database, statement: str) -> None:
    steps = await plan(database, statement)

    assert "SEARCH conversations USING COVERING INDEX conversations_by_update (updated_at<?)" in steps


def test_webhook_events_are_told_apart_by_content() -> None:
    one = webhook_events.StoredWebhookEvent("unknown", "1", None, None, "reason", b"{}", 1)

    assert one.fingerprint == one._replace(delivery_id=2).fingerprint
    assert one.fingerprint != one._replace(payload=b"[]").fingerprint
    assert one.fingerprint != one._replace(account_id="2").fingerprint
    assert one.fingerprint != one._replace(kind="unknown1", account_id="").fingerprint, "parts do not run together"
