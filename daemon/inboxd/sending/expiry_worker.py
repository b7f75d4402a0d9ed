"""Fails messages that wait until nothing may be sent any more: their reply window has closed."""

import sqlite3
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from inboxd.domain.outbound import OutboundKind, OutboundState, PartState, ReasonCode, holds
from inboxd.events.log import EventLog
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.worker import Schedule, Wakeup
from inboxd.sending import delivery_store, store
from inboxd.sending.event_recording import record_outbound
from inboxd.sending.outbound import StoredOutbound, WindowClosedError
from inboxd.sending.service import require_open
from inboxd.storage.database import Database

SCHEDULE: Final = Schedule(storage_event="sending_waits_for_storage")
STEP: Final = 100
"""Messages of one transaction."""
REST_S: Final = 60.0
_BUSY_REST_S: Final = 5.0
"""While some are just being sent: what becomes of them is decided by Meta's answer."""
_UNDER_WAY: Final = frozenset({PartState.SENDING, PartState.UNKNOWN})


Orphaned = Callable[[sqlite3.Connection, int], int]
"""Makes unknown what was being sent for accounts that are not served any more. Returns how many messages."""


class _Broken(NamedTuple):
    """A message whose row cannot be read."""

    id: int
    account_id: str
    error: msgspec.MsgspecError


class ExpiryWorker:
    """Looks for messages whose time is over, and decides it anew: the participant may have written since."""

    name = "outbox_expiry"

    def __init__(
        self,
        database: Database,
        event_log: EventLog,
        clock: Clock,
        *,
        hold_after_failure: Callable[[], bool],
        orphaned: Orphaned | None = None,
    ) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._event_log = event_log
        self._clock = clock
        self._hold_after_failure = hold_after_failure
        self._store = store.OutboundStore(database.read)
        self._log = logs.get("sending")
        self._orphaned = orphaned
        self.on_released: list[Callable[[str], None]] = []
        """Told the account of each message that failed: a later one may be due. Must not raise."""

    async def poll(self) -> float:
        """Fail up to STEP messages. Returns the seconds until the next look. Raises StorageError."""
        now = self._clock.now_ms()
        if self._orphaned is not None:
            await self._look_once(self._orphaned, now)
            self._orphaned = None
        next_at = await self._store.next_expiry()
        if next_at is None or next_at > now:
            return REST_S if next_at is None else min(REST_S, (next_at - now) / 1000)
        failed, broken = await self._database.write(lambda connection: self._expire(connection, now))
        for one in broken:
            self._log.error("sending_crashed", outbound_id=one.id, account_id=one.account_id, exc_info=one.error)
        for expired in failed:
            self._log.warning("outbound_expired", outbound_id=expired.id, account_id=expired.account_id)
        for account_id in (*(one.account_id for one in broken), *(one.account_id for one in failed)):
            for tell in self.on_released:
                tell(account_id)
        return 0 if len(failed) == STEP else _BUSY_REST_S

    async def _look_once(self, orphaned: Orphaned, now: int) -> None:
        found = await self._database.write(lambda connection: orphaned(connection, now))
        if found:
            self._log.warning("sends_interrupted", account_id=None, count=found)

    def _expire(self, connection: sqlite3.Connection, now: int) -> tuple[list[StoredOutbound], list[_Broken]]:
        """The messages that failed; and those whose rows cannot be read: they are never looked at again."""
        failed, broken = list[StoredOutbound](), list[_Broken]()
        for outbound_id in store.expiring(connection, now, STEP):
            try:
                one = store.get(connection, outbound_id)
            except msgspec.MsgspecError as error:
                account_id = delivery_store.bury(connection, outbound_id, now)
                if account_id is not None:
                    broken.append(_Broken(outbound_id, account_id, error))
                continue
            if one is not None and self._expire_one(connection, one, now):
                failed.append(one)
        return failed, broken

    def _expire_one(self, connection: sqlite3.Connection, one: StoredOutbound, now: int) -> bool:
        """Fail a message, unless it may be sent after all. Returns whether it failed."""
        if any(part.state in _UNDER_WAY for part in one.parts):
            return False
        words = f"It could not be sent before {iso_utc(one.expires_at or now)}, when Instagram took it no longer."
        if one.kind is OutboundKind.MESSAGE and one.key is not None:
            try:
                store.extend(connection, one.id, require_open(connection, one.key, one.sent_by, now))
            except WindowClosedError as error:
                words = str(error)
            else:
                return False
        failed = store.StateChange(
            OutboundState.FAILED,
            PartState.FAILED,
            (PartState.QUEUED,),
            holds=holds(OutboundState.FAILED, hold_after_failure=self._hold_after_failure()),
            reason_code=ReasonCode.WINDOW_CLOSED,
            reason=words,
        )
        store.set_state(connection, one, failed, now)
        record_outbound(connection, self._event_log, one.id, now)
        return True
