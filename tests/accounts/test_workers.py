"""The workers of an account that is no longer served end, whatever fails meanwhile."""

from pathlib import Path

import pytest
from inboxd.accounts.workers import AccountWorkers
from inboxd.feature import Job
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.runtime.worker import Schedule, Wakeup
from inboxd.simulator.graph_server import GraphServer

from tests.accounts.test_manager import process
from tests.support import ACCOUNT, ManualClock


class Idle:
    """A worker with nothing to do."""

    def __init__(self, account_id: str) -> None:
        self.name = f"idle:{account_id}"
        self.wakeup = Wakeup()

    async def poll(self) -> float:
        return 60.0


async def test_they_end_although_the_disk_refuses_what_goes_with_it(
    graph: tuple[GraphServer, str], tmp_path: Path
) -> None:
    told: list[str] = []

    async def refuse(_account_id: str) -> None:
        msg = "the disk is full"
        raise StorageUnavailableError(msg)

    async def note(account_id: str) -> None:
        told.append(account_id)

    async with (
        process(tmp_path, graph[1], ManualClock()) as accounts,
        Supervisor(Clock(), Metrics(), lambda: 0.0, on_give_up=pytest.fail) as supervisor,
    ):
        workers = AccountWorkers(supervisor, [lambda one: [Job(Idle(one), Schedule())]], [refuse, note])
        managed = accounts.served[ACCOUNT]
        workers.start(managed)
        assert supervisor.running == [f"idle:{ACCOUNT}"]
        with pytest.raises(StorageUnavailableError):
            await workers.stop(managed)
        assert supervisor.running == []
    assert told == [ACCOUNT]
