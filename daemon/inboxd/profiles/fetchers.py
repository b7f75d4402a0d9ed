"""The profile fetchers of all accounts, as the parts that serve several accounts reach them."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.domain.conversation import ConversationKey
from inboxd.feature import Job
from inboxd.profiles.store import ProfileStore
from inboxd.profiles.sync import ProfileSyncs
from inboxd.profiles.worker import SCHEDULE, ProfileFetcher
from inboxd.runtime.clock import Clock


class ProfileFetchers:
    """Makes the profile fetcher of each account, and tells it who has written."""

    def __init__(self, syncs: ProfileSyncs, profiles: ProfileStore, clock: Clock, *, concurrency: int) -> None:
        self._syncs = syncs
        self._profiles = profiles
        self._clock = clock
        self._schedule = replace(SCHEDULE, lanes=concurrency)
        self._by_account: dict[str, ProfileFetcher] = {}

    def for_account(self, managed: ManagedAccount) -> Sequence[Job]:
        """The worker that fetches the profiles of an account that begins to be served."""
        fetcher = ProfileFetcher(self._syncs.of(managed), self._profiles, self._clock)
        self._by_account[managed.account.id] = fetcher
        return [Job(fetcher, self._schedule)]

    def notify(self, writers: Collection[ConversationKey]) -> None:
        """These participants have written, or somebody wants their profiles: a fetch may be due."""
        for account_id in {key.account_id for key in writers}:
            fetcher = self._by_account.get(account_id)
            if fetcher is not None:
                fetcher.wrote(writers)

    def remove(self, account_id: str) -> None:
        """The account is no longer served."""
        self._by_account.pop(account_id, None)
        self._syncs.remove(account_id)
