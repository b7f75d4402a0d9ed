"""Nothing is lost between the log and a receiver when the daemon is killed under load: counted at a real receiver."""

import asyncio
import json
import random
import signal
from collections import Counter
from typing import Any

import aiohttp
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid

from tests.e2e.conftest import Process
from tests.forwarding.receivers import Receiver, receiving
from tests.support import ACCOUNT, ADMIN_TOKEN, APP_SECRET, T0, eventually

KILLS = 4
PEOPLE = 8


async def send(inboxd: Process, people: list[Conversationalist], stop: asyncio.Event) -> None:
    """Meta sends from many connections until `stop`, or until nobody answers."""
    url = f"http://127.0.0.1:{inboxd.public}/webhooks/instagram"

    async def sender(session: aiohttp.ClientSession, who: Conversationalist) -> None:
        while not stop.is_set():
            body = json.dumps(delivery(ACCOUNT, T0, [who.says("still there?")])).encode()
            try:
                async with session.post(url, data=body, headers={HEADER: sign(body, APP_SECRET)}) as response:
                    await response.read()
            except (aiohttp.ClientError, ConnectionError):
                return
            await asyncio.sleep(0.005)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as senders:
        for who in people:
            senders.create_task(sender(session, who))


async def call(inboxd: Process, method: str, path: str, body: object = None) -> Any:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, f"http://127.0.0.1:{inboxd.admin}{path}", json=body) as response,
    ):
        assert response.status < 300, await response.text()
        return await response.json()


async def recorded(inboxd: Process) -> list[str]:
    """The ids of all events of the log that the endpoint wants, in order."""
    found: list[str] = []
    after = "0"
    while True:
        page = await call(inboxd, "GET", f"/api/events?types=message.received&after={after}&limit=500")
        found += [event["id"] for event in page["events"]]
        if not page["hasMore"]:
            return found
        after = page["nextCursor"]


async def test_a_receiver_gets_every_event_although_the_daemon_is_killed(inboxd: Process) -> None:
    people = [Conversationalist(ACCOUNT, igsid(number), T0) for number in range(PEOPLE)]
    async with receiving() as receiver:
        await asyncio.to_thread(inboxd.start)
        made = await call(
            inboxd, "POST", "/api/webhook-endpoints", {"url": receiver.url, "eventTypes": ["message.received"]}
        )
        before_kill: list[set[str]] = []
        for number in range(KILLS):
            stop = asyncio.Event()
            sending = asyncio.create_task(send(inboxd, people, stop))
            await some_more(receiver, 100 * (number + 1))
            inboxd.signal(signal.SIGKILL)
            await asyncio.to_thread(inboxd.wait)
            stop.set()
            await sending
            before_kill.append(set(receiver.ids))
            await asyncio.to_thread(inboxd.start)
        await asyncio.sleep(random.random())
        await caught_up(inboxd, made["id"])
        log = await recorded(inboxd)
        inboxd.signal(signal.SIGTERM)
        assert await asyncio.to_thread(inboxd.wait) == 0

        assert len(log) > 100 * KILLS
        assert set(receiver.ids) == set(log), "nothing is lost"
        twice = {one for one, count in Counter(receiver.ids).items() if count > 1}
        assert twice <= set().union(*before_kill), "only what was sent shortly before a kill comes again"

        got = len(receiver.ids)
        await asyncio.to_thread(inboxd.start)
        await caught_up(inboxd, made["id"])
        assert len(receiver.ids) == got, "a restart in peace sends nothing again"


async def some_more(receiver: Receiver, count: int) -> None:
    async def there() -> bool:
        return len(set(receiver.ids)) >= count

    await eventually(there, within_s=60)


async def caught_up(inboxd: Process, endpoint_id: str) -> None:
    async def done() -> bool:
        pending = (await call(inboxd, "GET", "/api/deliveries?state=pending"))["total"]
        return bool(
            pending == 0 and (await call(inboxd, "GET", f"/api/webhook-endpoints/{endpoint_id}"))["behindBy"] == 0
        )

    await eventually(done, within_s=60)
