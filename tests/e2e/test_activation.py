"""Restarts through a socket that somebody else keeps, and reloading: nobody outside notices either."""

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.e2e.conftest import Process
from tests.e2e.test_process import hello, post
from tests.fork_server import INBOXD
from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, APP_SECRET, T0, eventually

RESTARTS = 20


class Activated(Process):
    """A daemon that gets its public socket as systemd gives it: descriptor 3, $LISTEN_FDS and $LISTEN_PID."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.public = self.socket.getsockname()[1]
        del self.environment["INBOXD_PUBLIC__PORT"]

    def launch(self) -> None:
        descriptor = self.socket.fileno()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["/bin/bash", "-c", f'LISTEN_PID=$$ LISTEN_FDS=1 exec "{INBOXD}" run 3<&{descriptor}'],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                pass_fds=(descriptor,),
            )


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Activated]:
    process = Activated(tmp_path)
    yield process
    process.socket.close()
    if process.process is not None and process.process.poll() is None:
        process.process.kill()
        process.process.wait()


@pytest.mark.long
async def test_twenty_restarts_refuse_no_webhook(activated: Activated) -> None:
    activated.launch()
    url = f"http://127.0.0.1:{activated.public}/webhooks/instagram"
    person = Conversationalist(ACCOUNT, ANA, T0)
    answers: list[int | str] = []
    over = asyncio.Event()

    async def send(session: aiohttp.ClientSession) -> None:
        while not over.is_set():
            body = json.dumps(delivery(ACCOUNT, T0, [person.says("hola")])).encode()
            try:
                async with session.post(url, data=body, headers={HEADER: sign(body, APP_SECRET)}) as response:
                    answers.append(response.status)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                answers.append(repr(error))
            await asyncio.sleep(0.005)

    # A connection for each request, as nginx makes them unless it is told otherwise.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        senders = [asyncio.create_task(send(session)) for _ in range(8)]
        for _ in range(RESTARTS):
            answered = len(answers)

            async def some_more(before: int = answered) -> bool:
                return len(answers) > before + 20

            await eventually(some_more, within_s=30)
            activated.signal(signal.SIGTERM)
            assert await asyncio.to_thread(activated.wait) == 0
            activated.launch()
        over.set()
        await asyncio.gather(*senders)

    assert set(answers) == {200}, sorted({str(answer) for answer in answers})
    assert len(answers) > RESTARTS * 20

    async def settled() -> bool:
        status, found = await asyncio.to_thread(activated.get, "/api/deliveries?state=done&limit=1")
        return bool(status == 200 and found["total"] == len(answers))

    await eventually(settled)
    _, listed = activated.get("/api/messaging/conversations")
    _, messages = activated.get(f"/api/messaging/conversations/{listed['conversations'][0]['id']}/messages?limit=1")
    assert messages["total"] == len(answers)


def test_a_socket_for_somebody_else_is_left_alone(inboxd: Process) -> None:
    inboxd.environment |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    inboxd.start()
    assert post(inboxd, hello()) == 200


def events(inboxd: Process, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in inboxd.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


async def test_a_hangup_reloads_what_can_be_reloaded(inboxd: Process, tmp_path: Path) -> None:
    secret, config = tmp_path / "secret", tmp_path / "config.toml"
    secret.write_text("an-old-secret\n")
    config.write_text("[logs]\nlevel = 'info'\n")
    del inboxd.environment["INBOXD_APP_SECRETS"]
    inboxd.environment |= {"INBOXD_APP_SECRETS_FILE": str(secret)}
    inboxd.start()
    assert post(inboxd, hello()) == 401

    secret.write_text(f"an-old-secret\n{APP_SECRET}\n")
    config.write_text("[logs]\nlevel = 'debug'\n[budget]\ncalls_per_hour = 150\n[admin]\nmax_failures = 3\n")
    inboxd.signal(signal.SIGHUP)

    async def reloaded(times: int = 1) -> bool:
        return len(events(inboxd, "configuration_reloaded")) == times

    await eventually(reloaded)
    (told,) = events(inboxd, "configuration_reloaded")
    assert told["applied"] == ["logs.level", "budget.calls_per_hour", "app_secrets"]
    assert told["needs_restart"] == ["admin.max_failures"]
    assert post(inboxd, hello()) == 200

    async def processed() -> bool:
        return bool(events(inboxd, "delivery_understood"))

    await eventually(processed)

    config.write_text("[logs]\nlevel = 'loud'\n")
    inboxd.signal(signal.SIGHUP)

    async def refused() -> bool:
        return bool(events(inboxd, "configuration_not_reloaded"))

    await eventually(refused)
    assert "logs.level" in str(events(inboxd, "configuration_not_reloaded")[0]["error"])
    assert post(inboxd, hello("still here")) == 200

    inboxd.environment["INBOXD_ADMIN_TOKEN_FILE"] = str(tmp_path / "token")
    assert ADMIN_TOKEN not in inboxd.log.read_text()
    assert APP_SECRET not in inboxd.log.read_text()
