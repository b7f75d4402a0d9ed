"""The worker that fetches the due profiles of one account, within its budget: live fetches."""

from collections.abc import Collection
from typing import Final

from inboxd.domain.budget import Priority
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import ProfileState
from inboxd.domain.waiting import WaitingFor, waiting
from inboxd.profiles.store import DueFetch, ProfileStore
from inboxd.profiles.sync import ACCOUNT_WIDE, AMBIGUOUS_REST_MS, ProfileSync
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.worker import Schedule, Wakeup

SCHEDULE: Final = Schedule(storage_event="profiles_wait_for_storage", storage_rest_s=1)
"""Of one lane."""


class ProfileFetcher:
    """Fetches the due profiles of one account. What is due is in SQLite, so nothing is lost with the process.

    It may be polled by several lanes at a time: each poll makes one fetch.
    """

    def __init__(self, sync: ProfileSync, profiles: ProfileStore, clock: Clock) -> None:
        self.name = f"profiles:{sync.account_id}"
        self.wakeup = Wakeup()
        self._sync = sync
        self._managed = sync.managed
        self._account_id = sync.account_id
        self._profiles = profiles
        self._clock = clock
        self._silences = 0
        self._logged: WaitingFor | None = None
        self._log = logs.get("profiles").bind(account_id=self._account_id)
        self._managed.listeners.append(self.wakeup.notify)

    def wrote(self, keys: Collection[ConversationKey]) -> None:
        """These participants have written, so a fetch may be due."""
        self._sync.wrote(keys)
        self.wakeup.notify()

    async def poll(self) -> float | None:
        """Make one fetch that is due. Raises StorageError."""
        due = await self._next_due()
        self._log_waiting()
        if due is None:
            return await self._idle_s()
        await self._fetch(due)
        return 0

    async def _next_due(self) -> DueFetch | None:
        """Take a due fetch that nobody has taken yet, and claim its participant."""
        if not self._managed.account.callable:
            return None
        asking, unanswered = self._sync.asking, self._sync.unanswered
        async with self._sync.due_lock:
            limit = len(asking) + len(unanswered) + 1
            found = await self._profiles.due(self._account_id, self._clock.now_ms(), limit)
            free = {one.participant_id: one for one in found if one.participant_id not in asking}
            due = next((one for who, one in free.items() if who not in unanswered), None)
            if due is None:  # only participants without an answer are due: the oldest of them
                due = next((free[who] for who in unanswered if who in free), None)
            if due is not None:
                asking.add(due.participant_id)
                self.wakeup.notify()  # another lane may find another one
        return due

    def _log_waiting(self) -> None:
        """Log what the next fetch waits for, once for each cause."""
        now = self._clock.now_ms()
        budget = self._managed.graph.budget.report(self._managed.graph.profiles_throttle)
        found = waiting(
            ProfileState.PENDING,
            None,
            now,
            account=self._managed.account,
            budget=budget,
            asking=True,
            now=now,
            iso=iso_utc,
        )
        what = None if found is None or found.what is WaitingFor.ANSWER else found.what
        if what is not self._logged and found is not None and what is not None:
            until = None if found.until is None else iso_utc(found.until)
            self._log.info("profiles_wait", waiting_for=what.value, until=until, reason=found.text)
        self._logged = what

    async def _idle_s(self) -> float | None:
        if not self._managed.account.callable:
            return None
        now = self._clock.now_ms()
        next_at = await self._profiles.next_due_at(self._account_id, now)
        return None if next_at is None else (next_at - now) / 1000

    async def _fetch(self, due: DueFetch) -> None:
        who, attempt = due.participant_id, due.attempts + 1
        try:
            error = await self._sync.fetch(who, Priority.LIVE)
            self._silences = self._silences + 1 if error is not None and error.of_host else 0
            if error is None:
                return
            if error.of_host:  # no attempt: the fetch is still due
                await self._sync.rest(self._silences)
                return
            if error.action not in ACCOUNT_WIDE:
                await self._sync.record_failure(who, attempt, error)
            elif error.row.ambiguous:
                # Another participant must come next: that answer tells whether the account-wide failure is over.
                await self._sync.postpone(who, due.attempts, error, self._clock.now_ms() + AMBIGUOUS_REST_MS)
        finally:
            await self._sync.release(who)
            self.wakeup.notify()
