"""The backfill workers of accounts that come and go."""

from collections.abc import AsyncIterator

import pytest
from inboxd.accounts.managed_account import ManagedAccount
from inboxd.domain.account import Account, AccountState, LoginType
from inboxd.domain.run import RunStatus
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.profiles.sync import ProfileSyncs, SyncServices
from inboxd.runs.backfill.account_workers import BackfillWorkers
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.simulator.graph_server import GraphServer
from inboxd.storage.database import Database
from prometheus_client import CollectorRegistry

from tests.support import ACCOUNT, ManualClock, Meta, event_log, meta


class Rig:
    def __init__(self, database: Database, platform: Meta, clock: ManualClock) -> None:
        self.platform = platform
        log = event_log(clock)
        syncs = ProfileSyncs(
            SyncServices(
                database=database,
                cache=ProfileCache(clock, ttl_s=86_400, size=10),
                clock=clock,
                metrics=ProfileMetrics(CollectorRegistry()),
                event_log=log,
                random=lambda: 0.0,
                on_picture=lambda: None,
                on_profile=lambda _connection, _key, _at: None,
            )
        )
        self.backfills = BackfillStore(database, log)
        self.service = BackfillService(self.backfills, clock)
        self.workers = BackfillWorkers(self.service, self.backfills, sync_of=syncs.of, clock=clock, random=lambda: 0.0)

    async def managed(self) -> ManagedAccount:
        account = Account(
            id=ACCOUNT, login_type=LoginType.INSTAGRAM, state=AccountState.ACTIVE, created_at=1, updated_at=1
        )
        return ManagedAccount(account, await self.platform.account(), None)


@pytest.fixture
async def rig(database: Database, graph: tuple[GraphServer, str]) -> AsyncIterator[Rig]:
    clock = ManualClock()
    async with meta(graph[1], database, clock) as platform:
        yield Rig(database, platform, clock)


async def test_an_account_has_one_worker_which_is_notified_of_its_runs(rig: Rig) -> None:
    ((worker, schedule),) = rig.workers.for_account(await rig.managed())
    assert (worker.name, schedule.storage_event) == (f"backfill:{ACCOUNT}", "backfill_waits_for_storage")
    assert rig.service.serves(ACCOUNT)
    assert await worker.poll() is None, "there is no run: it waits until it is notified"

    notified = worker.wakeup.next
    run = await rig.service.start(ACCOUNT, origin="api", batch_size=10)
    assert notified.is_set()
    assert await worker.poll() == 0
    stored = await rig.backfills.get(run.id)
    assert stored is not None
    assert stored.status is RunStatus.COMPLETED


async def test_the_run_of_an_account_that_leaves_has_failed(rig: Rig) -> None:
    rig.workers.for_account(await rig.managed())
    run = await rig.service.start(ACCOUNT, origin="api", batch_size=10)
    await rig.workers.account_removed(ACCOUNT)
    assert not rig.service.serves(ACCOUNT)
    stored = await rig.backfills.get(run.id)
    assert stored is not None
    assert (stored.status, stored.reason) == (RunStatus.FAILED, "the account is no longer served")
