"""Which hosts of pictures do not answer: they are let alone for a while, and no picture is given up because of them."""

import math
from typing import Final, TypeVar

from inboxd.domain.conversation import ConversationKey
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.clock import Clock

K = TypeVar("K")
V = TypeVar("V")

MOST: Final = 100
"""Hosts that fail at once, and pictures that are suspected; beyond it the earliest is forgotten."""
TOLERATED: Final = 2
"""Failures of a host in a row before it rests: one odd picture must not hold up all others."""
RETRY_S: Final = 15.0
"""Pause before a picture that its host did not give is asked for again."""
_REST: Final = Backoff(base_s=RETRY_S, cap_s=300, jitter=0)


def origin_of(url: str) -> str:
    """The host in an address, as the beginning of every address there."""
    return "/".join(url.split("/", 3)[:3]) + "/"


class PictureHosts:
    """What is known of hosts by the pictures that they did or did not give."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resting: dict[str, tuple[int, float]] = {}
        """Hosts that failed, with their failures in a row and until when they rest (monotonic)."""
        self._suspects: dict[tuple[ConversationKey, str], bool] = {}
        """Pictures that their host failed to give, and whether it has given others since."""

    def rest_s(self, origin: str) -> float:
        """Seconds until the host is asked again; 0 when it may be asked."""
        _, until = self._resting.get(origin, (0, -math.inf))
        return max(0.0, until - self._clock.monotonic())

    def answered(self, origin: str) -> None:
        """The host said something, be it no."""
        self._resting.pop(origin, None)
        for suspect in self._suspects:
            if suspect[1] == origin:
                self._suspects[suspect] = True

    def failed(self, key: ConversationKey, origin: str) -> bool:
        """The host did not give this picture; whether that is the picture's own failure: others were given since."""
        if not self.rest_s(origin):
            failures = self._resting.pop(origin, (0, 0.0))[0] + 1
            rest_s = _REST.delay_s(failures - TOLERATED, lambda: 0.0) if failures > TOLERATED else 0.0
            _put(self._resting, origin, (failures, self._clock.monotonic() + rest_s))
        own = self._suspects.pop((key, origin), False)
        _put(self._suspects, (key, origin), False)
        return own


def _put(known: dict[K, V], key: K, value: V) -> None:
    known[key] = value
    if len(known) > MOST:
        del known[next(iter(known))]
