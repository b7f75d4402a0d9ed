"""The real daemon as a process of its own."""

import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fork_server import INBOXD, ROOT, Forked, fork_server
from tests.support import ADMIN_TOKEN, APP_SECRET, VERIFY_TOKEN, documented_events


def free_port() -> int:
    """A port that the kernel gives to no connection by itself, so that it is still free when a process binds it."""
    while True:
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", random.SystemRandom().randrange(10_000, 32_000)))
            return int(sock.getsockname()[1])


class Process:
    """One inboxd process."""

    executed = False
    """Whether the script is executed. Otherwise the process is forked from one that has imported everything already."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.database = folder / "inboxd.sqlite3"
        self.public, self.admin = free_port(), free_port()
        self.environment = {
            "PATH": os.environ["PATH"],
            "STATE_DIRECTORY": str(folder),
            "INBOXD_APP_SECRETS": APP_SECRET,
            "INBOXD_VERIFY_TOKEN": VERIFY_TOKEN,
            "INBOXD_ADMIN_TOKEN": ADMIN_TOKEN,
            "INBOXD_PUBLIC__PORT": str(self.public),
            "INBOXD_ADMIN__PORT": str(self.admin),
            **variables,
        }
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.log = folder / "log"

    def start(self, *, ready: bool = True, preexec: Callable[[], None] | None = None) -> None:
        """Start the daemon. `preexec` is called in the new process before it executes the script."""
        with self.log.open("ab") as log:
            if self.executed or preexec:
                self.process = subprocess.Popen(
                    [INBOXD, "run"],
                    env=self.environment,
                    cwd=self.folder,
                    stdout=log,
                    stderr=log,
                    preexec_fn=preexec,  # noqa: PLW1509 - no threads here
                )
            else:
                server = fork_server()
                self.process = server.start(["run"], env=self.environment, cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while ready and self.get("/readyz")[0] != 200:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def logged(self) -> list[dict[str, Any]]:
        """What it has logged: nothing but JSON, and nothing but what is documented."""
        lines: list[dict[str, Any]] = [json.loads(line) for line in self.log.read_text().splitlines()]
        known = documented_events()
        for line in lines:
            assert {line["level"], "any"} & known.get(line["event"], set()), line
        return lines

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout: float = 10) -> int:
        assert self.process is not None
        return self.process.wait(timeout)

    def get(self, path: str) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.admin}{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
        try:
            with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - http
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0, None

    def run(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Another inboxd command in the same surroundings."""
        environment = self.environment | variables
        if not self.executed:
            return fork_server().run(arguments, env=environment, cwd=self.folder)
        return subprocess.run(
            [INBOXD, *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


@contextmanager
def simulator() -> Iterator[str]:
    """A simulated Instagram as a process; its URL."""
    port = free_port()
    process = fork_server().start(["simulator", "--port", str(port)], env={"PATH": os.environ["PATH"]}, cwd=ROOT)
    assert process.stdout is not None
    with process.stdout:
        try:
            assert str(port) in process.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def inboxd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Process]:
    process = Process(tmp_path)
    process.executed = request.node.get_closest_marker("executed") is not None
    yield process
    if process.process is not None and process.process.poll() is None:
        process.process.kill()
        process.process.wait()
    if process.log.exists():
        process.logged()
