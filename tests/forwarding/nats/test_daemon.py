"""A daemon that publishes to NATS: killed under load, and as its API, its overview and its metrics show it."""

import asyncio
import json
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from inboxd import app
from inboxd.config.schema import ForwardSettings, NatsSettings, Settings
from inboxd.config.secrets import Secrets
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid
from msgspec.structs import replace

from tests.e2e.conftest import Process
from tests.forwarding.nats.servers import STREAM, NatsServer, messages, reader
from tests.support import ACCOUNT, ADMIN_TOKEN, APP_SECRET, T0, Client, eventually

ROUNDS = 6
SENDERS = 8


@pytest.fixture
def inboxd(tmp_path: Path, server: NatsServer) -> Iterator[Process]:
    process = Process(tmp_path, INBOXD_FORWARD__NATS__URL=server.url)
    yield process
    if process.process is not None and process.process.poll() is None:
        process.process.kill()
        process.process.wait()
    process.logged()


@pytest.fixture
async def client(settings: Settings, secrets: Secrets, tmp_path: Path, server: NatsServer) -> AsyncIterator[Client]:
    """A running daemon that publishes, and somebody who talks to it."""
    forward = ForwardSettings(nats=NatsSettings(url=server.url))
    path = tmp_path / "inboxd.sqlite3"
    async with (
        app.run_daemon(replace(settings, forward=forward), secrets, path, on_give_up=pytest.fail) as daemon,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, daemon.public_url, daemon.admin_url, path)


async def bombard(inboxd: Process, people: list[Conversationalist], seconds: float) -> None:
    """Send messages from many connections, and kill the daemon in the midst of it."""
    url = f"http://127.0.0.1:{inboxd.public}/webhooks/instagram"

    async def sender(session: aiohttp.ClientSession, who: Conversationalist) -> None:
        while True:
            body = json.dumps(delivery(ACCOUNT, T0, [who.says("still there?") for _ in range(10)])).encode()
            try:
                async with session.post(url, data=body, headers={HEADER: sign(body, APP_SECRET)}) as response:
                    await response.read()
            except (aiohttp.ClientError, ConnectionError):
                return

    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.create_task(sender(session, who)) for who in people]
        await asyncio.sleep(seconds)
        inboxd.signal(signal.SIGKILL)
        await asyncio.gather(*tasks)


def event_ids(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT recorded_at, seq FROM events ORDER BY seq").fetchall()
    connection.close()
    return [f"evt_{at:012x}{seq:014x}" for at, seq in rows]


def waiting(database: Path) -> tuple[int, int]:
    """Deliveries to process, and events to publish."""
    with sqlite3.connect(database) as connection:
        ((deliveries,),) = connection.execute("SELECT count(*) FROM deliveries WHERE state = 'pending'")
        ((events,),) = connection.execute(
            "SELECT count(*) FROM events WHERE seq > coalesce((SELECT cursor FROM event_consumers), 0)"
        )
    connection.close()
    return deliveries, events


@pytest.mark.long
@pytest.mark.parametrize("window_s", [0.1, 120])
async def test_a_daemon_that_is_killed_under_load_loses_nothing_and_publishes_nothing_twice(
    inboxd: Process, server: NatsServer, window_s: float
) -> None:
    """Also where the stream has long forgotten which events it has."""
    rng = random.Random(7)
    people = [Conversationalist(ACCOUNT, igsid(number), T0) for number in range(SENDERS)]
    async with reader(server.url) as client:
        await client.jetstream().add_stream(name=STREAM, subjects=["inboxd.events.>"], duplicate_window=window_s)
        again = 0
        for _ in range(ROUNDS):
            await asyncio.to_thread(inboxd.start)
            await bombard(inboxd, people, rng.uniform(0.3, 1.2))
            await asyncio.to_thread(inboxd.wait)
            published = (await client.jetstream().stream_info(STREAM)).state.messages
            again += published > len(event_ids(inboxd.database)) - waiting(inboxd.database)[1]
            await asyncio.sleep(0.2)
        await asyncio.to_thread(inboxd.start)

        async def done() -> bool:
            return waiting(inboxd.database) == (0, 0)

        await eventually(done, within_s=60)
        inboxd.signal(signal.SIGTERM)
        assert await asyncio.to_thread(inboxd.wait) == 0
        found = [one for one, _, _ in await messages(client)]
    assert again, "each time the cursor was stored before the daemon was killed: nothing was tried"
    assert len(found) > 500
    assert found == event_ids(inboxd.database)


async def test_the_api_the_overview_and_the_metrics_show_it(client: Client, server: NatsServer) -> None:
    ana = Conversationalist(ACCOUNT, "7000000000000001", T0)
    await client.deliver(ana.says("hello"))
    await client.settled()

    async def done() -> bool:
        (consumer,) = (await client.get("/api/consumers"))["consumers"]
        return bool(consumer["connected"] and consumer["behindBy"] == 0 and consumer["lastSuccessAt"])

    await eventually(done)

    async def same() -> bool:
        events = (await client.get("/api/events?limit=200"))["events"]
        async with reader(server.url) as nats:
            found = [json.loads(body) for _, _, body in await messages(nats)]
        return found == events and "message.received" in {event["type"] for event in found}

    await eventually(same)
    await eventually(done)
    assert await shown(client, "/") >= {"Connected to", "0 events behind", "Last success"}
    text = await page(client, "/metrics")
    assert "inboxd_nats_connected 1.0" in text
    assert "inboxd_nats_behind_events 0.0" in text

    server.end()
    await client.deliver(ana.says("anybody there?"))

    async def waits() -> bool:
        (consumer,) = (await client.get("/api/consumers"))["consumers"]
        return (
            not consumer["connected"] and consumer["behindBy"] > 0 and "cannot connect" in (consumer["waitsFor"] or "")
        )

    await eventually(waits)
    assert await shown(client, "/") >= {"Not connected", "cannot connect"}
    await client.get("/readyz")  # 200: messages are received all the same
    assert "inboxd_nats_connected 0.0" in await page(client, "/metrics")


async def page(client: Client, path: str) -> str:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with client.session.get(client.admin_url + path, headers=headers) as response:
        assert response.status == 200
        return await response.text()


async def shown(client: Client, path: str) -> set[str]:
    """Which of the words that a test looks for stand on a page."""
    words = ("Connected to", "Not connected", "0 events behind", "Last success", "cannot connect")
    text = await page(client, path)
    return {word for word in words if word in text}
