"""Which picture hosts do not answer. They get no requests for a while, and an outage costs no picture an attempt."""

import math
from typing import Final, TypeVar

from inboxd.domain.conversation import ConversationKey
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.clock import Clock

K = TypeVar("K")
V = TypeVar("V")

MAX_REMEMBERED: Final = 100
"""Failing hosts, and failed pictures, that are remembered; beyond it the oldest is forgotten."""
TOLERATED: Final = 2
"""Failures in a row that a host may have before it rests: one bad picture must not delay all others."""
RETRY_S: Final = 15.0
"""Delay before retrying a picture after a failure of its host."""
_REST: Final = Backoff(base_s=RETRY_S, cap_s=300, jitter=0)


def origin_of(url: str) -> str:
    """The origin of a URL, as the prefix of all its URLs: `https://host/`."""
    return "/".join(url.split("/", 3)[:3]) + "/"


class PictureHosts:
    """Tracks failures by host and by picture, to tell an outage of a host from a failure of one picture."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resting: dict[str, tuple[int, float]] = {}
        """Failing hosts, with their failures in a row and until when they rest (monotonic seconds)."""
        self._failed_pictures: dict[tuple[ConversationKey, str], bool] = {}
        """Pictures for which their host failed, and whether it has answered since."""

    def rest_s(self, origin: str) -> float:
        """Seconds until the host may get requests again; 0 when it may now."""
        _, until = self._resting.get(origin, (0, -math.inf))
        return max(0.0, until - self._clock.monotonic())

    def answered(self, origin: str) -> None:
        """The host has answered, even if it was a refusal."""
        self._resting.pop(origin, None)
        for picture in self._failed_pictures:
            if picture[1] == origin:
                self._failed_pictures[picture] = True

    def failed(self, key: ConversationKey, origin: str) -> bool:
        """The host failed for this picture. Returns whether the picture is the cause: others were answered since."""
        if not self.rest_s(origin):
            failures = self._resting.pop(origin, (0, 0.0))[0] + 1
            rest_s = _REST.delay_s(failures - TOLERATED, lambda: 0.0) if failures > TOLERATED else 0.0
            _put(self._resting, origin, (failures, self._clock.monotonic() + rest_s))
        answered_since = self._failed_pictures.pop((key, origin), False)
        _put(self._failed_pictures, (key, origin), False)
        return answered_since


def _put(known: dict[K, V], key: K, value: V) -> None:
    known[key] = value
    if len(known) > MAX_REMEMBERED:
        del known[next(iter(known))]
