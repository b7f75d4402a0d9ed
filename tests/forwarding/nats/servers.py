"""A real nats-server with JetStream, and somebody who reads its streams."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import TimeoutError as NoMessage

BINARY = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/bin")
STREAM = "INBOXD"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class NatsServer:
    """One nats-server on a folder of its own. It has the same port after a restart."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{folder / "store"}" }}\n{more}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def _launch(self) -> "subprocess.Popen[bytes]":
        assert BINARY is not None, "nats-server is missing: apt-get install nats-server"
        with (self.folder / "nats.log").open("ab") as log:
            return subprocess.Popen([BINARY, "-c", str(self._config)], stdout=log, stderr=log)

    async def start(self) -> None:
        self._process = self._launch()
        for _ in range(1000):
            assert self._process.poll() is None, (self.folder / "nats.log").read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        raise AssertionError((self.folder / "nats.log").read_text())

    def pause(self, number: signal.Signals) -> None:
        """SIGSTOP: it keeps its connections and answers nothing, until SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None


async def _ignore(_error: Exception) -> None:
    """What goes wrong is seen by whoever calls."""


@asynccontextmanager
async def reader(url: str | list[str], **options: Any) -> AsyncIterator[Client]:
    client = await nats.connect(url, error_cb=_ignore, **options)
    try:
        yield client
    finally:
        await client.close()


async def messages(client: Client, stream: str = STREAM) -> list[tuple[str, str, bytes]]:
    """All that is in the stream, in its order: the id, the subject and the body."""
    context = client.jetstream()
    wanted = (await context.stream_info(stream)).state.messages
    subscription = await context.pull_subscribe("", stream=stream)
    found: list[tuple[str, str, bytes]] = []
    while len(found) < wanted:
        try:
            batch = await subscription.fetch(500, timeout=5)
        except NoMessage:
            break
        for one in batch:
            await one.ack()
            found.append(((one.headers or {})["Nats-Msg-Id"], one.subject, one.data))
    await subscription.unsubscribe()
    assert len(found) >= wanted  # more may come meanwhile
    return found


def missing() -> str | None:
    """Why the tests cannot run here. Where all tests must run, they do, and fail."""
    return "nats-server is not installed" if BINARY is None and not os.environ.get("CI") else None
