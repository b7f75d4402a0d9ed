"""No query of reconciliation reads a whole table that grows with the inbox."""

import re

import pytest
from inboxd.reconciliation import completeness_store, healing_store, lookups_store, store
from inboxd.storage.database import Database

LARGE = ("messages", "conversations", "listed_conversations", "missed_messages", "early_changes", "message_lookups")


@pytest.mark.parametrize(
    "sql",
    [
        store._DUE,
        store._WAITING,
        store._PARTIES,
        store._READ,
        store._OPEN,
        store._ARRIVED,
        store._ERASED,
        store._MARK_ERASED,
        store._UNSERVED,
        healing_store._SHOWN,
        healing_store._LATE,
        healing_store._FOUND,
        lookups_store._KNOWN,
        lookups_store._EARLY,
        lookups_store._UNKNOWN,
        lookups_store._DUE,
        completeness_store._ACCOUNT,
        completeness_store._HOURS,
        completeness_store._MISSED,
        completeness_store._MEDIAN,
    ],
)
async def test_queries_use_an_index(database: Database, sql: str) -> None:
    count = max([sql.count("?"), *(int(number) for number in re.findall(r"\?(\d)", sql))])
    numbered = re.search(r"\?\d", sql) is not None
    parameters = ["[]"] * (max(int(number) for number in re.findall(r"\?(\d)", sql)) if numbered else count)
    plan = [row[3] for row in await database.read(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    assert plan
    scanned = [line for line in plan if re.match(r"SCAN (\w+)", line) and "VIRTUAL" not in line]
    assert not [line for line in scanned if "CONSTANT" not in line and "INDEX" not in line], plan
    assert not [line for line in plan if re.match(rf"SCAN ({'|'.join(LARGE)}|[mclxe])$", line)], plan
