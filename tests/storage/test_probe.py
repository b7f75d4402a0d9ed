"""A disk that refused a write is asked again, and nobody else is."""

from unittest.mock import AsyncMock

import pytest
from inboxd.runtime.errors import StorageClosedError, StorageUnavailableError
from inboxd.storage.database import Database
from inboxd.storage.probe import PROBE_S, StorageProbe


async def test_a_disk_is_asked_only_while_it_refuses(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = AsyncMock(side_effect=[StorageUnavailableError("full"), None])
    monkeypatch.setattr(database, "probe", probe)
    worker = StorageProbe(database)
    assert await worker.poll() == PROBE_S
    assert probe.await_count == 0
    database.refusal = "full"
    await worker.poll()
    assert "storage_refuses" in capsys.readouterr().out
    await worker.poll()
    assert "storage_recovered" in capsys.readouterr().out


async def test_it_is_said_that_a_disk_takes_writes_again_whoever_wrote_first(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "probe", AsyncMock(side_effect=StorageUnavailableError("full")))
    worker = StorageProbe(database)
    await database.execute("CREATE TABLE written (at INTEGER) STRICT")
    database.refusal = "full"
    await worker.poll()
    await database.execute("INSERT INTO written VALUES (1)")
    capsys.readouterr()
    for _ in range(2):
        await worker.poll()
    assert capsys.readouterr().out.count("storage_recovered") == 1


async def test_a_writer_that_has_ended_is_no_passing_trouble(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "probe", AsyncMock(side_effect=StorageClosedError("gone")))
    database.refusal = "the writer crashed"
    with pytest.raises(StorageClosedError):
        await StorageProbe(database).poll()
