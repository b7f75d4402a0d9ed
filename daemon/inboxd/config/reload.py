"""Taking up a changed configuration without a restart (SIGHUP), and saying what needs one."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets

_NAMES: Final = {"named_tokens": "admin_tokens", "storage_keys": "storage_key", "account_tokens": "account_token_<id>"}
"""What our names of secrets are to whoever gives them."""


class Reloaded(NamedTuple):
    """What came of it: names of settings and secrets."""

    applied: list[str]
    needs_restart: list[str]


class Reloader:
    """Compares a new configuration with the one in use, and hands on what can be changed.

    `on_settings` has what to call for each group of settings, by their names; `on_secrets` the same for secrets. Each
    is called once, with everything that is new.
    """

    def __init__(
        self,
        current: Settings,
        secrets: Secrets,
        *,
        on_settings: Mapping[tuple[str, ...], Callable[[Settings], None]],
        on_secrets: Mapping[tuple[str, ...], Callable[[Secrets], Any]],
    ) -> None:
        self._settings = current
        self._secrets = secrets
        self._on_settings = on_settings
        self._on_secrets = on_secrets

    async def reload(self, settings: Settings, secrets: Secrets) -> Reloaded:
        """Apply what differs. What needs a restart is named every time until the restart. Raises StorageError."""
        changed = set(_changed(self._settings, settings))
        secret = {name for name in Secrets.__struct_fields__ if getattr(self._secrets, name) != getattr(secrets, name)}
        applied: list[str] = []
        for names, apply in self._on_settings.items():
            if changed & set(names):
                apply(settings)
                applied += sorted(changed & set(names))
        for names, apply_secrets in self._on_secrets.items():
            if secret & set(names):
                outcome = apply_secrets(secrets)
                if outcome is not None:
                    await outcome
                applied += sorted(secret & set(names))
        self._settings = _merged(self._settings, settings, applied)
        self._secrets = msgspec.structs.replace(
            self._secrets, **{name: getattr(secrets, name) for name in secret & set(applied)}
        )
        left = sorted((changed | secret) - set(applied))
        return Reloaded([_NAMES.get(one, one) for one in applied], [_NAMES.get(one, one) for one in left])


def _changed(before: Settings, after: Settings) -> Iterator[str]:
    """Names such as `logs.level` of what differs."""
    for section in Settings.__struct_fields__:
        one, other = getattr(before, section), getattr(after, section)
        if not isinstance(one, msgspec.Struct):
            if one != other:
                yield section
            continue
        for name in one.__struct_fields__:
            if getattr(one, name) != getattr(other, name):
                yield f"{section}.{name}"


def _merged(before: Settings, after: Settings, applied: list[str]) -> Settings:
    """`before` with the values that were applied."""
    sections: dict[str, Any] = {}
    for path in applied:
        section, _, name = path.partition(".")
        if name:
            current = sections.get(section, getattr(before, section))
            sections[section] = msgspec.structs.replace(current, **{name: getattr(getattr(after, section), name)})
    return msgspec.structs.replace(before, **sections)
