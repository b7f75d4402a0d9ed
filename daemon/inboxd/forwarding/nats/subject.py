"""The subject that an event is published to."""

import re
from typing import Final

TYPE: Final = "{type}"
ACCOUNT: Final = "{account}"
NO_ACCOUNT: Final = "-"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")


class SubjectTemplate:
    """Makes subjects from a template such as `inboxd.events.{type}.{account}`, which the configuration has checked."""

    def __init__(self, template: str) -> None:
        self._tokens = template.split(".")

    def subject(self, event_type: str, account_id: str) -> str:
        """The subject of an event. The dots of its type separate tokens; an event of no account has the token `-`."""
        values = {
            TYPE: ".".join(_safe(token) for token in event_type.split(".")),
            ACCOUNT: _safe(account_id or NO_ACCOUNT),
        }
        return ".".join(values.get(token, token) for token in self._tokens)

    @property
    def everything(self) -> str:
        """What a stream must take to get all events: the tokens before the first placeholder, and whatever follows."""
        for number, token in enumerate(self._tokens):
            if token in {TYPE, ACCOUNT}:
                return ".".join([*self._tokens[:number], ">"])
        return ".".join(self._tokens)

    @property
    def pattern(self) -> str:
        """The narrowest subject with wildcards that all events match. A type is two tokens: `object.verb`."""
        wild = {TYPE: "*.*", ACCOUNT: "*"}
        return ".".join(wild.get(token, token) for token in self._tokens)


def covers(wide: str, narrow: str) -> bool:
    """Whether every subject that matches `narrow` also matches `wide`. Both may have the wildcards `*` and `>`."""
    wanted = narrow.split(".")
    for number, part in enumerate(wide.split(".")):
        if number == len(wanted):
            return False
        if part == ">":
            return True
        if wanted[number] == ">" or part not in {"*", wanted[number]}:
            return False
    return len(wide.split(".")) == len(wanted)


def _safe(token: str) -> str:
    return _UNSAFE.sub("_", token) or NO_ACCOUNT
