"""The one source of time and sleep, so that tests of hours run in milliseconds."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

FIRST_MS: Final = -62_135_596_800_000
"""The year 1, in milliseconds since the epoch."""
LAST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """The machine's time. Tests pass a subclass whose time they move."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds of a clock that never goes backwards and goes on over a restart of the process."""
        return time.monotonic()

    def boot(self) -> str:
        """Names the run of the machine that `monotonic` counts from; empty where the system does not tell."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return ""

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        """Wait for `event`, at most `timeout_s` seconds (None: for ever); True when it was set."""
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return False
        return True


def unix_ms(moment: datetime) -> int:
    """Milliseconds since the epoch of a time with a zone."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def iso_utc(ms: int) -> str:
    """Milliseconds since the epoch as ISO 8601 in UTC with milliseconds and `Z`.

    It never raises: numbers come from outside too, and what no calendar has is shown as the first or the last moment.
    """
    ms = min(max(ms, FIRST_MS), LAST_MS)
    moment = _EPOCH + timedelta(seconds=ms // 1000)
    return f"{moment.replace(tzinfo=None).isoformat()}.{ms % 1000:03d}Z"
