"""Decides for each send how it is answered and when its echo comes, as the behaviour wants it."""

import random
from collections.abc import Callable
from typing import Final, NamedTuple, get_args

from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.sending_behaviour import Echo, SendAnswer

_ANSWERS: Final = tuple(one for one in get_args(SendAnswer) if one != "any")
_ECHOES: Final = tuple(one for one in get_args(Echo) if one != "any")
BEFORE: Final = ("error_before", "cut_before")
"""Answers of sends that are not sent."""


class Fate(NamedTuple):
    """How a send is answered, when its echo comes, and whether it is refused with the error of the behaviour."""

    answer: str
    echo: str
    fails: bool


class Fates:
    """Counts the sends of each behaviour."""

    def __init__(self, behaviour: Callable[[], Behaviour], chance: random.Random) -> None:
        self._behaviour = behaviour
        self._random = chance
        self._counted: Behaviour | None = None
        self._left: dict[str, int] = {}

    def next(self) -> Fate:
        """What becomes of one more send."""
        behaviour = self._behaviour()
        if behaviour is not self._counted:
            self._counted = behaviour
            self._left = {
                "answer": behaviour.send_answer_next,
                "echo": behaviour.echo_next,
                "error": behaviour.send_error_next,
            }
        fails = bool(behaviour.send_error_code) and self._applies("error", behaviour.send_error_rate)
        if fails:
            return Fate("normal", "never", fails=True)
        answer: str = behaviour.send_answer if self._applies("answer", behaviour.send_answer_rate) else "normal"
        echo: str = behaviour.echo if self._applies("echo", behaviour.echo_rate) else "normal"
        answer = self._random.choice(_ANSWERS) if answer == "any" else answer
        echo = self._random.choice(_ECHOES) if echo == "any" else echo
        return Fate(answer, "never" if answer in BEFORE else echo, fails=False)

    def _applies(self, name: str, rate: float) -> bool:
        """Whether a switch applies to this send. What is left of its `next` sends is -1 when they are over."""
        if self._left[name] < 0 or self._random.random() >= rate:
            return False
        if self._left[name] > 0:
            self._left[name] = self._left[name] - 1 or -1
        return True
