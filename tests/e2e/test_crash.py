"""Nothing acknowledged is ever lost: the real process is killed under load, again and again.

`INBOXD_CRASH_ROUNDS=200 pytest tests/e2e/test_crash.py` for a longer look.
"""

import asyncio
import json
import os
import random
import signal
import sqlite3
import time

import aiohttp
import pytest
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Conversationalist, delivery, mid_of
from inboxd.simulator.people import igsid

from tests.e2e.conftest import Process
from tests.support import ACCOUNT, APP_SECRET, T0

ROUNDS = int(os.environ.get("INBOXD_CRASH_ROUNDS", "20"))
SENDERS = 16
STATE_AND_EVENTS = """
SELECT id, (SELECT count(*) FROM events WHERE message_id = m.id AND type = 'message.received') AS told
FROM messages AS m WHERE told <> 1
UNION ALL
SELECT id, (SELECT count(*) FROM events WHERE conversation_id = c.id AND type = 'conversation.created') AS told
FROM conversations AS c WHERE told <> 1
UNION ALL
SELECT seq, 0 FROM events
WHERE message_id NOT IN (SELECT id FROM messages) OR conversation_id NOT IN (SELECT id FROM conversations)
"""


async def bombard(inboxd: Process, people: list[Conversationalist], acknowledged: list[str], seconds: float) -> None:
    """Send from many connections, kill the process in the midst of it, and note whose message got its 200."""
    url = f"http://127.0.0.1:{inboxd.public}/webhooks/instagram"

    async def sender(session: aiohttp.ClientSession, who: Conversationalist) -> None:
        while True:
            items = [who.says("still there?") for _ in range(random.randint(1, 4))]
            body = json.dumps(delivery(ACCOUNT, T0, items)).encode()
            try:
                async with session.post(url, data=body, headers={HEADER: sign(body, APP_SECRET)}) as response:
                    if response.status == 200:
                        acknowledged.extend(mid_of(item) for item in items)
            except (aiohttp.ClientError, ConnectionError):
                return

    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.create_task(sender(session, who)) for who in people]
        await asyncio.sleep(seconds)
        inboxd.signal(signal.SIGKILL)
        await asyncio.gather(*tasks)


@pytest.mark.long
def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(inboxd: Process) -> None:
    rng = random.Random(7)
    people = [Conversationalist(ACCOUNT, igsid(number), T0) for number in range(SENDERS)]
    acknowledged: list[str] = []
    for _ in range(ROUNDS):
        inboxd.start()
        asyncio.run(bombard(inboxd, people, acknowledged, rng.uniform(0.05, 0.4)))
        inboxd.wait()

    inboxd.start()
    deadline = time.monotonic() + 60
    while inboxd.get("/api/deliveries?state=pending")[1]["total"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    inboxd.signal(signal.SIGTERM)
    assert inboxd.wait() == 0

    with sqlite3.connect(inboxd.database) as connection:
        stored = [row[0] for row in connection.execute("SELECT mid FROM messages")]
        unequal = connection.execute(STATE_AND_EVENTS).fetchall()
        failed = connection.execute("SELECT count(*) FROM deliveries WHERE state <> 'done'").fetchone()
        check = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    assert len(acknowledged) > ROUNDS * SENDERS
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))
    assert unequal == [], "state without an event, an event without state, or an event twice"
    assert (failed, check) == ((0,), ("ok",))
