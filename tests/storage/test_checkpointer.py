"""The journal is emptied beside the writer: it stays small, and nobody waits for more than a few pages of it."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from inboxd.storage import checkpointer as module
from inboxd.storage.database import Database

from tests.support import eventually


def rows(count: int, size: int = 1000) -> Callable[[sqlite3.Connection], None]:
    def insert(connection: sqlite3.Connection) -> None:
        connection.executemany(
            "INSERT INTO deliveries (received_at, body) VALUES (1, randomblob(?))", [(size,)] * count
        )

    return insert


@asynccontextmanager
async def opened(checkpointer: module.Checkpointer, path: Path) -> AsyncIterator[module.Checkpointer]:
    file = os.open(path, os.O_RDONLY | os.O_CREAT)
    await checkpointer.open(file)
    await asyncio.sleep(0)
    try:
        yield checkpointer
    finally:
        await checkpointer.close()
        os.close(file)


async def test_the_journal_begins_anew_while_writing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHANGES", 500)
    path = tmp_path / "d"
    journal = tmp_path / "d-wal"
    async with Database(path) as database:
        for _ in range(100):
            await database.write(rows(200))
            await asyncio.sleep(0)
        written = 100 * 200 * 1000

        assert path.stat().st_size > written * 0.6, "most of it is in the file already"
        assert journal.stat().st_size < written * 0.5, "the journal was written over from its beginning"
        assert (await database.read("SELECT count(*) FROM deliveries"))[0][0] == 20_000
        assert await database.read("PRAGMA integrity_check") == [("ok",)]


async def test_what_runs_between_commits_is_not_starved_by_them(database: Database) -> None:
    stop = asyncio.Event()

    async def write_without_rest() -> None:
        while not stop.is_set():
            await database.write(rows(1))

    writers = [asyncio.create_task(write_without_rest()) for _ in range(8)]
    assert await asyncio.wait_for(database.checkpoint(), 10)
    stop.set()
    await asyncio.gather(*writers)


async def test_a_checkpoint_that_fails_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_connection: sqlite3.Connection) -> int:
        msg = "disk I/O error"
        raise sqlite3.OperationalError(msg)

    monkeypatch.setattr(module, "CHANGES", 1)
    monkeypatch.setattr(module, "passive", fail)
    async with Database(tmp_path / "d") as database:
        for _ in range(5):
            await database.write(rows(10))
            await asyncio.sleep(0.01)

        assert (await database.read("SELECT count(*) FROM deliveries"))[0][0] == 50
        assert database.refusal is None
    assert "checkpoint_failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("left", "on_the_writer"), [([10], [True]), ([9000, 500, 400], [True]), ([9000, 9000, 9000, 401], [])]
)
async def test_the_writer_is_left_a_few_pages_or_none(
    tmp_path: Path, left: list[int], on_the_writer: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    remaining = list(left)
    monkeypatch.setattr(module, "CHANGES", 1)
    monkeypatch.setattr(module, "passive", lambda _connection: remaining.pop(0))
    asked: list[bool] = []

    async def on_writer(_function: object) -> int:
        asked.append(True)
        return 0

    async def calm() -> bool:
        return not remaining and asked == on_the_writer

    async with opened(module.Checkpointer(tmp_path / "d", on_writer), tmp_path / "d") as checkpointer:
        checkpointer.note(1)
        await eventually(calm)
    assert asked == on_the_writer


async def test_the_writer_does_not_sync_what_another_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite syncs the file when the last page is moved: on the writer that would be everybody's pages."""
    happened: list[str] = []
    left = [9000, 300]
    monkeypatch.setattr(module, "CHANGES", 1)
    monkeypatch.setattr(module, "passive", lambda _connection: left.pop(0))
    monkeypatch.setattr(os, "fdatasync", lambda _file: happened.append("synced"))

    async def on_writer(_function: object) -> int:
        happened.append("writer")
        return 0

    async def written() -> bool:
        return "writer" in happened

    async with opened(module.Checkpointer(tmp_path / "d", on_writer), tmp_path / "d") as checkpointer:
        checkpointer.note(1)
        await eventually(written)
    assert happened == ["synced", "synced", "writer"]


async def test_emptying_the_journal_waits_for_the_checkpoint_in_hand(database: Database) -> None:
    async with database._checkpointer.lock:
        emptied = asyncio.ensure_future(database.checkpoint())
        await asyncio.sleep(0.05)
        assert not emptied.done()
    assert await emptied


async def test_so_many_rows_are_changed_between_two_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    async def on_writer(_function: object) -> int:
        done.append(changes)
        return 0

    async def rests() -> bool:
        return checkpointer._due > changes

    monkeypatch.setattr(module, "CHANGES", 100)
    monkeypatch.setattr(module, "passive", lambda _connection: 0)
    async with opened(module.Checkpointer(tmp_path / "d", on_writer), tmp_path / "d") as checkpointer:
        for changes in range(0, 351, 50):
            checkpointer.note(changes)
            await eventually(rests)

    assert done == [100, 200, 300]
