"""The daemon as systemd's service: signs of life, and a unit that systemd itself finds in order."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Process

UNITS = Path(__file__).parent.parent.parent / "systemd"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def test_readiness_life_and_the_end_are_told(inboxd: Process, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        inboxd.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        inboxd.start()
        told = [manager.recv(4096).decode() for _ in range(4)]
        assert "READY=1" in told
        signs = [one for one in told if "WATCHDOG=1" in one]
        assert len(signs) == 3
        assert "STATUS=receiving; 0 accounts; budget ok" in signs[0]
        inboxd.signal(signal.SIGTERM)
        assert inboxd.wait() == 0
        rest = []
        manager.setblocking(False)
        try:
            while True:
                rest.append(manager.recv(4096).decode())
        except BlockingIOError:
            pass
        assert "STOPPING=1" in rest


def test_a_stuck_process_gives_no_sign(inboxd: Process, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        inboxd.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        inboxd.start()
        manager.recv(4096)
        inboxd.signal(signal.SIGSTOP)
        manager.settimeout(1.0)
        with pytest.raises(TimeoutError):
            _listen_for_ever(manager)
        inboxd.signal(signal.SIGCONT)
        manager.settimeout(10)
        assert "WATCHDOG=1" in manager.recv(4096).decode()


def _listen_for_ever(manager: socket.socket) -> None:
    while True:
        manager.recv(4096)


class BackOff:
    """systemd/back-off, where somebody else says what time it is, and sleeping only tells how long."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "failures"
        self._environment = {"PATH": f"{folder}:{os.environ['PATH']}", "RUNTIME_DIRECTORY": str(folder)}
        for name, line in (("sleep", 'echo "sleeps $1"'), ("date", 'echo "$NOW"')):
            (folder / name).write_text(f"#!/bin/sh\n{line}\n")
            (folder / name).chmod(0o755)

    def ends(self, result: str, *, seconds_ago: int = 0) -> None:
        self._run("note", SERVICE_RESULT=result)
        if self._file.exists():
            at = time.time() - seconds_ago
            os.utime(self._file, (at, at))

    def rest(self, *, after_s: int = 0) -> int:
        ended = int(self._file.stat().st_mtime) if self._file.exists() else 0
        slept = re.search(r"sleeps (\d+)", self._run("rest", NOW=str(ended + after_s)))
        return int(slept[1]) if slept else 0

    def _run(self, what: str, **environment: str) -> str:
        environment |= self._environment
        done = subprocess.run([UNITS / "back-off", what], env=environment, capture_output=True, text=True, check=True)
        return done.stdout


def test_failures_in_a_row_are_followed_by_longer_rests(tmp_path: Path) -> None:
    back_off = BackOff(tmp_path)
    assert back_off.rest() == 0
    rests = []
    for _ in range(9):
        back_off.ends("exit-code")
        rests.append(back_off.rest())
    assert rests == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert back_off.rest(after_s=30) == 34
    assert back_off.rest(after_s=64) == 0
    assert back_off.rest(after_s=-7200) == 0, "a clock that was set back keeps nobody waiting"


def test_a_clean_end_or_a_long_time_begins_a_new_row(tmp_path: Path) -> None:
    back_off = BackOff(tmp_path)
    for _ in range(5):
        back_off.ends("watchdog", seconds_ago=300)
    assert back_off.rest() == 1
    for _ in range(5):
        back_off.ends("signal")
    assert back_off.rest() == 16
    back_off.ends("success")
    assert back_off.rest() == 0


@needs_systemd
@pytest.mark.parametrize("unit", ["inboxd.service", "inboxd.socket", "inboxd-backup.service", "inboxd-backup.timer"])
def test_a_unit_is_in_order_but_for_where_it_is_installed(unit: str) -> None:
    told = subprocess.run(["systemd-analyze", "verify", str(UNITS / unit)], capture_output=True, text=True, check=False)  # noqa: S607
    lines = [line for line in told.stderr.splitlines() if "inboxd" in line]
    assert [line for line in lines if "is not executable" not in line] == []


@needs_systemd
@pytest.mark.parametrize("unit", ["inboxd.service", "inboxd-backup.service"])
def test_a_unit_exposes_little(unit: str) -> None:
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(UNITS / unit)],  # noqa: S607
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    exposure = re.search(r"exposure level for \S+: (\d+\.\d+)", told.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 1.5
