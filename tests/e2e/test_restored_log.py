"""A restored database is older than what readers of its event log have read."""

import json
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.e2e.conftest import Process
from tests.support import ACCOUNT, ANA, APP_SECRET, T0


def say(inboxd: Process, person: Conversationalist, text: str) -> None:
    """A message arrives, and is in the log afterwards."""
    body = json.dumps(delivery(ACCOUNT, T0, [person.says(text)])).encode()
    headers = {HEADER: sign(body, APP_SECRET)}
    url = f"http://127.0.0.1:{inboxd.public}/webhooks/instagram"
    request = Request(url, body, headers)
    with urlopen(request, timeout=10) as answer:  # noqa: S310 - http
        assert answer.status == 200
    deadline = time.monotonic() + 20
    while text not in texts(inboxd):
        assert time.monotonic() < deadline, "the message is not in the log"
        time.sleep(0.02)


def stop(inboxd: Process) -> None:
    inboxd.signal(signal.SIGTERM)
    assert inboxd.wait() == 0


def page(inboxd: Process, query: str) -> Any:
    status, answer = inboxd.get(f"/api/events?limit=500{query}")
    assert status == 200, answer
    return answer


def texts(inboxd: Process, after: str | None = None) -> list[str]:
    """The messages that a reader gets, page by page."""
    found, more = [], True
    while more:
        answer = page(inboxd, "" if after is None else f"&after={after}")
        found += [one["data"]["message"]["content"] for one in answer["events"] if one["type"] == "message.received"]
        after, more = answer["nextCursor"], answer["hasMore"]
    return found


def numbers(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM events ORDER BY seq")]


def restore(inboxd: Process, backup: Path) -> None:
    restored = inboxd.run("restore", str(backup))
    assert restored.returncode == 0, restored.stderr


def test_after_a_restore_no_number_is_given_twice_and_old_cursors_go_on(inboxd: Process, tmp_path: Path) -> None:
    person = Conversationalist(ACCOUNT, ANA, T0)
    backup = tmp_path / "backup.sqlite3"
    inboxd.start()
    say(inboxd, person, "before the backup")
    early = page(inboxd, "")["nextCursor"]
    assert inboxd.run("backup", str(backup)).returncode == 0
    say(inboxd, person, "lost by the restore")
    late = page(inboxd, "")["nextCursor"]
    stop(inboxd)
    given = numbers(inboxd.database)

    restore(inboxd, backup)
    inboxd.start()
    say(inboxd, person, "after the restore")
    for cursor in (early, late):
        assert texts(inboxd, cursor) == ["after the restore"]
    assert texts(inboxd) == ["before the backup", "after the restore"]
    stop(inboxd)
    first = [one for one in numbers(inboxd.database) if one not in given]
    assert min(first) > max(given)

    restore(inboxd, backup)  # the same backup once more: nor are the numbers of the first restore given again
    inboxd.start()
    say(inboxd, person, "after the second restore")
    stop(inboxd)
    second = [one for one in numbers(inboxd.database) if one not in given]
    assert min(second) > max(first)


def test_numbers_go_on_where_the_replaced_database_is_lost(inboxd: Process, tmp_path: Path) -> None:
    person = Conversationalist(ACCOUNT, ANA, T0)
    backup = tmp_path / "backup.sqlite3"
    inboxd.start()
    say(inboxd, person, "before the backup")
    assert inboxd.run("backup", str(backup)).returncode == 0
    stop(inboxd)
    given = numbers(inboxd.database)
    for _ in range(2):
        for file in tmp_path.glob("inboxd.sqlite3*"):
            file.unlink()
        restore(inboxd, backup)
        inboxd.start()
        say(inboxd, person, "after a restore")
        stop(inboxd)
        found = [one for one in numbers(inboxd.database) if one not in given]
        assert min(found) > max(given)
        given += found
