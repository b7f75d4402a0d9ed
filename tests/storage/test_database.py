import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from inboxd.runtime.errors import (
    DatabaseLockedError,
    DatabaseTooNewError,
    NotOurDatabaseError,
    StorageBusyError,
    StorageClosedError,
    StorageUnavailableError,
)
from inboxd.storage import database as module
from inboxd.storage import migrations
from inboxd.storage.connection import Row, fetch, insert_many
from inboxd.storage.database import Database, open_for_reading
from inboxd.storage.group_commit import WriteJob

from tests.support import full_disk


def put(value: int) -> Callable[[sqlite3.Connection], int]:
    def transaction(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO deliveries (received_at, body) VALUES (?, x'')", (value,))
        return value

    return transaction


async def stored(database: Database) -> list[int]:
    return [row[0] for row in await database.read("SELECT received_at FROM deliveries ORDER BY id")]


async def test_what_waits_together_is_committed_together(tmp_path: Path) -> None:
    commits: list[int] = []
    async with Database(tmp_path / "d", on_commit=lambda jobs, _seconds: commits.append(jobs)) as database:
        results = await asyncio.gather(*(database.write(put(n)) for n in range(50)))

        assert results == list(range(50))
        assert await stored(database) == list(range(50))
    assert len(commits) < 10


async def test_one_failure_in_a_shared_commit_is_its_own(database: Database) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        put(99)(connection)
        msg = "mine alone"
        raise ValueError(msg)

    first, failure, last = await asyncio.gather(
        database.write(put(1)), database.write(fail), database.write(put(2)), return_exceptions=True
    )

    assert (first, last) == (1, 2)
    assert isinstance(failure, ValueError)
    assert await stored(database) == [1, 2]
    assert database.refusal is None


async def test_a_full_disk_refuses_everybody_and_recovers(database: Database) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO deliveries (received_at, body) VALUES (0, zeroblob(400000))")

    def limit(pages: int) -> Callable[[sqlite3.Connection], list[Row]]:
        return lambda connection: fetch(connection, f"PRAGMA max_page_count = {pages}")

    await database.write(limit(60))
    with pytest.raises(StorageUnavailableError, match="full"):
        await database.write(fill)
    assert "full" in (database.refusal or "")

    await database.write(limit(10_000))
    await database.probe()

    assert database.refusal is None
    await database.write(fill)
    assert await stored(database) == [0]


def fill(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO deliveries (received_at, body) VALUES (0, zeroblob(400000))")


def write_what_is_read_only(connection: sqlite3.Connection) -> None:
    """As on a file system that was remounted: the statement is refused, and the transaction stays open."""
    connection.execute("PRAGMA query_only = ON")
    try:
        put(99)(connection)
    finally:
        connection.execute("PRAGMA query_only = OFF")


@pytest.mark.parametrize(("job", "said"), [(fill, "full"), (write_what_is_read_only, "readonly")])
async def test_trouble_with_the_file_refuses_everybody_who_shares_the_commit(
    database: Database, job: Callable[[sqlite3.Connection], None], said: str
) -> None:
    await database.write(lambda connection: fetch(connection, "PRAGMA max_page_count = 60"))
    jobs: list[Callable[[sqlite3.Connection], object]] = [put(1), job, put(2)]
    outcomes = await asyncio.gather(*(database.write(one) for one in jobs), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [StorageUnavailableError] * 3
    assert said in (database.refusal or "")
    assert await stored(database) == []
    await database.write(lambda connection: fetch(connection, "PRAGMA max_page_count = 10000"))
    await database.write(put(3))
    assert await stored(database) == [3]


def refusal(database: Database) -> str | None:
    return database.refusal


async def test_looking_through_the_writer_makes_no_room(database: Database) -> None:
    """The processing monitor and the watchdog do that every few seconds: a full disk must stay one."""
    await database.write(put(1))
    with full_disk(database.path):
        with pytest.raises(StorageUnavailableError):
            await database.write(put(2))
        told = refusal(database)
        assert told is not None
        await database.write(lambda _connection: None)
        await database.write(lambda connection: fetch(connection, "SELECT count(*) FROM deliveries"))
        assert refusal(database) == told
        with pytest.raises(StorageUnavailableError):
            await database.probe()
        assert refusal(database) is not None

    await database.write(lambda _connection: None)
    assert refusal(database) is not None, "nothing has been written yet"
    await database.probe()
    assert refusal(database) is None
    await database.write(put(2))
    assert await stored(database) == [1, 2]


async def test_the_queue_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    writes = [asyncio.ensure_future(database.write(put(n))) for n in range(5)]

    results = await asyncio.gather(*writes, return_exceptions=True)

    assert [type(result) for result in results] == [int, int, int, StorageBusyError, StorageBusyError]


async def test_closing_commits_what_was_handed_over_and_refuses_what_comes_later(tmp_path: Path) -> None:
    database = Database(tmp_path / "d")
    async with database:
        futures = [database.submit(put(n)) for n in range(20)]
    assert [future.result() for future in futures] == list(range(20))
    await database.close()
    with pytest.raises(StorageClosedError):
        await database.write(put(1))
    with pytest.raises(StorageClosedError):
        await database.read("SELECT 1")


async def test_a_crashed_writer_leaves_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_arguments: object) -> None:
        msg = "on purpose"
        raise RuntimeError(msg)

    async with Database(tmp_path / "d") as database:
        monkeypatch.setattr(database, "_drain", crash)
        with pytest.raises(StorageClosedError, match="on purpose"):
            await database.write(put(1))
        assert "on purpose" in (database.refusal or "")
        with pytest.raises(StorageClosedError):
            await database.write(put(2))


async def test_a_crashed_writer_leaves_no_checkpoint_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_arguments: object) -> None:
        msg = "on purpose"
        raise RuntimeError(msg)

    async with Database(tmp_path / "d") as database:
        monkeypatch.setattr(database, "_drain", crash)
        with pytest.raises(StorageClosedError, match="on purpose"):
            await asyncio.wait_for(database.checkpoint(), 5)


async def test_one_file_has_one_daemon(database: Database) -> None:
    with pytest.raises(DatabaseLockedError, match="another inboxd"):
        await Database(database.path).__aenter__()


async def test_an_older_file_is_not_read_as_if_it_were_of_today(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with closing(sqlite3.connect(path)) as connection:
        for step in migrations.steps()[:-1]:
            connection.executescript(step.sql)
        connection.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {migrations.newest() - 1}")

    with pytest.raises(NotOurDatabaseError, match=r"older inboxd .* start the daemon once"):
        async with open_for_reading(path):
            pass
    async with Database(path), open_for_reading(path) as reading:  # which brings it forward
        assert await reading.read("SELECT count(*) FROM deliveries") == [(0,)]


async def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d"
    async with Database(path) as database:
        await database.write(lambda connection: fetch(connection, "PRAGMA user_version = 9999"))

    with pytest.raises(DatabaseTooNewError, match="newer inboxd"):
        await Database(path).__aenter__()
    with pytest.raises(DatabaseTooNewError):
        async with open_for_reading(path):
            pass


async def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    text = tmp_path / "text"
    text.write_text("this is not a database, however long it may be " * 100)

    for path in (foreign, text):
        with pytest.raises(NotOurDatabaseError):
            await Database(path).__aenter__()
    assert sqlite3.connect(foreign).execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


async def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="lock file"):
        await Database(tmp_path / "nowhere" / "d").__aenter__()


async def test_a_failed_migration_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = migrations.steps()
    broken = migrations.Step(good[-1].version + 1, "x", "CREATE TABLE fine (x); CREATE TABLE fine (x);")
    path = tmp_path / "d"
    async with Database(path):
        pass

    monkeypatch.setattr(migrations, "steps", lambda: [*good, broken])
    with pytest.raises(StorageUnavailableError, match="fine"):
        await Database(path).__aenter__()
    monkeypatch.undo()

    async with Database(path) as database:
        assert await database.read("SELECT name FROM sqlite_schema WHERE name = 'fine'") == []


def test_a_step_is_committed_together_with_its_version(tmp_path: Path) -> None:
    """Whoever looks between any two statements, as the next start does after a kill, finds no half of a step."""
    path = tmp_path / "d"
    found: dict[int, set[int]] = {}
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(path)) as other:

        def look(_statement: str) -> None:
            ((version,),) = other.execute("PRAGMA user_version").fetchall()
            ((parts,),) = other.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            found.setdefault(version, set()).add(parts)

        connection.set_trace_callback(look)
        migrations.migrate(connection, path)
        look("")
    assert sorted(found) == list(range(migrations.newest() + 1))
    assert all(len(parts) == 1 for parts in found.values()), found


async def test_durability_is_switched_on(database: Database) -> None:
    def look(connection: sqlite3.Connection) -> list[object]:
        return [fetch(connection, f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "foreign_keys")]

    assert database._writer is not None
    assert await database._writer.run(look) == ["wal", 2, 1]


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(StorageUnavailableError, match="readonly"):
        await database.read("DELETE FROM deliveries")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 255, 256, 257, 1000])
async def test_insert_many_inserts_every_row(database: Database, count: int) -> None:
    rows = [(n, b"") for n in range(count)]

    await database.write(
        lambda connection: insert_many(connection, "INSERT INTO deliveries (received_at, body) {rows}", rows)
    )

    assert await stored(database) == list(range(count))


async def test_a_reader_whose_query_failed_does_not_keep_the_past(database: Database) -> None:
    await database.write(put(1))
    for _ in range(2 * module.READERS):
        with pytest.raises(sqlite3.OperationalError):
            await database.read("SELECT received_at, CAST(x'ff' AS TEXT) FROM deliveries")

    await database.write(put(2))

    for _ in range(2 * module.READERS):
        assert await stored(database) == [1, 2]
    assert await database.checkpoint(), "a reader holds the journal"


async def test_a_reader_that_failed_half_way_does_not_keep_the_past(database: Database) -> None:
    await database.write(put(1))
    await database.write(put(2))

    def half_way(connection: sqlite3.Connection) -> None:
        cursor = connection.execute("SELECT received_at FROM deliveries")
        cursor.fetchone()
        held.append(cursor)
        msg = "gave up in between"
        raise ValueError(msg)

    held: list[sqlite3.Cursor] = []
    for _ in range(module.READERS):
        with pytest.raises(ValueError, match="in between"):
            await database.reading(half_way)

    await database.write(put(3))
    for _ in range(2 * module.READERS):
        assert await stored(database) == [1, 2, 3]


async def test_a_reader_whose_caller_left_is_replaced_too(database: Database) -> None:
    began, go_on = threading.Event(), threading.Event()
    held: list[sqlite3.Cursor] = []

    def fail_later(connection: sqlite3.Connection) -> None:
        cursor = connection.execute("SELECT 1 FROM sqlite_schema")
        cursor.fetchone()
        held.append(cursor)
        began.set()
        go_on.wait(5)
        msg = "nobody hears this"
        raise ValueError(msg)

    for _ in range(module.READERS):
        began.clear()
        go_on.clear()
        reading = asyncio.ensure_future(database.reading(fail_later))
        await asyncio.to_thread(began.wait, 5)
        reading.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await reading

    await database.write(put(1))
    for _ in range(2 * module.READERS):
        assert await stored(database) == [1]


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_file_that_is_not_the_one_that_is_open_takes_nothing(tmp_path: Path, suffix: str, how: str) -> None:
    async with Database(tmp_path / "d") as database:
        await database.write(put(1))
        path = tmp_path / f"d{suffix}"
        aside = path.rename(tmp_path / "aside")
        if how == "replaced":
            path.write_bytes(aside.read_bytes())

        with pytest.raises(StorageUnavailableError, match="deleted or replaced"):
            await database.write(put(2))
        assert str(path) in str(database.refusal)

        aside.replace(path)
        await database.write(put(3))
        assert database.refusal is None
        assert [number for number in await stored(database) if number != 2] == [1, 3]


async def test_whoever_is_patient_gets_a_turn_among_the_urgent(database: Database) -> None:
    order: list[str] = []
    loop = asyncio.get_running_loop()
    spare = [loop.create_future() for _ in range(20)]

    def urgent(_connection: sqlite3.Connection) -> None:
        order.append("urgent")
        if spare:  # somebody urgent comes during every commit
            database._urgent.append(WriteJob(urgent, spare.pop()))

    waiting = [database.submit(urgent, urgent=True), database.submit(lambda _connection: order.append("patient"))]
    await asyncio.gather(*waiting)
    assert order.index("patient") <= 1
