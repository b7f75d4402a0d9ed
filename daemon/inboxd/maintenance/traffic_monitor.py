"""Watches the events that arrive for each account, and reports what is unusual: above all, that none arrive."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from inboxd.accounts.manager import AccountManager
from inboxd.domain.account import AccountState
from inboxd.domain.retry import GONE_REST_S
from inboxd.domain.traffic import (
    COMPANION,
    DAY_MS,
    HISTORY_HOURS,
    HOUR_MS,
    MESSAGE_KINDS,
    AccountTraffic,
    TrafficCause,
    TrafficFinding,
    findings,
)
from inboxd.maintenance import traffic_store as store
from inboxd.maintenance.metrics import TrafficMetrics
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.worker import Schedule, Wakeup
from inboxd.storage.database import Read

LOOK_S: Final = 60.0
SCHEDULE: Final = Schedule(storage_event="traffic_waits_for_storage", storage_rest_s=60)
MAX_UNSERVED: Final = 100
"""Accounts that are not served and whose events are counted. Beyond it, the one silent for longest is dropped."""
_ID: Final = re.compile(r"[0-9]{1,32}")
_IGNORED: Final = frozenset({"test"})
_NO_ACCOUNT: Final = frozenset({"unknown"})
"""Kinds of events whose id may not be that of an account."""


class _Counts:
    """What arrived for one account. Times in ms."""

    __slots__ = ("companions_since", "hours", "last_at", "unserved_at", "unserved_since")

    def __init__(self) -> None:
        self.hours: dict[int, list[int]] = {}
        """Hour since the epoch to events, messages and companions; no more than HISTORY_HOURS of them."""
        self.last_at: int | None = None
        self.unserved_at: int | None = None
        self.unserved_since: int | None = None
        self.companions_since: int | None = None

    def add(self, at: int, count: int, kind: str) -> None:
        hour = at // HOUR_MS
        counts = self.hours.setdefault(hour, [0, 0, 0])
        counts[0] += count
        counts[1] += count if kind in MESSAGE_KINDS else 0
        counts[2] += count if kind == COMPANION else 0
        if kind in MESSAGE_KINDS:
            self.companions_since = None
        elif kind == COMPANION and self.companions_since is None:
            self.companions_since = at
        self.last_at = max(at, self.last_at or 0)
        if len(self.hours) > HISTORY_HOURS:
            del self.hours[min(self.hours)]

    def unserved(self, at: int) -> None:
        """An event arrived while the account was not served."""
        if self.unserved_at is None or at - self.unserved_at >= DAY_MS:
            self.unserved_since = at
        self.unserved_at = at

    def correct(self, now: int) -> bool:
        """Correct what a clock that was ahead recorded: nothing may be later than `now`. Returns whether it was."""
        if self.last_at is None or self.last_at <= now:
            return False
        self.hours = {hour: counts for hour, counts in self.hours.items() if hour <= now // HOUR_MS}
        for name in ("last_at", "unserved_at", "unserved_since", "companions_since"):
            at = getattr(self, name)
            setattr(self, name, None if at is None else min(at, now))
        return True

    def of_last_day(self, now: int) -> list[int]:
        since = (now - DAY_MS) // HOUR_MS
        recent = [counts for hour, counts in self.hours.items() if hour > since]
        return [sum(column) for column in zip(*recent, strict=True)] if recent else [0, 0, 0]

    def usual_hours(self) -> list[int]:
        latest = max(self.hours, default=0)
        return sorted(hour for hour in self.hours if hour > latest - HISTORY_HOURS)


class TrafficMonitor:
    """Counts events by account and checks every minute whether something is unusual. Each finding is logged once."""

    name = "traffic"

    def __init__(
        self, read: Read, accounts: AccountManager, clock: Clock, metrics: TrafficMetrics, *, silent_after_hours: int
    ) -> None:
        self.wakeup = Wakeup()
        self.silent_after_hours = silent_after_hours
        self.findings: list[TrafficFinding] = []
        """What was unusual at the last check."""
        self.traffic: list[AccountTraffic] = []
        """What had arrived until the last check."""
        self._read = read
        self._accounts = accounts
        self._clock = clock
        self._metrics = metrics
        self._counts: dict[str, _Counts] = {}
        self._started_at = clock.now_ms()
        self._recalled = False
        self._reported: dict[tuple[TrafficCause, str | None], int | None] = {}
        """The findings that were logged, and since when (ms)."""
        self._log = logs.get("traffic")

    def observe(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Count events that have arrived, by account (any id that webhooks name it by) and kind."""
        now = self._clock.now_ms()
        for (named, kind), count in counts.items():
            account_id = self._accounts.aliases.get(named, named)
            served = account_id in self._accounts.served
            if kind in _IGNORED or not (served or self._is_unserved_account(account_id, kind)):
                continue
            known = self._counts.setdefault(account_id, _Counts())
            known.add(now, count, kind)
            if not served:
                if known.unserved_at is None:
                    self.wakeup.notify()  # it is reported at once
                known.unserved(now)
        self._drop_unserved()

    async def poll(self) -> float:
        """Check every minute, and when an event for a new account that is not served arrives. Raises StorageError."""
        await self.look()
        return LOOK_S

    async def look(self) -> None:
        """Check the traffic, and log what has become unusual or usual again. Raises StorageError."""
        now = self._clock.now_ms()
        self._correct(now)
        if not self._recalled:
            await self._recall(now)
        self.traffic = [await self._traffic_of(account_id, now) for account_id in self._known()]
        found = findings(self.traffic, now=now, started_at=self._started_at, silent_after_hours=self.silent_after_hours)
        self.findings = [
            one._replace(since=self._reported.get((one.cause, one.account_id), one.since)) for one in found
        ]
        self._report()
        self._set_gauges()

    def _known(self) -> list[str]:
        return sorted(self._counts.keys() | self._accounts.served.keys())

    def _correct(self, now: int) -> None:
        """Correct times that a clock that was ahead recorded: silence would not be noticed until they are past."""
        self._started_at = min(self._started_at, now)
        corrected = [known.correct(now) for known in self._counts.values()]
        if any(corrected):
            self._recalled = False  # hours before `now` may be missing

    async def _recall(self, now: int) -> None:
        """Read from the database in which hours before this start messages came."""
        since = now - 2 * HISTORY_HOURS * HOUR_MS
        for account_id, hour, last_at in await store.active_hours(self._read, since, now):
            served = account_id in self._accounts.served
            if not served and (now - last_at >= DAY_MS or not self._is_unserved_account(account_id, "message")):
                continue
            known = self._counts.setdefault(account_id, _Counts())
            counts = known.hours.setdefault(hour, [1, 0, 0])
            counts[1] = max(counts[1], 1)
            known.last_at = max(last_at, known.last_at or 0)
            if not served:
                known.unserved(known.last_at)
        self._drop_unserved()
        self._recalled = True

    async def _traffic_of(self, account_id: str, now: int) -> AccountTraffic:
        known = self._counts.get(account_id, _Counts())
        managed = self._accounts.served.get(account_id)
        events, messages, companions = known.of_last_day(now)
        gone, calls = store.Unavailable(0, None), 0
        if managed is not None:
            calls = managed.graph.budget.report().used
            # A participant who does not exist is fetched again after GONE_REST_S, which tells when that was found.
            within_the_hour = now + GONE_REST_S * 1000 - HOUR_MS
            gone = await store.unavailable(self._read, account_id, within_the_hour)
        return AccountTraffic(
            account_id=account_id,
            served=managed is not None,
            expected=managed is not None and managed.account.state is not AccountState.DEAUTHORIZED,
            hours=known.usual_hours(),
            last_at=known.last_at,
            unserved_at=known.unserved_at,
            unserved_since=known.unserved_since,
            events=events,
            messages=messages,
            companions=companions,
            companions_since=known.companions_since,
            unavailable=gone.participants,
            unavailable_since=None if gone.due_at is None else gone.due_at - GONE_REST_S * 1000,
            calls=calls,
        )

    def _report(self) -> None:
        current = {(one.cause, one.account_id): one.since for one in self.findings}
        for one in self.findings:
            if (one.cause, one.account_id) not in self._reported:
                self._log.warning(
                    "traffic_unusual",
                    account_id=one.account_id,
                    cause=one.cause.value,
                    since=None if one.since is None else iso_utc(one.since),
                    detail=one.detail,
                    remedy=one.remedy,
                )
        for cause, account_id in sorted(self._reported.keys() - current.keys(), key=str):
            self._log.info("traffic_usual_again", account_id=account_id, cause=cause.value)
        self._reported = current

    def _set_gauges(self) -> None:
        by_cause = Counter(one.cause for one in self.findings)
        for cause in TrafficCause:
            self._metrics.findings.labels(cause.value).set(by_cause[cause])
        self._metrics.last_event.clear()  # accounts that are no longer served
        for one in self.traffic:
            if one.served and one.last_at is not None:
                self._metrics.last_event.labels(one.account_id).set(one.last_at / 1000)

    @staticmethod
    def _is_unserved_account(account_id: str, kind: str) -> bool:
        return kind not in _NO_ACCOUNT and _ID.fullmatch(account_id) is not None

    def _drop_unserved(self) -> None:
        unserved = self._counts.keys() - self._accounts.served.keys()
        if len(unserved) <= MAX_UNSERVED:
            return
        for one in sorted(unserved, key=lambda account_id: self._counts[account_id].last_at or 0)[:-MAX_UNSERVED]:
            del self._counts[one]
