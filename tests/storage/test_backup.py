"""Backups: made beside a writer, checked, kept in number, and put back."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import (
    DatabaseLockedError,
    DatabaseTooNewError,
    InboxdError,
    NotOurDatabaseError,
    StorageError,
)
from inboxd.storage import backup, migrations
from inboxd.storage.database import Database

from tests.support import ManualClock


def deliveries(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM deliveries").fetchone()[0])


async def test_a_backup_is_one_moment_of_a_database_in_use(tmp_path: Path) -> None:
    async with Database(tmp_path / "inboxd.sqlite3") as database:
        inbox = Inbox(database, Clock(), max_waiting=10)
        await inbox.append(b"one")
        size = backup.snapshot(database.path, tmp_path / "copy")
        await inbox.append(b"two")
    assert size == (tmp_path / "copy").stat().st_size
    assert deliveries(tmp_path / "copy") == 1
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    assert not list(tmp_path.glob("copy?*"))


async def test_only_the_latest_are_kept(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    (tmp_path / "backups").mkdir()
    (folder / "inboxd-notes.sqlite3").touch()
    (folder / "inboxd-20269931T000000Z.sqlite3").touch()
    began = datetime(2026, 5, 1, tzinfo=UTC)
    for day in range(5):
        backup.make(database.path, folder, keep=3, now=began + timedelta(days=day))
    found = sorted(path.name for path in folder.iterdir())
    assert found == [f"inboxd-2026050{day}T000000Z.sqlite3" for day in (3, 4, 5)] + [
        "inboxd-20269931T000000Z.sqlite3",
        "inboxd-notes.sqlite3",
    ]
    assert backup.latest_at(folder) == int((began + timedelta(days=4)).timestamp() * 1000)


async def test_what_is_restored_includes_the_journal_beside_it(tmp_path: Path) -> None:
    path, aside = tmp_path / "inboxd.sqlite3", tmp_path / "aside"
    async with Database(path) as database:
        await Inbox(database, Clock(), max_waiting=10).append(b"one")
        for suffix in ("", "-wal"):  # as a daemon that was killed leaves them
            shutil.copyfile(f"{path}{suffix}", f"{aside}{suffix}")
    path.unlink()
    backup.restore(aside, path)
    assert deliveries(path) == 1


async def test_the_journal_of_an_old_database_is_not_taken_for_the_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "inboxd.sqlite3"
    async with Database(path) as database:
        inbox = Inbox(database, Clock(), max_waiting=10)
        await inbox.append(b"one")
        backup.snapshot(path, tmp_path / "copy")
        await inbox.append(b"two")
        shutil.copyfile(f"{path}-wal", tmp_path / "journal")
    path.unlink()
    (tmp_path / "journal").rename(f"{path}-wal")

    assert backup.restore(tmp_path / "copy", path) is None
    assert deliveries(path) == 1


async def test_restoring_puts_the_old_one_aside(tmp_path: Path) -> None:
    path = tmp_path / "inboxd.sqlite3"
    async with Database(path) as database:
        inbox = Inbox(database, Clock(), max_waiting=10)
        await inbox.append(b"one")
        backup.snapshot(path, tmp_path / "copy")
        await inbox.append(b"two")
        with pytest.raises(DatabaseLockedError):
            backup.restore(tmp_path / "copy", path)
    aside = backup.restore(tmp_path / "copy", path)
    assert aside is not None
    assert not list(tmp_path.glob("*before-restore*-wal"))
    assert deliveries(aside) == 2
    async with Database(path) as database:
        assert [one.body for one in await Inbox(database, ManualClock(), max_waiting=1).pending(10)] == [b"one"]


async def test_a_restored_file_is_not_mixed_with_an_old_journal(tmp_path: Path) -> None:
    path = tmp_path / "inboxd.sqlite3"
    async with Database(path):
        backup.snapshot(path, tmp_path / "copy")
    path.write_bytes(b"damaged, so that its journal cannot be brought in" * 100)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"inboxd.sqlite3{suffix}").write_bytes(b"left by a crash")
    aside = backup.restore(tmp_path / "copy", path)
    assert aside is not None
    assert aside.with_name(aside.name + "-wal").read_bytes() == b"left by a crash"
    assert not (tmp_path / "inboxd.sqlite3-wal").exists()


async def test_what_is_no_backup_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "inboxd.sqlite3"
    async with Database(path) as database:
        await Inbox(database, Clock(), max_waiting=10).append(b"one")
        backup.snapshot(path, tmp_path / "good")
    wrong: list[tuple[str, type[InboxdError]]] = []
    (tmp_path / "text").write_text("not a database, but long enough to look at" * 50)
    wrong.append(("text", backup.BackupError))
    (tmp_path / "empty").touch()
    wrong.append(("empty", backup.BackupError))
    with closing(sqlite3.connect(tmp_path / "foreign")) as connection:
        connection.execute("CREATE TABLE t (a)")
    wrong.append(("foreign", NotOurDatabaseError))
    (tmp_path / "newer").write_bytes((tmp_path / "good").read_bytes())
    with closing(sqlite3.connect(tmp_path / "newer")) as connection:
        connection.execute(f"PRAGMA user_version = {migrations.newest() + 1}")
    wrong.append(("newer", DatabaseTooNewError))
    damaged = bytearray((tmp_path / "good").read_bytes())
    damaged[4096 * 3 : 4096 * 9] = b"\xa5" * 4096 * 6
    (tmp_path / "damaged").write_bytes(damaged)
    wrong.append(("damaged", backup.BackupError))
    for name, error in wrong:
        with pytest.raises(error):
            backup.restore(tmp_path / name, path)
    assert deliveries(path) == 1
    assert not list(tmp_path.glob("*.before-restore-*"))


def orphan(path: Path) -> None:
    """A message of no conversation."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO messages (conversation_id, mid, mid_key, noticed_at, created_at, updated_at)"
            " VALUES (99, 'm', 1, 1, 1, 1)"
        )
        connection.commit()


def gap(path: Path) -> None:
    """A row that is missing from an index."""
    index = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = 'deliveries_by_state'"
    with closing(sqlite3.connect(path)) as connection:
        (row,) = connection.execute(index).fetchall()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'deliveries_by_state'")
        connection.commit()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO deliveries (received_at, body) VALUES (1, x'')")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
        connection.commit()


@pytest.mark.parametrize(("damage", "said"), [(orphan, "refers to nothing"), (gap, "missing from index")])
async def test_a_copy_that_is_not_sound_gets_no_name_and_replaces_nothing(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    """Copying notices nothing of such damage: pages are copied as they are."""
    path, folder = tmp_path / "inboxd.sqlite3", tmp_path / "backups"
    async with Database(path) as database:
        await Inbox(database, Clock(), max_waiting=10).append(b"one")
        good = backup.make(path, folder, keep=1, now=datetime(2026, 5, 1, tzinfo=UTC))
        damage(path)
        with pytest.raises(backup.BackupError, match=said):
            backup.make(path, folder, keep=1, now=datetime(2026, 5, 2, tzinfo=UTC))
    assert list(folder.iterdir()) == [good]
    assert backup.check(good) == migrations.newest()
    (tmp_path / "unsound").write_bytes(path.read_bytes())
    with pytest.raises(backup.BackupError, match=said):  # nor is one restored
        backup.restore(tmp_path / "unsound", path)
    assert not list(tmp_path.glob("*.before-restore-*"))


async def test_before_a_database_is_brought_forward_a_copy_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "inboxd.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        for step in migrations.steps()[:-1]:
            connection.executescript(step.sql)
        old = migrations.newest() - 1
        connection.executescript(f"PRAGMA user_version = {old}; PRAGMA application_id = {migrations.APPLICATION_ID};")
        connection.execute("INSERT INTO deliveries (received_at, body) VALUES (1, x'61')")
        connection.commit()
    stale = tmp_path / "inboxd.sqlite3.schema-0001"
    stale.touch()
    async with Database(path):
        pass
    kept = tmp_path / f"inboxd.sqlite3.schema-{old:04d}"
    assert backup.check(kept) == old
    assert deliveries(kept) == 1
    assert not stale.exists()
    async with Database(path):  # nothing to bring forward, nothing to copy
        assert sorted(tmp_path.glob("*.schema-*")) == [kept]


async def test_without_room_for_a_copy_nothing_is_brought_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "inboxd.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(migrations.steps()[0].sql)
        connection.executescript(f"PRAGMA user_version = 1; PRAGMA application_id = {migrations.APPLICATION_ID};")
    monkeypatch.setattr(backup, "_ROOM", 1e12)  # no disk has so much
    with pytest.raises(StorageError, match="make room"):
        async with Database(path):
            pass
    assert backup.check(path) == 1


async def test_the_copy_from_before_an_upgrade_stays_when_the_upgrade_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d"
    with closing(sqlite3.connect(path)) as connection:
        for step in migrations.steps()[:9]:
            connection.executescript(step.sql)
        connection.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 9")
    steps = migrations.steps()
    with monkeypatch.context() as killed:
        killed.setattr(migrations, "steps", lambda: [*steps[:10], steps[-1]._replace(sql="no SQL")])
        with pytest.raises(StorageError):
            async with Database(path):
                pass
    async with Database(path):
        copies = [one.name for one in tmp_path.glob("d.schema-*")]
    assert copies == ["d.schema-0009"]
    assert not (tmp_path / "d.upgrading").exists()
