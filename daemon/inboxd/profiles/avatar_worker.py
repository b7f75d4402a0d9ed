"""The worker that keeps our own copies of participants' pictures: Meta's URLs expire after days."""

import asyncio
from collections.abc import Callable
from typing import Final

from inboxd.meta.pictures import PictureClient, PictureError, PictureGoneError, PictureHostError, PictureRefusedError
from inboxd.profiles.avatar_store import AvatarStore, DuePicture
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.profiles.picture_hosts import RETRY_S, PictureHosts, origin_of
from inboxd.runtime import logs
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageClosedError
from inboxd.runtime.worker import Schedule, Wakeup

AT_ONCE: Final = 2
"""Pictures fetched at a time."""
ATTEMPTS: Final = 3
FRESH_MS: Final = 86_400_000
"""A URL from a profile older than this has expired: a new profile brings a new one."""
SWEEP_EVERY_S: Final = 6 * 3600.0
TRIM_STEP: Final = 200
POSTPONE_STEP: Final = 200
SCHEDULE: Final = Schedule(storage_event="avatars_wait_for_storage", storage_rest_s=5)
_BACKOFF: Final = Backoff(base_s=60, cap_s=3600)


class AvatarDownloader:
    """Fetches the pictures that are due, and removes files to which no participant refers."""

    name = "avatars"

    def __init__(
        self,
        avatars: AvatarStore,
        pictures: PictureClient,
        clock: Clock,
        metrics: ProfileMetrics,
        random: Callable[[], float],
        *,
        max_count: int,
    ) -> None:
        self.wakeup = Wakeup()
        self._avatars = avatars
        self._pictures = pictures
        self._clock = clock
        self._metrics = metrics
        self._random = random
        self._max_count = max_count
        self._hosts = PictureHosts(clock)
        self._decoding = asyncio.Lock()
        """Held while a picture is decoded: there is memory for one at a time."""
        self._swept_at: float | None = None
        self._log = logs.get("avatars")

    async def poll(self) -> float:
        """Fetch a few of the due pictures. When none is due, remove files every SWEEP_EVERY_S. Raises StorageError."""
        if await self.fetch_due():
            return 0
        await self._tidy()
        return await self._idle_s()

    async def fetch_due(self) -> int:
        """Fetch a few of the pictures that are due; returns how many. Raises StorageError."""
        due = await self._avatars.due(self._clock.now_ms(), AT_ONCE)
        try:
            async with asyncio.TaskGroup() as fetches:
                for one in due:
                    fetches.create_task(self._fetch(one), name=f"avatar:{one.key.participant_id}")
        except ExceptionGroup as errors:  # raise one of them: StorageClosedError before all others
            closed, others = errors.split(StorageClosedError)
            raise (closed or others or errors).exceptions[0] from errors
        return len(due)

    async def _fetch(self, due: DuePicture) -> None:
        now, origin = self._clock.now_ms(), origin_of(due.url)
        rest_s = self._hosts.rest_s(origin)
        if rest_s:
            await self._avatars.postpone_host(origin, now, now + int(rest_s * 1000) + 1, POSTPONE_STEP)
            return
        try:
            data = await self._pictures.fetch(due.url)
            async with self._decoding:
                small = await asyncio.to_thread(_thumbnail, data)
        except PictureGoneError as error:
            if now - due.fetched_at > FRESH_MS:
                await self._avatars.refetch_profile(due, now)
            else:
                await self._avatars.postpone(due, None)
            self._note(due, "gone", error)
        except PictureRefusedError as error:
            await self._avatars.postpone(due, None)
            self._note(due, "refused", error)
        except PictureHostError as error:
            await self._host_failed(due, origin, now, error)
            return
        except PictureError as error:
            await self._try_again(due, now, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this picture alone
            self._log.exception("avatar_fetch_crashed", account_id=due.key.account_id)
            await self._try_again(due, now, error)
        else:
            if await self._avatars.keep(due, small, now) is not None:
                self._metrics.avatars.labels("stored").inc()
        self._hosts.answered(origin)

    async def _host_failed(self, due: DuePicture, origin: str, now: int, error: Exception) -> None:
        """An outage of the host is no attempt. If the host gave other pictures meanwhile, it is one of this picture."""
        if self._hosts.failed(due.key, origin):
            await self._try_again(due, now, error)
            return
        again_s = max(self._hosts.rest_s(origin), RETRY_S)
        await self._avatars.postpone(due, now + int(again_s * 1000) + 1, attempts=due.attempts)
        self._note(due, "failed", error)

    async def _try_again(self, due: DuePicture, now: int, error: Exception) -> None:
        attempts = due.attempts + 1
        again_at = now + int(_BACKOFF.delay_s(attempts, self._random) * 1000) if attempts < ATTEMPTS else None
        await self._avatars.postpone(due, again_at, attempts=attempts)
        self._note(due, "failed", error)

    async def _tidy(self) -> None:
        now = self._clock.monotonic()
        if self._swept_at is not None and now - self._swept_at < SWEEP_EVERY_S:
            return
        self._swept_at = now
        wall = self._clock.now_ms()
        await self._avatars.correct_due_times(wall, wall + 2 * int(_BACKOFF.cap_s * 1000))
        dropped = 0
        while step := await self._avatars.trim(self._max_count, TRIM_STEP):
            dropped += step
        swept = await self._avatars.sweep()
        if dropped or swept.removed:
            self._log.info("avatars_swept", dropped=dropped, files=swept.removed)

    async def _idle_s(self) -> float:
        now = self._clock.now_ms()
        next_at = await self._avatars.next_due_at(now)
        return SWEEP_EVERY_S if next_at is None else min((next_at - now) / 1000, SWEEP_EVERY_S)

    def _note(self, due: DuePicture, outcome: str, error: Exception) -> None:
        self._metrics.avatars.labels(outcome).inc()
        key = due.key
        self._log.warning(
            "avatar_missing",
            account_id=key.account_id,
            participant_id=key.participant_id,
            outcome=outcome,
            error=str(error),
        )


def _thumbnail(data: bytes) -> bytes:
    from inboxd.profiles import thumbnail  # noqa: PLC0415 - Pillow takes megabytes: loaded with the first picture

    try:
        return thumbnail.make_thumbnail(data)
    except thumbnail.NotAPictureError as error:
        raise PictureRefusedError(str(error)) from error
