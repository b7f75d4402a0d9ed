"""A restore or a backup that is killed between any two of its steps: real processes, real SIGKILLs."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock
from inboxd.storage import backup
from inboxd.storage.database import Database

from tests.e2e.conftest import Process

KILLED_AT = """
import os, signal, sys
from pathlib import Path
from inboxd.storage import backup
steps, wanted = 0, int(sys.argv[1])
def step(event, arguments):
    global steps
    if event in {"os.rename", "os.link", "os.remove", "os.chmod", "sqlite3.connect", "fcntl.flock", "os.truncate"}:
        steps += 1
        if steps == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(step)
if sys.argv[2] == "restore":
    backup.restore(Path(sys.argv[3]), Path(sys.argv[4]))
else:
    backup.make(Path(sys.argv[3]), Path(sys.argv[4]), keep=2)
"""
MOST_STEPS = 60


def killed_at(number: int, *arguments: object) -> bool:
    """Run it in a process that kills itself before its `number`th step; whether it was killed."""
    command = [sys.executable, "-c", KILLED_AT, str(number), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode == -signal.SIGKILL


def content(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [bytes(row[0]) for row in connection.execute("SELECT body FROM deliveries ORDER BY id")]


async def filled(path: Path, *bodies: bytes) -> None:
    async with Database(path) as database:
        for body in bodies:
            await Inbox(database, Clock(), max_waiting=10).append(body)


async def opens(path: Path) -> bool:
    """Whether a daemon would take this database."""
    if not path.with_name(path.name + ".restore-pending").exists():
        async with Database(path):
            return True
    with pytest.raises(backup.HalfRestoredError, match="inboxd restore"):
        async with Database(path):
            pass
    return False


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A backup to restore."""
    asyncio.run(filled(tmp_path / "source", b"new"))
    backup.snapshot(tmp_path / "source", tmp_path / "copy")
    return tmp_path / "copy"


def test_a_killed_restore_leaves_one_complete_database(tmp_path: Path, copy: Path) -> None:
    outcomes = set()
    for number in range(1, MOST_STEPS):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "inboxd.sqlite3"
        asyncio.run(filled(path, b"old", b"older"))
        killed = killed_at(number, "restore", copy, path)
        found = content(path)  # at any instant there is a whole one in its place
        assert found in ([b"old", b"older"], [b"new"])
        taken = asyncio.run(opens(path))
        outcomes.add((killed, found == [b"new"], taken))
        asides = [one for one in folder.glob("*.before-restore-*") if not one.name.endswith(("-wal", "-shm"))]
        assert all(content(one) == [b"old", b"older"] for one in asides)
        if not killed:
            assert (found, taken, len(asides)) == ([b"new"], True, 1)
            break
        pending = path.with_name(path.name + ".restore-pending")
        backup.restore(pending if pending.exists() else copy, path)  # as the message says
        assert content(path) == [b"new"]
        assert sorted(one.name for one in folder.iterdir() if ".before-restore-" not in one.name) == [
            "inboxd.sqlite3",
            "inboxd.sqlite3.lock",
        ], "nothing half done is left"
        assert asyncio.run(opens(path))
    else:
        pytest.fail("it never came to its end")
    assert (True, False, True) in outcomes, "killed before anything was decided: the old one goes on"
    assert (True, False, False) in outcomes, "killed while it was exchanged: somebody must say"
    assert number > 5


def test_a_killed_restore_never_gives_the_new_database_the_journal_of_the_old(tmp_path: Path, copy: Path) -> None:
    for number in range(1, MOST_STEPS):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "inboxd.sqlite3"
        asyncio.run(filled(path, b"old"))
        path.write_bytes(b"damaged, so that its journal cannot be brought in" * 100)
        for suffix in ("-wal", "-shm"):
            (folder / f"inboxd.sqlite3{suffix}").write_bytes(b"left by a crash")
        killed = killed_at(number, "restore", copy, path)
        is_new = path.read_bytes()[:6] == b"SQLite"
        wal = path.with_name(path.name + "-wal")
        if is_new:
            assert not wal.exists()
        elif not wal.exists():
            assert path.with_name(path.name + ".restore-pending").exists(), "no daemon may open the old one without it"
        if not killed:
            assert is_new
            (aside,) = folder.glob("*.before-restore-*-wal")
            assert aside.read_bytes() == b"left by a crash"
            break
        backup.restore(copy, path)
        assert content(path) == [b"new"]
    else:
        pytest.fail("it never came to its end")


def test_what_a_killed_backup_left_goes_with_the_next(tmp_path: Path) -> None:
    path, folder = tmp_path / "inboxd.sqlite3", tmp_path / "backups"
    asyncio.run(filled(path, b"one"))
    left = 0
    for number in range(1, MOST_STEPS):
        killed = killed_at(number, "make", path, folder)
        for one in folder.glob("*.partial*"):  # each from another second, as in life
            one.rename(folder / f"inboxd-20260101T0000{number:02d}Z{one.name[one.name.index('.') :]}")
            left += 1
        if not killed:
            break
    assert left > 2
    backup.make(path, folder, keep=2)
    assert list(folder.glob("*.partial*")) == []
    assert all(content(one) == [b"one"] for one in folder.iterdir())


def test_a_backup_that_another_process_is_making_is_let_alone(tmp_path: Path) -> None:
    path, folder = tmp_path / "inboxd.sqlite3", tmp_path / "backups"
    asyncio.run(filled(path, b"one"))
    folder.mkdir()
    partial = folder / "inboxd-20260501T000000Z.sqlite3.partial"
    holder = subprocess.Popen(["/usr/bin/flock", str(partial), "sleep", "60"], start_new_session=True)
    try:
        while not partial.exists() or backup._abandoned(folder, "*.partial"):
            pass
        backup.make(path, folder, keep=2)
        assert partial.exists()
        with pytest.raises(backup.BackupError, match="another process"):
            backup.snapshot(path, partial.with_suffix(""))
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
    backup.make(path, folder, keep=2)
    assert not partial.exists()


def test_one_old_backup_that_cannot_be_removed_stops_nothing(inboxd: Process, tmp_path: Path) -> None:
    inboxd.start()
    folder = tmp_path / "backups"
    stuck = folder / "inboxd-20250101T000000Z.sqlite3"
    stuck.mkdir(parents=True)  # unlink removes no folder, whoever asks
    older = folder / "inboxd-20250102T000000Z.sqlite3"
    older.touch()
    done = inboxd.run("backup", INBOXD_STORAGE__KEEP_BACKUPS="1")
    assert done.returncode == 0, done.stderr
    assert f"{stuck} could not be removed" in done.stderr
    assert not older.exists()
    assert len(list(folder.iterdir())) == 2


def test_a_daemon_begins_no_empty_database_where_one_was(inboxd: Process) -> None:
    inboxd.start()
    inboxd.signal(signal.SIGTERM)
    inboxd.wait()
    aside = inboxd.database.with_name("inboxd.sqlite3.before-restore-20260501T000000Z")
    inboxd.database.rename(aside)  # as a restore of earlier releases left it when it was killed
    refused = inboxd.run("run")
    assert refused.returncode == 65
    assert f"inboxd restore {aside}" in refused.stderr
    assert not inboxd.database.exists()
    assert inboxd.run("restore", str(aside)).returncode == 0
    inboxd.start()
