"""Whether webhooks can be taken, as a monitor and Meta see it, when the ground moves under the daemon."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from inboxd import app
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.ingest import Ingest
from inboxd.conversations.search_worker import SearchIndexWorker
from inboxd.receiving import processing_monitor
from inboxd.receiving.processing_monitor import ProcessingMonitor
from inboxd.runtime import supervisor
from inboxd.runtime.backoff import Backoff
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.storage import probe
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, T0, Client, eventually, full_disk


@pytest.fixture
def body() -> bytes:
    return json.dumps(delivery(ACCOUNT, T0, [Conversationalist(ACCOUNT, ANA, T0).says("hi")])).encode()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_file_that_is_gone_acknowledges_nothing(client: Client, body: bytes, how: str) -> None:
    aside = client.database.with_name("aside")
    client.database.rename(aside)
    if how == "replaced":
        shutil.copy(aside, client.database)

    for _ in range(8):
        status, answer, _ = await client.post(body)
        assert (status, b"could not be stored" in answer) == (503, True)
    readiness = await client.get("/readyz", token=None, status=503)
    assert str(client.database) in readiness["problems"][0]

    aside.replace(client.database)
    await client.settled()  # what was refused is in the file all the same: it is processed without another delivery
    assert len(await client.conversations()) == 1
    status, answer, _ = await client.post(body)
    assert status == 200, answer
    assert (await client.get("/readyz", token=None))["ready"]


@pytest.fixture
async def hung(
    settings: Settings, secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    """A daemon that stores and acknowledges, and whose processing hangs."""

    async def hang(_self: Ingest) -> int:
        await asyncio.sleep(60)
        return 0

    monkeypatch.setattr(Ingest, "process", hang)
    monkeypatch.setattr(processing_monitor, "ROUND_S", 0.02)
    monkeypatch.setattr(processing_monitor, "STALLED_AFTER_S", 0.1)
    path = tmp_path / "inboxd.sqlite3"
    async with (
        app.run_daemon(settings, secrets, path, on_give_up=pytest.fail) as daemon,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, daemon.public_url, daemon.admin_url, path)


async def test_work_that_is_not_done_is_not_ready(hung: Client, body: bytes) -> None:
    assert (await hung.get("/readyz", token=None))["ready"]
    status, _, _ = await hung.post(body)
    assert status == 200

    async def said() -> bool:
        async with hung.session.get(hung.admin_url + "/readyz") as response:
            problems: list[str] = (await response.json())["problems"]
            return response.status == 503 and any("none is processed since 20" in one for one in problems)

    await eventually(said)
    problems = (await hung.get("/api/workers"))["problems"]
    assert ["none is processed since 20" in one for one in problems] == [True]


async def test_intake_goes_on_while_a_worker_cannot_run(
    settings: Settings, secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    async def crash(_self: SearchIndexWorker) -> float:
        msg = "an odd value"
        raise ValueError(msg)

    monkeypatch.setattr(SearchIndexWorker, "poll", crash)
    monkeypatch.setattr(supervisor, "_BACKOFF", Backoff(base_s=0.001))
    path = tmp_path / "inboxd.sqlite3"
    async with (
        app.run_daemon(settings, secrets, path, on_give_up=pytest.fail) as daemon,
        aiohttp.ClientSession() as session,
    ):
        client = Client(session, daemon.public_url, daemon.admin_url, path)

        async def parked() -> bool:
            degraded: list[str] = (await client.get("/readyz", token=None))["degraded"]
            return len(degraded) == 1 and degraded[0].startswith("the worker search crashes again and again since 20")

        await eventually(parked, within_s=30)
        (worker,) = (await client.get("/api/workers"))["parked"]
        assert (worker["name"], worker["crashes"], worker["reason"]) == ("search", 5, "ValueError: an odd value")
        status, _, _ = await client.post(body)
        assert status == 200
        await client.settled()
        assert len(await client.conversations()) == 1


async def test_a_full_disk_is_told_until_it_has_room_though_nobody_writes(
    settings: Settings, secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """Meta backs off, so that no delivery may come for long: the daemon itself must find out, and not too soon."""
    looks = Counter[str]()

    def counted(kind: type, name: str) -> None:
        original = getattr(kind, name)

        async def counting(self: object) -> object:
            try:
                return await original(self)
            finally:
                looks[name] += 1

        monkeypatch.setattr(kind, name, counting)

    counted(Database, "probe")
    counted(ProcessingMonitor, "look")
    monkeypatch.setattr(processing_monitor, "ROUND_S", 0.02)
    monkeypatch.setattr(probe, "PROBE_S", 0.05)
    path = tmp_path / "inboxd.sqlite3"
    async with (
        app.run_daemon(settings, secrets, path, on_give_up=pytest.fail) as daemon,
        aiohttp.ClientSession() as session,
    ):
        client = Client(session, daemon.public_url, daemon.admin_url, path)
        assert (await client.post(body))[0] == 200

        async def quiet() -> bool:
            people = (await client.get("/api/participants"))["participants"]
            return bool(people) and all(person["avatar"] for person in people)

        await eventually(quiet)  # so that nobody else has anything to write

        async def ready() -> bool:
            async with session.get(daemon.admin_url + "/readyz") as response:
                return response.status == 200

        async def looked() -> bool:
            return looks["look"] >= 4 and looks["probe"] >= 2

        with full_disk(path):
            assert (await client.post(body))[0] == 503
            looks.clear()
            await eventually(looked)
            readiness = await client.get("/readyz", token=None, status=503)
            assert "webhooks cannot be stored" in readiness["problems"][0]
        await eventually(ready)
        assert (await client.post(body))[0] == 200
