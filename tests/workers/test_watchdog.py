import pytest
from inboxd.clock import Clock
from inboxd.errors import StorageBusyError, StorageError, StorageUnavailableError
from inboxd.notify import Notifier
from inboxd.store.database import Database
from inboxd.workers.watchdog import Watchdog


@pytest.mark.parametrize(
    ("refusal", "alive"),
    [(None, True), (StorageUnavailableError("the disk is full"), True), (StorageBusyError("nobody takes any"), False)],
)
async def test_a_disk_that_refuses_is_life_and_a_queue_that_is_full_is_none(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    refusal: StorageError | None,
    alive: bool,  # noqa: FBT001
) -> None:
    async def refused(_job: object) -> None:
        if refusal is not None:
            raise refusal

    if refusal is not None:
        monkeypatch.setattr(database, "write", refused)
    watchdog = Watchdog(Notifier({}), database, Clock(), lambda: "")
    assert await watchdog._writer_lives() is alive
