"""The fetchers of all accounts: each is told about its own account, and backfill shares the sync of it."""

from collections.abc import AsyncIterator

import pytest
from inboxd.accounts.managed_account import ManagedAccount
from inboxd.domain.account import Account, AccountState, LoginType
from inboxd.domain.conversation import ConversationKey
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.fetchers import ProfileFetchers
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.profiles.store import ProfileStore
from inboxd.profiles.sync import ProfileSyncs, SyncServices
from inboxd.profiles.worker import ProfileFetcher
from inboxd.simulator.graph_server import GraphServer
from inboxd.storage.database import Database
from prometheus_client import CollectorRegistry

from tests.support import ACCOUNT, ANA, BRUNO, ManualClock, Meta, event_log, meta

OTHER = ACCOUNT[::-1]


class Rig:
    def __init__(self, database: Database, platform: Meta, clock: ManualClock) -> None:
        self.platform = platform
        self.syncs = ProfileSyncs(
            SyncServices(
                database=database,
                cache=ProfileCache(clock, ttl_s=86_400, size=10),
                clock=clock,
                metrics=ProfileMetrics(CollectorRegistry()),
                event_log=event_log(clock),
                random=lambda: 0.0,
                on_picture=lambda: None,
                on_profile=lambda _connection, _key, _at: None,
            )
        )
        self.fetchers = ProfileFetchers(self.syncs, ProfileStore(database), clock, concurrency=3)

    async def served(self, account_id: str) -> ManagedAccount:
        account = Account(
            id=account_id, login_type=LoginType.INSTAGRAM, state=AccountState.ACTIVE, created_at=1, updated_at=1
        )
        return ManagedAccount(account, await self.platform.account(), None)

    async def fetcher(self, account_id: str) -> ProfileFetcher:
        ((worker, schedule),) = self.fetchers.for_account(await self.served(account_id))
        assert isinstance(worker, ProfileFetcher)
        assert schedule.lanes == 3
        return worker


@pytest.fixture
async def rig(database: Database, graph: tuple[GraphServer, str]) -> AsyncIterator[Rig]:
    clock = ManualClock()
    async with meta(graph[1], database, clock) as platform:
        yield Rig(database, platform, clock)


async def test_whoever_has_written_is_told_to_the_fetcher_of_their_account(rig: Rig) -> None:
    ours, theirs = await rig.fetcher(ACCOUNT), await rig.fetcher(OTHER)
    our_next, their_next = ours.wakeup.next, theirs.wakeup.next
    rig.fetchers.notify([ConversationKey(ACCOUNT, ANA), ConversationKey("0", BRUNO)])
    assert our_next.is_set()
    assert not their_next.is_set()


async def test_an_account_that_was_removed_is_told_nothing(rig: Rig) -> None:
    ours = await rig.fetcher(ACCOUNT)
    notified = ours.wakeup.next
    rig.fetchers.remove(ACCOUNT)
    rig.fetchers.notify([ConversationKey(ACCOUNT, ANA)])
    assert not notified.is_set()


async def test_an_account_has_one_sync_until_it_is_removed(rig: Rig) -> None:
    served = await rig.served(ACCOUNT)
    sync = rig.syncs.of(served)
    assert rig.syncs.of(served) is sync
    again = await rig.served(ACCOUNT)
    assert rig.syncs.of(again).managed is again
    rig.fetchers.remove(ACCOUNT)
    assert rig.syncs.of(again) is not sync
