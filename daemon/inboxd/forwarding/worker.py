"""The worker of one endpoint: reads behind a cursor, pushes lane by lane, and keeps what could not be delivered.

It is polled by several lanes at a time; each poll pushes one item. What was done is saved about every second. When the
endpoint fails as a whole it rests: the cursor stands still, and one item at a time is tried until one is delivered.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from inboxd.domain import forwarding as rules
from inboxd.domain.forwarding import PushVerdict, Unreached
from inboxd.forwarding.endpoint import Endpoint
from inboxd.forwarding.feeder import Feeder
from inboxd.forwarding.items import ItemSource
from inboxd.forwarding.metrics import ForwardingMetrics
from inboxd.forwarding.pacing import PushPacing
from inboxd.forwarding.progress_store import ProgressStore, PushAttempt, RetryState
from inboxd.forwarding.recorder import SAVE_S, Recorder
from inboxd.forwarding.service import JSON
from inboxd.forwarding.store import EndpointStore
from inboxd.forwarding.target import PushAnswer, TargetClient, host_of
from inboxd.forwarding.window import PushWindow, WindowEntry
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageError
from inboxd.runtime.worker import Schedule, WakeupOfOne

LANES: Final = 8
"""Items that are pushed to one endpoint at a time."""
SCHEDULE: Final = Schedule(
    lanes=LANES + 1,  # one of them may wait to save
    storage_event="forwarding_waits_for_storage",
    storage_rest_s=5,
    log_id="endpoint_id",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the workers of all endpoints share."""

    endpoints: EndpointStore
    progress: ProgressStore
    target: TargetClient
    pacing: PushPacing
    source_of: Callable[[Endpoint], ItemSource]
    metrics: ForwardingMetrics
    clock: Clock
    random: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What a worker has in memory, from one reading of its endpoint to the next."""

    endpoint: Endpoint
    source: ItemSource
    window: PushWindow
    recorder: Recorder
    feeder: Feeder


class EndpointWorker:
    """Pushes to one endpoint."""

    def __init__(self, endpoint_id: str, tools: Tools) -> None:
        self.name = f"forwarding:{endpoint_id}"
        self.wakeup = WakeupOfOne()
        self._id = endpoint_id
        self._tools = tools
        self._clock = tools.clock
        self._log = logs.get("forwarding").bind(endpoint_id=endpoint_id)
        self._lock = asyncio.Lock()
        """Held while something is read or saved; not while something is pushed."""
        self._reading: _Reading | None = None
        self._is_off = False
        """Whether the endpoint is disabled or gone."""
        self._reload = False
        self._resting = False
        """Whether the endpoint fails as a whole."""
        self._rest_until = 0.0
        """When one item is tried (s, monotonic). A clock that is set must make no rest longer."""
        self._failed_lanes: set[str] = set()
        """Lanes that failed since the last success; only the first few."""
        self._first_failure: float | None = None
        """When it first failed since the start, or since its last success (s, monotonic)."""
        self._told_full = False
        self._saver_waits = False
        self._next_slot = 0.0
        """When the rate limit allows the next request (s, monotonic)."""

    @property
    def cursor(self) -> int | None:
        """How far it is, also what is not saved yet."""
        return None if self._reading is None else self._reading.window.cursor

    def appended(self) -> None:
        """There may be something to push."""
        if self._reading is not None:
            self._reading.feeder.look = True
        if not self._is_off:
            self.wakeup.notify()

    def reload(self) -> None:
        """The endpoint, or what waits for it, was changed: read it again, and try at once."""
        self._reload, self._is_off = True, False
        self._rest_until = 0.0
        self.wakeup.notify()

    async def poll(self) -> float | None:
        """Push one item, or read or save. Raises StorageError."""
        try:
            return await self._step()
        except StorageError:
            raise
        except asyncio.CancelledError:
            with suppress(Exception):  # what was delivered should not be pushed again by the next daemon
                await self._last_save()
            self._reading = None
            raise
        except BaseException:  # everything is read again
            self._reading = None
            raise

    async def _step(self) -> float | None:
        reading = self._reading
        if reading is None or self._must_close(reading):
            return await self._prepare()
        entry = self._take(reading)
        if entry is None:
            async with self._lock:
                await self._tools.pacing.let_receiving_go_first()
                if self._is_current(reading):
                    await self._fill(reading)
            if not self._is_current(reading):
                return 0
            entry = self._take(reading)
        if entry is None:
            wants = not self._resting and not self.wakeup.stopping and not reading.recorder.overflows
            return 0 if wants and reading.feeder.wants(reading.window) else await self._idle(reading)
        if not await self._slot(reading.endpoint.rate_limit):
            reading.window.put_back(entry)
            await self._save(reading)
            return 0
        answer = await self._push(reading, entry)
        if reading is self._reading:
            await self._settle(reading, entry, answer)
        if reading.recorder.is_due or self.wakeup.stopping:
            await self._save(reading)
        return 0

    # --- reading ---

    def _is_current(self, reading: _Reading) -> bool:
        return reading is self._reading and not self._must_close(reading)

    def _must_close(self, reading: _Reading) -> bool:
        """Whether what is in memory is to be dropped as soon as nothing is on its way."""
        if self._reload or reading.recorder.is_stale:
            return True
        return self._resting and self._rest_s > 0 and not reading.window.in_flight

    async def _prepare(self) -> float | None:
        """Drop what is in memory, and read anew. While the endpoint rests, nothing is read."""
        async with self._lock:
            reading = self._reading
            if reading is not None:
                if not self._must_close(reading):
                    return 0
                if reading.recorder.is_stale:
                    self._reading = None
                elif reading.window.in_flight:
                    return None  # the poll that ends last goes on
                elif reading.recorder.refused_s > 0:
                    return reading.recorder.refused_s
                else:
                    await reading.recorder.save(reading.window, stragglers=True)
                    self._reading = None
            self._reload = False
            rest_s = self._rest_s
            if self._is_off or (self._resting and rest_s > 0):
                return None if self._is_off else rest_s
            return await self._read_endpoint()

    async def _read_endpoint(self) -> float | None:
        endpoint = await self._tools.endpoints.get(self._id)
        self._is_off = endpoint is None or not endpoint.enabled
        if endpoint is None or self._is_off:
            return None
        store = self._tools.progress
        lanes, counts = await store.lanes(self._id), await store.counts(self._id)
        source = self._tools.source_of(endpoint)
        recorder = Recorder(store, self._clock, endpoint, counts.waiting)
        if endpoint.lost_untold:
            self._tell_lost(endpoint.lost_untold)
            recorder.lost(endpoint.lost_untold, told=endpoint.lost_untold)
        self._reading = _Reading(
            endpoint=endpoint,
            source=source,
            window=PushWindow(endpoint.cursor, lanes, ordered=source.ordered),
            recorder=recorder,
            feeder=Feeder(self._id, source, store, recorder, self._clock, on_lost=self._tell_lost),
        )
        self.wakeup.notify()
        return 0

    async def _fill(self, reading: _Reading) -> None:
        """Read what can be pushed next."""
        refused = reading.recorder.refused_s > 0
        if reading.recorder.overflows and not refused:
            await reading.recorder.save(reading.window)
        if self.wakeup.stopping:
            return
        if reading.feeder.is_full != self._told_full:
            self._told_full = reading.feeder.is_full
            if self._told_full:
                self._log.warning("endpoint_retries_full", retries=reading.recorder.rows)
        if not self._resting:
            await reading.feeder.fill(reading.window)
        elif not reading.window.in_flight and self._rest_s <= 0 and not refused:
            await reading.feeder.fill_for_probe(reading.window)

    # --- pushing ---

    def _take(self, reading: _Reading) -> WindowEntry | None:
        if reading.recorder.overflows or reading.window.in_flight >= LANES or self.wakeup.stopping:
            return None
        if self._resting and (reading.window.in_flight or self._rest_s > 0):
            return None
        entry = reading.window.take()
        if entry is not None and (reading.window.is_ready or reading.feeder.wants(reading.window)):
            self.wakeup.notify()  # the next lane begins when the event loop has served others: webhooks come first
        return entry

    async def _slot(self, rate_limit: float) -> bool:
        """Wait until the next push may begin; False when the worker was told to stop."""
        if rate_limit:
            now = self._clock.monotonic()
            at = max(now, self._next_slot)
            self._next_slot = at + 1 / rate_limit
            if at > now and await self._clock.wait(self.wakeup.stopped, at - now):
                return False
        await self._tools.pacing.turn(self.wakeup.stopped)
        return not self.wakeup.stopping

    async def _push(self, reading: _Reading, entry: WindowEntry) -> PushAnswer:
        endpoint, item = reading.endpoint, entry.item
        try:
            headers = {**reading.source.headers(item, endpoint, self._now), "Content-Type": JSON}
            return await self._tools.target.post(endpoint.url, headers, item.body, timeout_s=endpoint.timeout_s)
        except Exception:  # noqa: BLE001 - an item that cannot be pushed must not stop the others, now or after a restart
            self._log.exception("forwarding_crashed", event_id=item.id)
            return PushAnswer(Unreached.BROKEN, 0, "a defect of inboxd; its log has the traceback")

    async def _settle(self, reading: _Reading, entry: WindowEntry, answer: PushAnswer) -> None:
        """Decide what follows from an answer."""
        verdict = rules.judge(answer.outcome, retry_after=answer.retry_after_s is not None)
        now, recorder, item = self._now, reading.recorder, entry.item
        entry.attempts += 1
        about = (item.id, item.type, item.account_id, entry.attempts, now, answer.latency_ms)
        recorder.attempted(PushAttempt(*about, answer.status, answer.error, answer.text))
        delivered = verdict is PushVerdict.DELIVERED
        self._tools.metrics.attempted(self._id, delivered=delivered, latency_ms=answer.latency_ms)
        if delivered:
            self._delivered(reading, entry, now)
            return
        if len(self._failed_lanes) < rules.FAILING_LANES:
            self._failed_lanes.add(entry.lane)
        whole = verdict is PushVerdict.ENDPOINT_FAILED or len(self._failed_lanes) >= rules.FAILING_LANES
        if whole or verdict in {PushVerdict.MAY_FAIL, PushVerdict.GONE}:
            recorder.health = recorder.health._replace(failing_since=recorder.health.failing_since or now)
        entry.first_failed_at = entry.first_failed_at or now
        failing_s = (now - (recorder.health.failing_since or now)) / 1000
        self._first_failure = self._first_failure or self._clock.monotonic()
        self._keep(reading, entry, answer, verdict, whole=whole or self._resting)
        if verdict is PushVerdict.GONE:
            await self._disable(reading, "the receiver answered 410 Gone: it wants nothing any more")
        elif rules.ends(failing_s, self._clock.monotonic() - self._first_failure):
            days = f"{failing_s / rules.DAY_S:.0f} days"
            await self._disable(reading, f"nothing could be delivered for {days}: {answer.error}")
        elif whole or self._resting:
            self._rest(reading, rules.probe_delay_s(failing_s, answer.retry_after_s, self._tools.random), answer)

    def _delivered(self, reading: _Reading, entry: WindowEntry, now: int) -> None:
        reading.window.delivered(entry)
        if entry.has_row:
            reading.recorder.drop(entry.item.seq)
        self._failed_lanes.clear()
        self._first_failure = None
        reading.recorder.health = reading.recorder.health._replace(last_success_at=now, failing_since=None)
        if self._resting:
            self._resting, self._rest_until = False, 0.0
            reading.feeder.look = True
            reading.window.all_due(now)
            self._log.info("endpoint_recovered")
            self.wakeup.notify()

    def _keep(
        self, reading: _Reading, entry: WindowEntry, answer: PushAnswer, verdict: PushVerdict, *, whole: bool
    ) -> None:
        """Keep a failed item for a retry. A fresh one stays where it is if it is surely not the reason."""
        if verdict in {PushVerdict.ENDPOINT_FAILED, PushVerdict.GONE} and not entry.has_row:
            reading.window.put_back(entry)
            return
        next_try = rules.retry(entry.attempts, answer.retry_after_s, self._tools.random)
        worked = (reading.recorder.health.last_success_at or 0) > (entry.first_failed_at or 0)
        exhausted = next_try.exhausted and not whole and (worked or verdict is PushVerdict.EVENT_FAILED)
        due_at = self._now if exhausted else self._now + round(next_try.delay_s * 1000)
        behind = reading.window.keep(entry, due_at)
        state = RetryState.FAILED if exhausted else RetryState.RETRYING
        reading.recorder.rows += len(behind) + (not entry.has_row) - exhausted
        reading.recorder.keep([entry.row(state, due_at, answer.error), *behind])
        fields = {"event_id": entry.item.id, "attempts": entry.attempts, "error": answer.error}
        if exhausted:
            self._log.warning("event_given_up", **fields)
        else:
            self._log.info("event_not_delivered", **fields, retry_in_s=round(next_try.delay_s))

    def _rest(self, reading: _Reading, rest_s: float, answer: PushAnswer) -> None:
        """The endpoint fails as a whole: try one item again after `rest_s`."""
        if not self._resting:
            host = host_of(reading.endpoint.url)
            self._log.warning("endpoint_failing", host=host, error=answer.error, retry_in_s=round(rest_s))
        self._resting = True
        self._rest_until = max(self._rest_until, self._clock.monotonic() + rest_s)

    async def _disable(self, reading: _Reading, reason: str) -> None:
        async with self._lock:
            await reading.recorder.save(reading.window, stragglers=True)
            self._reading = None
            disabled = await self._tools.endpoints.disable(self._id, reason, self._now)
            self._is_off = True  # not before it is stored: else nothing would be tried, and nobody told
            if disabled:
                self._log.error("endpoint_disabled", host=host_of(reading.endpoint.url), reason=reason)

    # --- saving ---

    @property
    def _rest_s(self) -> float:
        """How long it still rests; not positive when it does not."""
        return self._rest_until - self._clock.monotonic()

    @property
    def _now(self) -> int:
        return self._clock.now_ms()

    async def _save(self, reading: _Reading) -> None:
        async with self._lock:
            if reading is self._reading and (self.wakeup.stopping or reading.recorder.refused_s <= 0):
                await reading.recorder.save(reading.window, stragglers=self.wakeup.stopping)

    async def _last_save(self) -> None:
        if self._reading is not None:
            await self._save(self._reading)

    async def _idle(self, reading: _Reading) -> float | None:
        """There is nothing to push just now: save, or say how long to wait."""
        save_at, rests = reading.recorder.save_at, []
        if save_at is not None and not self._saver_waits:
            left_s = save_at - self._clock.monotonic()
            if left_s <= SAVE_S:
                self._saver_waits = True
                try:
                    await self._clock.wait(self.wakeup.stopped, max(0.0, left_s))
                finally:
                    self._saver_waits = False
                await self._save(reading)
                return 0
            rests.append(left_s)
        due, refused_s = reading.window.next_due, reading.recorder.refused_s
        if self._resting:
            rests += [one for one in (self._rest_s, refused_s) if one > 0]
        elif due is not None:
            rests.append(max(0.01, (due - self._now) / 1000, refused_s))
        return min(rests, default=None)

    def _tell_lost(self, count: int) -> None:
        self._tools.metrics.lost(self._id, count)
        self._log.warning("events_no_longer_kept", count=count)
