"""Three servers that replicate the stream: one after another is killed under load, the leader among them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from inboxd.storage.database import Database
from nats.js.errors import APIError

from tests.forwarding.nats.publishing import Publishing
from tests.forwarding.nats.servers import STREAM, NatsServer, free_port, messages, missing, reader
from tests.support import eventually


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[NatsServer]]:
    """Three servers that know each other."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    servers = []
    for number, port in enumerate(ports):
        folder = tmp_path / f"nats{number}"
        folder.mkdir()
        config = f'cluster {{ name: three, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
        servers.append(NatsServer(folder, f"server_name: n{number}\n{config}"))
    for one in servers:
        await one.start()
    yield servers
    for one in servers:
        one.end()


@pytest.mark.long
async def test_order_and_number_are_kept_while_leaders_change(database: Database, cluster: list[NatsServer]) -> None:
    urls = ",".join(one.url for one in cluster)
    async with reader(cluster[0].url) as client:
        context = client.jetstream()

        async def made() -> bool:
            try:
                await context.add_stream(name=STREAM, subjects=["inboxd.events.>"], num_replicas=3)
            except (APIError, TimeoutError):
                return False
            return True

        await eventually(made, within_s=60)
    publishing = Publishing(database, urls)
    await publishing.start()

    async def load() -> None:
        for _ in range(300):
            await publishing.append(10)
            await asyncio.sleep(0.02)

    loading = asyncio.create_task(load())
    for one in cluster:
        await asyncio.sleep(0.7)
        one.end()
        await asyncio.sleep(0.7)
        await one.start()

        async def whole(url: str = one.url) -> bool:
            try:
                async with reader(url) as client:
                    found = (await client.jetstream().stream_info(STREAM)).cluster
            except (APIError, TimeoutError):
                return False
            return bool(found and found.leader and all(peer.current for peer in found.replicas or []))

        await eventually(whole, within_s=60)
    await loading
    await publishing.done()
    assert (await publishing.status()).last_error, "no server that it talked to was killed: nothing was tried"
    await publishing.stop()
    found: list[str] = []

    async def read() -> bool:
        try:
            async with reader(urls.split(",")) as client:
                found[:] = [one for one, _, _ in await messages(client)]
        except (APIError, TimeoutError):  # the cluster may still be busy with itself
            return False
        return True

    await eventually(read, within_s=60)
    assert found == [one for one, _ in await publishing.logged()]
    assert len(found) == 3000
