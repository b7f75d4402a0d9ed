"""Typed settings: the TOML file, the environment, and secrets that are in neither log nor file."""

import difflib
import ipaddress
import json
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from cronsim import CronSim, CronSimError
from msgspec import Meta

from inboxd.errors import ConfigError
from inboxd.secret import Secret

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1, le=2**31)]
Days = Annotated[int, Meta(ge=1, le=36_500)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Host = Annotated[str, Meta(min_length=1)]
_ID: Final = r"^[0-9]{1,32}\Z"
_ID_OR_NONE: Final = r"^[0-9]{0,32}\Z"
_VERSION: Final = r"^v[0-9]{1,3}\.[0-9]{1,2}\Z"
_URL: Final = r"^https?://[^/?#@\s]+\Z"
_URL_OR_NONE: Final = r"^(https?://[^/?#@\s]+)?\Z"
_AN_URL: Final = "http:// or https:// and a host, perhaps with a port, and nothing after it, such as"
_IN_WORDS: Final = {
    _ID: "an id of Meta's: digits alone, in quotes, such as '17841400000000001'",
    _ID_OR_NONE: "an id of Meta's: digits alone, in quotes, such as '17841400000000001', or nothing ('')",
    _VERSION: "a version of the Graph API, such as 'v25.0'",
    _URL: f"{_AN_URL} 'https://graph.instagram.com'",
    _URL_OR_NONE: f"{_AN_URL} 'https://inbox.example.com', or nothing ('')",
}
"""What is expected, for the person who wrote something else."""

MetaId = Annotated[str, Meta(pattern=_ID)]
Network = Annotated[str, Meta(min_length=1)]
"""An IP network such as 10.0.0.0/8."""
Url = Annotated[str, Meta(pattern=_URL)]

ENV_PREFIX: Final = "INBOXD_"
DEFAULT_FILES: Final = (Path("config.toml"), Path("/etc/inboxd/config.toml"))
SECRET_NAMES: Final = ("app_secrets", "verify_token", "admin_token", "admin_tokens", "storage_key")
_TOKEN_PREFIX: Final = "account_token_"  # noqa: S105 - a name, not a token
_ANY_HOST: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_SECRET_WORDS: Final = ("secret", "token", "password")
_NOT_SETTINGS: Final = ("CONFIG",)
_SIMULATORS: Final = "SIMULATOR_"
"""What the simulator is given by variables, which a daemon in the same shell sees too."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class Public(_Section, frozen=True):
    """The listener that Meta reaches, through a proxy that ends TLS."""

    host: Host = "127.0.0.1"
    port: Port = 8080
    max_body_bytes: Positive = 4 * 1024 * 1024
    max_held_bytes: Positive = 64 * 1024 * 1024
    max_waiting: Positive = 1000
    max_connections: Positive = 512
    request_timeout_s: Seconds = 10.0
    base_url: Annotated[str, Meta(pattern=_URL_OR_NONE)] = ""


class Admin(_Section, frozen=True):
    """The listener of the API and the health endpoints."""

    host: Host = "127.0.0.1"
    port: Port = 8081
    max_failures: Positive = 10


class Storage(_Section, frozen=True):
    """Where everything is kept, and for how long."""

    path: Annotated[str, Meta(min_length=1)] = "inboxd.sqlite3"
    keep_deliveries_days: Days = 14
    keep_failed_days: Days = 180
    keep_events_days: Days = 365
    keep_messages_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    backup_path: Annotated[str, Meta(min_length=1)] = "backups"
    keep_backups: Positive = 7

    def backups(self, environment: Mapping[str, str]) -> Path:
        """The folder of backups; a relative one is relative to the database's."""
        return self.resolved(environment).parent / self.backup_path

    def resolved(self, environment: Mapping[str, str]) -> Path:
        """The file's path; a relative one is relative to $STATE_DIRECTORY when systemd sets it."""
        return Path(environment.get("STATE_DIRECTORY", ""), self.path)


class Instagram(_Section, frozen=True):
    """Which Graph API is asked."""

    graph_url: Url = "https://graph.instagram.com"
    facebook_graph_url: Url = "https://graph.facebook.com"
    app_id: Annotated[str, Meta(pattern=_ID_OR_NONE)] = ""
    graph_version: Annotated[str, Meta(pattern=_VERSION)] = "v25.0"
    timeout_s: Seconds = 10.0


class Profiles(_Section, frozen=True):
    """How participants' profiles are kept."""

    cache_ttl_s: Positive = 86_400
    cache_size: Positive = 50_000
    concurrency: Annotated[int, Meta(ge=1, le=16)] = 2


class Avatars(_Section, frozen=True):
    """Where pictures may be fetched from, and how many are kept."""

    hosts: tuple[Host, ...] = ("cdninstagram.com", "fbcdn.net", "fbsbx.com")
    allow_http: bool = False
    allow_networks: tuple[Network, ...] = ()
    max_count: Positive = 50_000


class Backfill(_Section, frozen=True):
    """Fetching the profiles that conversations lack."""

    schedule: str = "0 3 * * *"
    jitter_s: Annotated[float, Meta(ge=0, le=86_400)] = 1800.0
    batch_size: Annotated[int, Meta(ge=1, le=100)] = 10
    skip_accounts: tuple[MetaId, ...] = ()
    keep_runs_days: Days = 30


class Budget(_Section, frozen=True):
    """How many Graph API calls an account may make."""

    calls_per_hour: Positive = 200
    calls_per_second: Annotated[float, Meta(gt=0, le=1000)] = 1.0


class Traffic(_Section, frozen=True):
    """What is said about what arrives, or does not."""

    silent_after_hours: Annotated[int, Meta(ge=0, le=8_760)] = 6


class Logs(_Section, frozen=True):
    """How the daemon logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    access_sample: Annotated[float, Meta(ge=0, le=1)] = 0.0
    personal: bool = False


class Account(_Section, frozen=True):
    """An Instagram professional account that is served."""

    id: MetaId
    name: str = ""
    flavour: Literal["instagram", "facebook"] = "instagram"
    page_id: Annotated[str, Meta(pattern=_ID_OR_NONE)] = ""


class Settings(_Section, frozen=True):
    """Everything that is configured, apart from secrets."""

    public: Public = Public()
    admin: Admin = Admin()
    storage: Storage = Storage()
    instagram: Instagram = Instagram()
    profiles: Profiles = Profiles()
    avatars: Avatars = Avatars()
    backfill: Backfill = Backfill()
    budget: Budget = Budget()
    traffic: Traffic = Traffic()
    logs: Logs = Logs()
    accounts: tuple[Account, ...] = ()


class NamedToken(msgspec.Struct, frozen=True):
    """A token of the admin API for somebody in particular."""

    name: str
    scopes: tuple[str, ...]
    token: Secret


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What must not stand in a file that people copy around."""

    app_secrets: tuple[Secret, ...] = ()
    verify_token: Secret | None = None
    admin_token: Secret | None = None
    named_tokens: tuple[NamedToken, ...] = ()
    storage_keys: tuple[Secret, ...] = ()
    account_tokens: dict[str, Secret] = {}

    def missing(self) -> list[str]:
        """Names of the secrets without which the daemon will not start."""
        names = []
        if not self.app_secrets:
            names.append("app_secrets")
        if self.verify_token is None:
            names.append("verify_token")
        return names


class Concern(NamedTuple):
    """Something about the settings that is allowed and hardly meant."""

    text: str
    remedy: str


def concerns(settings: Settings) -> list[Concern]:
    """What somebody should look at before a daemon runs with these settings."""
    found = []
    public, admin = settings.public, settings.admin
    if public.port == admin.port != 0 and _overlap(public.host, admin.host):
        text = f"admin.port and public.port are both {admin.port}, and the hosts are the same: only one can listen"
        found.append(Concern(text, "Give each listener a port of its own."))
    if _is_exposed(admin.host):
        text = f"admin.host is {admin.host}: the API, the dashboard and the metrics may be reached from other machines"
        remedy = "Let it be 127.0.0.1 or a private address, and come through SSH, a VPN or a proxy with TLS."
        found.append(Concern(text, remedy))
    return found


def _overlap(one: str, other: str) -> bool:
    """Whether two listeners on these hosts and one port are in each other's way."""
    names = {"127.0.0.1" if host.lower() == "localhost" else host for host in (one, other)}
    return len(names) == 1 or bool(names & _ANY_HOST)


def _is_exposed(host: str) -> bool:
    """Whether others than this machine and its private networks may reach what listens there; a name may mean any."""
    if host.lower() == "localhost":
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    return address.is_unspecified or address.is_global


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
    _check_keys(table, Settings, ())
    try:
        settings = msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        msg = f"{path}: {_explained(error)}"
        raise ConfigError(msg) from error
    overrides = _from_environment(environment)
    if overrides:
        try:
            settings = msgspec.convert(_merged(table, overrides), Settings, strict=False)
        except msgspec.ValidationError as error:
            msg = f"environment: {_explained(error)} (set by an {ENV_PREFIX}… variable)"
            raise ConfigError(msg) from error
    _check_accounts(settings)
    _check_networks(settings)
    _check_schedule(settings)
    return settings


def load_secrets(environment: Mapping[str, str]) -> Secrets:
    """The secrets from systemd credentials, `*_FILE` variables or the environment, in this order.

    Raises ConfigError when one is blank or its file cannot be read. Only admin_tokens may be blank, which is none.
    """
    tokens = {}
    for name in _account_token_names(environment):
        token = _secret(name, environment)
        if token is not None:
            tokens[name.removeprefix(_TOKEN_PREFIX)] = Secret(token)
    return Secrets(
        app_secrets=_lines(_secret("app_secrets", environment)),
        verify_token=_optional(_secret("verify_token", environment)),
        admin_token=_optional(_secret("admin_token", environment)),
        named_tokens=tuple(_named_token(line.reveal()) for line in _lines(_text("admin_tokens", environment))),
        storage_keys=_lines(_secret("storage_key", environment)),
        account_tokens=tokens,
    )


def require_secrets(secrets: Secrets) -> Secret:
    """Raise ConfigError, naming every missing secret and how to give it, unless all are there; the verify token."""
    missing = secrets.missing()
    if missing or secrets.verify_token is None:
        lines = "\n".join(f"  {how_to_give(name)}" for name in missing)
        msg = f"secrets are missing:\n{lines}"
        raise ConfigError(msg)
    return secrets.verify_token


def how_to_give(name: str) -> str:
    """One line that says how a secret is given."""
    variable = ENV_PREFIX + name.upper()
    return f"{name}: a systemd credential of that name, or {variable}_FILE=<path>, or {variable}=<value>"


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
                        "account_token_<id>)"
                    )
                    raise ConfigError(msg)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


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


def _all_keys() -> Iterator[tuple[str, ...]]:
    """Every key of the configuration, as a path; sections too."""
    for name, hint in get_type_hints(Settings).items():
        yield (name,)
        section = _section_of(hint)
        if section is not None:
            yield from ((name, key) for key in section.__struct_fields__)


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
    known = {ENV_PREFIX + "__".join(path).upper(): path for path in _all_keys() if _is_variable(path)}
    for variable, value in environment.items():
        if not variable.startswith(ENV_PREFIX) or _is_no_setting(variable.removeprefix(ENV_PREFIX)):
            continue
        path = known.get(variable)
        if path is None:
            raise ConfigError(f"unknown variable {variable}{_nearest(variable, list(known))}")
        if path == ("accounts",):
            overrides["accounts"] = _accounts_from(value)
        else:
            overrides.setdefault(path[0], {})[path[1]] = _list_from(variable, value) if _is_list(path) else value
    return overrides


def _is_variable(path: tuple[str, ...]) -> bool:
    """A key of a section, or the whole list of accounts."""
    return path == ("accounts",) or (len(path) > 1 and path[0] != "accounts")


def _is_list(path: tuple[str, ...]) -> bool:
    section = _section_of(get_type_hints(Settings)[path[0]])
    return section is not None and get_origin(get_type_hints(section)[path[1]]) is tuple


def _list_from(variable: str, value: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        msg = f'{variable} must be a JSON array such as ["one", "two"]: {error}'
        raise ConfigError(msg) from error


def _is_no_setting(name: str) -> bool:
    if name in _NOT_SETTINGS or name.startswith(_SIMULATORS):
        return True
    lowered = name.removesuffix("_FILE").lower()
    return lowered in SECRET_NAMES or lowered.startswith(_TOKEN_PREFIX)


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
        merged[key] = {**known, **value} if isinstance(value, dict) and isinstance(known, dict) else value
    return merged


def _explained(error: msgspec.ValidationError) -> str:
    """Msgspec's message with the key in the words of the file: `$.admin.port` becomes `admin.port`."""
    text, _, where = str(error).partition(" - at `$.")
    for pattern, words in _IN_WORDS.items():
        text = text.replace(f"`str` matching regex {pattern!r}", words)
    return f"{where.rstrip('`')}: {text}" if where else text


def _check_schedule(settings: Settings) -> None:
    expression = settings.backfill.schedule
    try:
        if expression:
            next(CronSim(expression, datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        msg = (
            f"backfill.schedule: '{expression}' is not a cron expression such as '0 3 * * *' (or '' for none): {error}"
        )
        raise ConfigError(msg) from error


def _check_networks(settings: Settings) -> None:
    for text in settings.avatars.allow_networks:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            msg = f"avatars.allow_networks: '{text}' is not an IP network such as 10.0.0.0/8: {error}"
            raise ConfigError(msg) from error


def _check_accounts(settings: Settings) -> None:
    ids = [account.id for account in settings.accounts]
    for account_id in ids:
        if ids.count(account_id) > 1:
            msg = f"accounts: the id {account_id} is listed twice"
            raise ConfigError(msg)


def _secret(name: str, environment: Mapping[str, str]) -> str | None:
    """A secret's text, or None when it is given nowhere."""
    text = _text(name, environment)
    if text is not None and not text.strip():
        msg = f"the secret {name} is blank: write it into the file, credential or variable that it comes from"
        raise ConfigError(msg)
    return None if text is None else text.strip()


def _text(name: str, environment: Mapping[str, str]) -> str | None:
    """What stands in the place where a secret is given, if it is given anywhere."""
    variable = ENV_PREFIX + name.upper()
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if directory and (credential := Path(directory, name)).is_file():
        return _read_secret(name, credential)
    if file := environment.get(variable + "_FILE"):
        return _read_secret(name, Path(file))
    return environment.get(variable)


def _read_secret(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        msg = f"cannot read the secret {name} from {path}: {reason}"
        raise ConfigError(msg) from error


def _named_token(line: str) -> NamedToken:
    """`name:scopes:token`, where scopes are `read`, `write` or `read,write`."""
    name, scopes, token = (*(part.strip() for part in line.split(":", 2)), "", "")[:3]
    granted = tuple(scope.strip() for scope in scopes.split(","))
    if not name or not token or not set(granted) <= {"read", "write"}:
        msg = (
            "each line of the secret admin_tokens must be name:scopes:token, with the scopes read, write or read,write"
        )
        raise ConfigError(msg)
    return NamedToken(name, granted, Secret(token))


def _lines(text: str | None) -> tuple[Secret, ...]:
    return tuple(Secret(line.strip()) for line in (text or "").splitlines() if line.strip())


def _account_token_names(environment: Mapping[str, str]) -> list[str]:
    names = {
        variable.removeprefix(ENV_PREFIX).removesuffix("_FILE").lower()
        for variable in environment
        if variable.startswith(ENV_PREFIX + _TOKEN_PREFIX.upper())
    }
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if directory and Path(directory).is_dir():
        names |= {entry.name for entry in Path(directory).iterdir() if entry.name.startswith(_TOKEN_PREFIX)}
    return sorted(names)


def _optional(text: str | None) -> Secret | None:
    return None if text is None else Secret(text)
