"""Taking up a changed configuration without a restart (SIGHUP), and saying what needs one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.feature import ReloadRule

_NAMES: Final = {"named_tokens": "admin_tokens", "storage_keys": "storage_key", "account_tokens": "account_token_<id>"}
"""What our names of secrets are to whoever gives them."""


class Reloaded(NamedTuple):
    """What came of it: names of settings and secrets."""

    applied: list[str]
    needs_restart: list[str]


class Reloader:
    """Compares a new configuration with the one in use, and hands on what can be changed by `rules`."""

    def __init__(self, settings: Settings, secrets: Secrets, rules: Sequence[ReloadRule]) -> None:
        self._values = dict(_values(settings, secrets))
        self._rules = rules

    async def reload(self, settings: Settings, secrets: Secrets) -> Reloaded:
        """Apply what differs. What needs a restart is named every time until the restart. Raises StorageError."""
        new = dict(_values(settings, secrets))
        changed = {name for name, value in new.items() if self._values[name] != value}
        applied: dict[str, None] = {}  # in the order of the rules
        for rule in self._rules:
            if not changed.isdisjoint(rule.names):
                outcome = rule.apply({name: new[name] for name in rule.names})
                if outcome is not None:
                    await outcome
                applied |= dict.fromkeys(name for name in rule.names if name in changed)
        self._values.update({name: new[name] for name in applied})
        return Reloaded(_told(applied), _told(sorted(changed - applied.keys())))


def _values(settings: Settings, secrets: Secrets) -> Iterator[tuple[str, Any]]:
    """Each setting by a name such as `logs.level`, and each secret by its name."""
    yield from _leaves(settings, "")
    yield from ((name, getattr(secrets, name)) for name in Secrets.__struct_fields__)


def _leaves(section: msgspec.Struct, prefix: str) -> Iterator[tuple[str, Any]]:
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, msgspec.Struct):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _told(names: Iterable[str]) -> list[str]:
    """Settings first, then secrets, as those who give them call them."""
    return [_NAMES.get(name, name) for name in sorted(names, key=lambda name: name in Secrets.__struct_fields__)]
