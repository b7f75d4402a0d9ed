"""Builds this feature: a name and a face for each participant."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from inboxd.accounts.manager import AccountManager
from inboxd.domain.conversation import ConversationKey
from inboxd.events.log import EventLog
from inboxd.feature import Core, Feature, Job
from inboxd.meta.pictures import PictureClient, PictureRules
from inboxd.profiles import avatar_worker, personal_data_store
from inboxd.profiles.api import ParticipantsApi
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.avatar_worker import AvatarDownloader
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.event_recording import EVENT_TYPES
from inboxd.profiles.fetchers import ProfileFetchers
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.profiles.outlook import ProfileOutlook
from inboxd.profiles.store import ProfileStore
from inboxd.profiles.sync import ProfileSyncs, SyncServices


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature."""

    cache_ttl_s: int
    cache_size: int
    concurrency: int
    picture_rules: PictureRules
    avatar_folder: Path
    max_avatars: int


@dataclass(frozen=True, kw_only=True)
class Profiles(Feature):
    """This feature, and what the features above it use."""

    store: ProfileStore
    cache: ProfileCache
    outlook: ProfileOutlook
    syncs: ProfileSyncs
    fetchers: ProfileFetchers


async def build(
    core: Core,
    stack: AsyncExitStack,
    options: Options,
    *,
    accounts: AccountManager,
    event_log: EventLog,
    on_profile: Callable[[sqlite3.Connection, ConversationKey, int], None],
) -> Profiles:
    """Build the feature. `stack` closes the connections to the hosts of pictures.

    `on_profile` runs in the transaction that stores a fetched profile, or an avatar.
    """
    metrics = ProfileMetrics(core.metrics.registry)
    cache = ProfileCache(
        core.clock, ttl_s=options.cache_ttl_s, size=options.cache_size, on_lookup=metrics.observe_lookup
    )
    pictures = await stack.enter_async_context(PictureClient(options.picture_rules))
    avatars = AvatarStore(core.database, options.avatar_folder, on_profile)
    downloader = AvatarDownloader(avatars, pictures, core.clock, metrics, core.random, max_count=options.max_avatars)
    store = ProfileStore(core.database)
    syncs = ProfileSyncs(
        SyncServices(
            database=core.database,
            cache=cache,
            clock=core.clock,
            metrics=metrics,
            event_log=event_log,
            random=core.random,
            on_picture=downloader.wakeup.notify,
            on_profile=on_profile,
        )
    )
    fetchers = ProfileFetchers(syncs, store, core.clock, concurrency=options.concurrency)
    outlook = ProfileOutlook(accounts, core.clock)

    def account_workers(account_id: str) -> Sequence[Job]:
        return fetchers.for_account(accounts.served[account_id])

    async def account_removed(account_id: str) -> None:
        fetchers.remove(account_id)

    return Profiles(
        name="profiles",
        event_types=EVENT_TYPES,
        store=store,
        cache=cache,
        outlook=outlook,
        syncs=syncs,
        fetchers=fetchers,
        workers=(Job(downloader, avatar_worker.SCHEDULE),),
        account_workers=account_workers,
        on_account_removed=account_removed,
        operations=ParticipantsApi(core.database, avatars, core.clock, fetchers.notify, outlook).operations(),
        personal_data=personal_data_store.personal_data(core.database, avatars, cache),
    )
