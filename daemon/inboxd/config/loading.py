"""Reading the settings: the TOML file, the environment, and errors that name the key and the remedy."""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec

from inboxd.config.schema import EXPECTED, Settings
from inboxd.config.secrets import ENV_PREFIX, is_secret
from inboxd.runtime.errors import ConfigError

DEFAULT_FILES: Final = (Path("config.toml"), Path("/etc/inboxd/config.toml"))
_SECRET_WORDS: Final = ("secret", "token", "password")
_NOT_SETTINGS: Final = ("CONFIG",)
_SIMULATORS: Final = "SIMULATOR_"
"""Variables of the simulator; a daemon in the same shell sees them too."""
_OLDER_NAMES: Final = (
    ("accounts", "flavour", "login_type"),
    ("storage", "keep_events_days", "keep_webhook_events_days"),
)
"""Keys that had another name: section, older name, newer name."""


def find_config(given: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The configuration file to read: the given one, $INBOXD_CONFIG, ./config.toml, /etc/inboxd/config.toml, or none.

    Raises ConfigError when a file that was asked for does not exist.
    """
    if given is None and ENV_PREFIX + "CONFIG" in environment:
        given = Path(environment[ENV_PREFIX + "CONFIG"])
    if given is not None:
        if not _is_file(given):
            msg = f"there is no configuration file {given}"
            raise ConfigError(msg)
        return given
    return next((path for path in DEFAULT_FILES if _is_file(path)), None)


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """The settings of the file at `path` (None: the defaults), overridden by the environment.

    Raises ConfigError, naming the key and the remedy.
    """
    table = _read(path) if path is not None else {}
    _refuse_secrets(table, str(path))
    _use_newer_names(table)
    _check_keys(table, Settings, ())
    try:
        settings = msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        msg = f"{path}: {_explained(error)}"
        raise ConfigError(msg) from error
    overrides = _from_environment(environment)
    _use_newer_names(overrides)
    if overrides:
        try:
            settings = msgspec.convert(_merged(table, overrides), Settings, strict=False)
        except msgspec.ValidationError as error:
            msg = f"environment: {_explained(error)} (set by an {ENV_PREFIX}… variable)"
            raise ConfigError(msg) from error
    settings.check()
    return settings


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError as error:
        msg = f"cannot look for {path}: {error.strerror}; may this user enter its folder?"
        raise ConfigError(msg) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise ConfigError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path} is not UTF-8 text"
        raise ConfigError(msg) from error
    except ValueError as error:  # TOMLDecodeError, or a number with more digits than Python reads
        msg = f"{path} is not valid TOML: {error}"
        raise ConfigError(msg) from error
    except RecursionError as error:
        msg = f"{path} is nested too deeply"
        raise ConfigError(msg) from error


def _refuse_secrets(table: object, path: str) -> None:
    waiting = [table]  # not by recursion: dotted keys nest as deep as somebody likes
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key in value:
                if any(word in key.lower() for word in _SECRET_WORDS):
                    msg = (
                        f"{path}: '{key}' looks like a secret, and secrets are not read from the configuration file, "
                        "which gets copied, committed and shown. Use a systemd credential, an INBOXD_…_FILE variable "
                        "or an INBOXD_… variable (names: app_secrets, verify_token, admin_token, storage_key, "
                        "account_token_<id>, nats_password, nats_token)"
                    )
                    raise ConfigError(msg)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _use_newer_names(table: dict[str, Any]) -> None:
    """Read keys by their older names too. Raises ConfigError when both names are given and say different things."""
    for section, older, newer in _OLDER_NAMES:
        found = table.get(section)
        for one in found if isinstance(found, list) else [found]:
            if isinstance(one, dict) and older in one:
                value = one.pop(older)
                if one.setdefault(newer, value) != value:
                    msg = f"{section}: '{older}' is the older name of '{newer}', and both are given: remove '{older}'"
                    raise ConfigError(msg)


def _check_keys(table: dict[str, Any], section: type[msgspec.Struct], path: tuple[str, ...]) -> None:
    hints = get_type_hints(section)
    for key, value in table.items():
        if key not in hints:
            name = ".".join((*path, key))
            raise ConfigError(f"unknown key '{name}'{_nearest(name, ['.'.join(known) for known in _all_keys()])}")
        inner = _section_of(hints[key])
        for item in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(item, dict):
                _check_keys(item, inner, (*path, key))


def _all_keys(section: type[msgspec.Struct] = Settings, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the configuration, as a path; sections too."""
    for name, hint in get_type_hints(section).items():
        yield (*path, name)
        inner = _section_of(hint)
        if inner is not None:
            yield from _all_keys(inner, (*path, name))


def _section_of(hint: Any) -> type[msgspec.Struct] | None:  # noqa: ANN401 - any type hint
    if get_origin(hint) is tuple:
        hint = get_args(hint)[0]
    return hint if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else None


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known are: {', '.join(sorted(known))}"


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """`INBOXD_ADMIN__PORT=9000` as `{"admin": {"port": "9000"}}`; lists are given as JSON."""
    overrides: dict[str, Any] = {}
    known = {_variable(path): path for path in _all_keys() if _is_variable(path)}
    older = {_variable((section, name)): (section, newer) for section, name, newer in _OLDER_NAMES}
    known |= {name: path for name, path in older.items() if _is_variable(path)}
    for variable, value in environment.items():
        if not variable.startswith(ENV_PREFIX) or _is_no_setting(variable.removeprefix(ENV_PREFIX)):
            continue
        path = known.get(variable)
        if path is None:
            raise ConfigError(f"unknown variable {variable}{_nearest(variable, list(known))}")
        if path == ("accounts",):
            overrides["accounts"] = _accounts_from(value)
        else:
            table = overrides
            for name in path[:-1]:
                table = table.setdefault(name, {})
            table[path[-1]] = _list_from(variable, value) if get_origin(_hint_of(path)) is tuple else value
    return overrides


def _variable(path: tuple[str, ...]) -> str:
    return ENV_PREFIX + "__".join(path).upper()


def _is_variable(path: tuple[str, ...]) -> bool:
    """A key of a section that is no section itself, or the whole list of accounts."""
    return path == ("accounts",) or (path[0] != "accounts" and _section_of(_hint_of(path)) is None)


def _hint_of(path: tuple[str, ...]) -> Any:  # noqa: ANN401 - any type hint
    """The type of a key."""
    section: type[msgspec.Struct] | None = Settings
    hint: Any = None
    for name in path:
        hint = get_type_hints(section)[name]
        section = _section_of(hint)
    return hint


def _list_from(variable: str, value: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        msg = f'{variable} must be a JSON array such as ["one", "two"]: {error}'
        raise ConfigError(msg) from error


def _is_no_setting(name: str) -> bool:
    return name in _NOT_SETTINGS or name.startswith(_SIMULATORS) or is_secret(name)


def _accounts_from(value: str) -> object:
    try:
        accounts = json.loads(value)
    except (ValueError, RecursionError) as error:
        msg = f'INBOXD_ACCOUNTS must be a JSON array such as [{{"id": "17841400000000001", "name": "shop"}}]: {error}'
        raise ConfigError(msg) from error
    _refuse_secrets(accounts, "INBOXD_ACCOUNTS")
    return accounts


def _merged(table: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    merged = dict(table)
    for key, value in overrides.items():
        known = table.get(key, {})
        merged[key] = _merged(known, value) if isinstance(value, dict) and isinstance(known, dict) else value
    return merged


def _explained(error: msgspec.ValidationError) -> str:
    """Msgspec's message with the key in the words of the file: `$.admin.port` becomes `admin.port`."""
    text, _, where = str(error).partition(" - at `$.")
    for pattern, words in EXPECTED.items():
        text = text.replace(f"`str` matching regex {pattern!r}", words)
    return f"{where.rstrip('`')}: {text}" if where else text
