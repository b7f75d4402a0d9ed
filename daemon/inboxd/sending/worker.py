"""The worker of one account: claims what is due, stores the intent, makes the call, and settles what it came to.

It is polled by several lanes at a time; each poll handles one message. Messages of one conversation never meet: only
the first of them is due. What Meta answered is kept until it is stored, however long the disk refuses.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Final

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.domain.outbound import OutboundKind, OutboundState, ReasonCode
from inboxd.domain.reply_window import Tag
from inboxd.meta.budget import HOUR_S
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.send_budget import SendBudget, SendLimits, Slot
from inboxd.meta.send_client import SendReceipt
from inboxd.meta.send_errors import SendError, SendFailure
from inboxd.meta.single_post import NotSentError, OutcomeUnknownError
from inboxd.runtime import logs
from inboxd.runtime.errors import StorageError
from inboxd.runtime.worker import Schedule, WakeupOfOne
from inboxd.sending import delivery_store, matching_store
from inboxd.sending.calls import CallsUnderWay
from inboxd.sending.channels import Channel
from inboxd.sending.clock_steps import ClockSteps
from inboxd.sending.delivery_store import Begun, Due, Reason
from inboxd.sending.outbound import StoredOutbound
from inboxd.sending.resolution import Resolution, unknown_part
from inboxd.sending.sending_tools import SendingTools
from inboxd.sending.settlement import FINDING_OUT
from inboxd.sending.store import OutboundStore
from inboxd.sending.waiting import RETRY_S, Wait, Waiting

LANES: Final = 8
"""Messages of one account that are sent at a time."""
LOOKING_LANES: Final = 2
"""Of these, how many find out at a time what became of unknown messages: they may wait for the budget of other calls,
and nothing that is to be sent waits for that."""
SCHEDULE: Final = Schedule(lanes=LANES, one_watches=True, storage_event="sending_waits_for_storage", storage_rest_s=1)
LOOK_S: Final = 60.0
SET_ASIDE_MS: Final = 3_600_000
_RESTRICTIONS: Final = frozenset({SendFailure.STOPPED, SendFailure.RESTRICTED, SendFailure.THROTTLED})

Settle = Callable[[sqlite3.Connection], object]


class SendingWorker:
    """Sends for one account."""

    def __init__(
        self, managed: ManagedAccount, tools: SendingTools, channels: Mapping[OutboundKind, Channel], limits: SendLimits
    ) -> None:
        self.name = f"sending:{managed.account.id}"
        self.wakeup = WakeupOfOne()
        self.budget = SendBudget(managed.graph, limits)
        self.calls = CallsUnderWay()
        self._waiting = Waiting(managed, self.budget, tools.clock)
        self._managed = managed
        self._tools = tools
        self._clock = tools.clock
        self._database = tools.database
        self._channels = channels
        self._account_id = managed.account.id
        self._store = OutboundStore(tools.database.read)
        self._resolution = Resolution(
            self._account_id,
            tools.database,
            tools.settlement,
            tools.clock,
            tools.metrics,
            lambda one: channels[one.kind],
        )
        self._lock = asyncio.Lock()
        """Held while it is decided which message a lane takes."""
        self._is_ready = False
        self._busy: set[int] = set()
        self._looking: set[int] = set()
        """Those of them that are unknown."""
        self._unsettled: dict[int, Settle] = {}  # by outbound message: what Meta answered, and is not stored yet
        self._changed = False
        self._steps = ClockSteps(tools.clock)
        self._told: ReasonCode | None = None
        self._log = logs.get("sending").bind(account_id=self._account_id)
        managed.listeners.append(self.account_changed)

    def account_changed(self) -> None:
        """Something about the account is different: what waits for it may be sent now."""
        self._changed = True
        self.wakeup.notify()

    def echoed(self, outbound_ids: Collection[int]) -> None:
        """Echoes came that may explain these unknown messages."""
        self._resolution.unexplained.update(outbound_ids)
        self.wakeup.notify()

    async def poll(self) -> float:
        """Handle one message. Raises StorageError."""
        async with self._lock:
            if not self._is_ready:
                await self._begin()
            await self._heed_change()
            await self._settle_late()
            await self._resolution.recall(self._busy - self._looking)
            pace_s = self._waiting.short_s()
            if pace_s or self.wakeup.stopping:
                return pace_s
            busy, looks = [*self._busy], len(self._looking) < LOOKING_LANES
            due = await self._database.reading(lambda it: delivery_store.due(it, self._account_id, busy, unknown=looks))
            rest_s = self._rest_s(due)
            if due is None or rest_s:
                return rest_s
            self._busy.add(due.id)
            if due.is_unknown:
                self._looking.add(due.id)
        self.wakeup.notify()  # another lane takes what else is due, or watches the time
        try:
            await self._handle_or_set_aside(due.id)
        finally:
            self._busy.discard(due.id)
            self._looking.discard(due.id)
        return 0

    def _rest_s(self, due: Due | None) -> float:
        if due is None:
            return LOOK_S
        return min(LOOK_S, max(0, due.at - self._clock.now_ms()) / 1000)

    # --- the beginning, and changes ---

    async def _begin(self) -> None:
        """Find what was being sent when the process ended, and count what was sent in the last hour."""
        now = self._clock.now_ms()
        recent = await delivery_store.recent(self._database.read, self._account_id, now - int(HOUR_S * 1000))
        self.budget.restore(((now - at) / 1000, private) for private, at in recent)
        settlement = self._tools.settlement
        found = await self._database.write(lambda connection: settlement.orphaned(connection, self._account_id, now))
        if found:
            self._log.warning("sends_interrupted", count=found)
        self._resolution.unexplained.update(await matching_store.unknown(self._database.read, self._account_id))
        self._is_ready = self._changed = True

    async def _heed_change(self) -> None:
        self._changed |= self._steps.went_back()
        if self._changed:
            await self.budget.throttle.keep()  # a new token may have ended it
            now = self._clock.now_ms()
            await self._database.write(lambda connection: delivery_store.hasten(connection, self._account_id, now))
            self._changed = False

    async def _settle_late(self) -> None:
        """Store answers that the disk refused to take."""
        for outbound_id, settle in [*self._unsettled.items()]:
            try:
                await self._database.write(settle)
            except StorageError:
                raise
            except Exception:  # noqa: BLE001 - the others must be stored
                self._log.exception("sending_crashed", outbound_id=outbound_id)
                del self._unsettled[outbound_id]
                await self._set_aside(outbound_id)
            else:
                del self._unsettled[outbound_id]

    # --- one message ---

    async def _handle_or_set_aside(self, outbound_id: int) -> None:
        try:
            await self._handle(outbound_id)
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - one message must not stop the others, now or after a restart
            self._log.exception("sending_crashed", outbound_id=outbound_id)
            await self._set_aside(outbound_id)

    async def _set_aside(self, outbound_id: int) -> None:
        now, settlement = self._clock.now_ms(), self._tools.settlement
        try:
            await self._settle(
                outbound_id,
                lambda connection: settlement.set_aside(connection, outbound_id, now + SET_ASIDE_MS, now),
            )
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - its row cannot even be read
            await self._settle(outbound_id, lambda connection: delivery_store.bury(connection, outbound_id, now))

    async def _handle(self, outbound_id: int) -> None:
        one = await self._store.get(outbound_id)
        if one is None:
            return
        part = unknown_part(one)
        if part is not None:
            if self._managed.account.callable:
                await self._resolution.resolve(one, part)
            else:
                await self._resolution.postpone(one, part, self._waiting.for_person())
            return
        wait = self._waiting.of(one.kind)
        if wait is not None:
            await self._postpone(one, wait)
            return
        if self._waiting.short_s():
            return
        with self.budget.slot(private=one.kind is OutboundKind.PRIVATE_REPLY) as slot:
            slot.counts = False  # until a call is made
            try:
                await self._managed.graph.circuit.find_out()
            except GraphError:
                return  # the circuit is open for longer, and the next poll says so
            await self._send(one, slot)

    async def _send(self, one: StoredOutbound, slot: Slot) -> None:
        now = self._clock.now_ms()
        try:
            meta_now, settlement = self._managed.graph.meta_now_ms(), self._tools.settlement
            begun = await self._database.write(lambda connection: settlement.begin(connection, one.id, now, meta_now))
            if not isinstance(begun, Begun):
                if begun is OutboundState.FAILED:
                    self._log.info("message_not_sent", outbound_id=one.id, reason_code=ReasonCode.WINDOW_CLOSED.value)
                return
            slot.counts, self._told = True, None
            settle = await self._call(begun)
        except asyncio.CancelledError:
            await self._abandon(one.id)
            raise
        await self._settle(one.id, settle)

    async def _abandon(self, outbound_id: int) -> None:
        """The call was given up, because the account is no longer served, or the process ends: say so at once.

        Nobody may serve the account afterwards, and then nobody would find it.
        """
        now, settlement = self._clock.now_ms(), self._tools.settlement
        with suppress(StorageError):  # then it is found at the next start
            await self._settle(outbound_id, lambda connection: settlement.abandoned(connection, outbound_id, now))

    async def _call(self, begun: Begun) -> Settle:
        """Make the call. Returns what is to be stored of its outcome."""
        channel, settlement = self._channels[begun.outbound.kind], self._tools.settlement
        try:
            receipt = await self.calls.make(channel.send(begun), begun.outbound.participant_id)
        except SendError as error:
            return await self._refused(begun, error)
        except NotSentError as error:
            return self._not_sent(begun, error)
        except OutcomeUnknownError as error:
            words = f"{error} {FINDING_OUT}"
            return self._unknown(begun, Reason(ReasonCode.ANSWER_NOT_SEEN, words))
        except StorageError as error:  # something that the call needs could not be read
            return self._not_sent(begun, NotSentError(str(error)), 10 * RETRY_S)
        except ValueError as error:
            self._count(begun, "refused")
            words, now = str(error), self._clock.now_ms()
            return lambda connection: settlement.unsendable(connection, begun, words, now)
        return self._sent(begun, receipt, channel)

    def _sent(self, begun: Begun, receipt: SendReceipt, channel: Channel) -> Settle:
        now = self._clock.now_ms()
        self._count(begun, "sent")
        if begun.part.attempts == 0:
            self._tools.metrics.seconds.observe(max(0, now - begun.outbound.created_at) / 1000)
        settlement = self._tools.settlement
        return lambda connection: settlement.sent(connection, begun, receipt, channel.settled, now)

    async def _refused(self, begun: Begun, error: SendError) -> Settle:
        failure, settlement = error.send_row.failure, self._tools.settlement
        if failure in {SendFailure.UNCLEAR, SendFailure.UNCLEAR_ONCE}:
            words = f"{error} {FINDING_OUT}"
            return self._unknown(begun, Reason(error.send_row.reason_code, words, error.code, error.subcode))
        if failure is SendFailure.TOKEN or failure in _RESTRICTIONS:
            reason = Reason(error.send_row.reason_code, str(error), error.code, error.subcode)
            until = self._waiting.for_token() if failure is SendFailure.TOKEN else self._waiting.for_limits()
            return self._waits(begun, reason, until)
        self._count(begun, "refused")
        if failure is SendFailure.NO_TAG and begun.tag is Tag.HUMAN_AGENT:
            await self._no_human_agent()
        self._log.warning(
            "message_refused",
            outbound_id=begun.outbound.id,
            code=error.code,
            subcode=error.subcode,
            reason_code=error.send_row.reason_code.value,
        )
        now = self._clock.now_ms()
        return lambda connection: settlement.refused(connection, begun, error, now)

    async def _no_human_agent(self) -> None:
        """Meta says that the account does not have the feature: learn it, and do not try again."""
        try:
            await self._tools.accounts.update(self._managed, human_agent_refused_at=self._clock.now_ms())
        except StorageError as error:  # it is learned with the next message
            self._log.warning("human_agent_refused", error=str(error))
        else:
            self._log.warning("human_agent_refused", error=None)

    def _not_sent(self, begun: Begun, error: NotSentError, rest_s: float = RETRY_S) -> Settle:
        if error.needs_token:
            reason = Reason(ReasonCode.ACCOUNT_NOT_CALLABLE, f"{str(error).rstrip('.')}.")
            return self._waits(begun, reason, self._waiting.for_token())
        rest_s *= 1 + 0.3 * self._tools.random()
        reason = Reason(ReasonCode.NOT_CONNECTED, f"The call could not be made: {error}. Nothing was sent.")
        return self._waits(begun, reason, self._waiting.in_ms(rest_s))

    def _waits(self, begun: Begun, reason: Reason, until: int) -> Settle:
        self._count(begun, "waits")
        self._tell(reason, until)
        now = self._clock.now_ms()
        return lambda connection: self._tools.settlement.waits(connection, begun, reason, until, now)

    def _unknown(self, begun: Begun, reason: Reason) -> Settle:
        self._count(begun, "unknown")
        self._resolution.unexplained.add(begun.outbound.id)
        self._log.warning(
            "send_outcome_unknown",
            outbound_id=begun.outbound.id,
            code=reason.meta_code,
            subcode=reason.meta_subcode,
            error=reason.words,
        )
        now = self._clock.now_ms()
        return lambda connection: self._tools.settlement.unknown(connection, begun, reason, now)

    async def _settle(self, outbound_id: int, settle: Settle) -> None:
        """Store what a call came to. When the disk refuses, it is kept, and stored before anything else is sent."""
        try:
            await self._database.write(settle)
        except StorageError:
            self._unsettled[outbound_id] = settle
            raise
        except asyncio.CancelledError:
            with suppress(StorageError):
                await self._database.write(settle)  # it settles once, also when the first one was committed
            raise

    # --- waiting ---

    async def _postpone(self, one: StoredOutbound, wait: Wait) -> None:
        self._tell(wait.reason, wait.until)
        now = self._clock.now_ms()
        kind = one.kind.value if one.kind is OutboundKind.PRIVATE_REPLY else None
        await self._database.write(
            lambda connection: delivery_store.postpone(connection, self._account_id, wait.until, wait.reason, now, kind)
        )

    def _tell(self, reason: Reason, until: int) -> None:
        if reason.code is not self._told:
            self._told = reason.code
            self._log.warning(
                "sends_wait",
                reason_code=reason.code.value,
                error=reason.words,
                seconds=round((until - self._clock.now_ms()) / 1000),
            )

    def _count(self, begun: Begun, outcome: str) -> None:
        self._tools.metrics.attempts.labels(begun.outbound.kind.value, outcome).inc()
