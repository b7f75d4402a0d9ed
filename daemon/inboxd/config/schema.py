"""The schema of the configuration: its sections, their fields, defaults and checks."""

import ipaddress
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from cronsim import CronSim, CronSimError
from msgspec import Meta

from inboxd.runtime.errors import ConfigError

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
_SERVERS_OR_NONE: Final = r"^((nats|tls)://[^/?#@\s,]{1,255}(,(nats|tls)://[^/?#@\s,]{1,255}){0,15})?\Z"
_SUBJECT: Final = r"^[A-Za-z0-9_-]{1,64}(\.([A-Za-z0-9_-]{1,64}|\{type\}|\{account\})){0,15}\Z"
_STREAM: Final = r"^[A-Za-z0-9_-]{1,64}\Z"
_AN_URL: Final = "http:// or https:// and a host, perhaps with a port, and nothing after it, such as"
EXPECTED: Final = {
    _ID: "an id of Meta's: digits alone, in quotes, such as '17841400000000001'",
    _ID_OR_NONE: "an id of Meta's: digits alone, in quotes, such as '17841400000000001', or nothing ('')",
    _VERSION: "a version of the Graph API, such as 'v25.0'",
    _URL: f"{_AN_URL} 'https://graph.instagram.com'",
    _URL_OR_NONE: f"{_AN_URL} 'https://inbox.example.com', or nothing ('')",
    _SERVERS_OR_NONE: "the NATS servers, separated by commas, each nats:// or tls:// and a host, perhaps with a port, "
    "such as 'nats://127.0.0.1:4222', or nothing (''). Users and passwords do not belong there",
    _SUBJECT: "names of letters, digits, '-' and '_', separated by dots; after the first, '{type}' and '{account}' may "
    "stand for one, such as 'inboxd.events.{type}.{account}'",
    _STREAM: "letters, digits, '-' and '_', such as 'INBOXD'",
}
"""What each pattern expects, in words for error messages."""

MetaId = Annotated[str, Meta(pattern=_ID)]
Network = Annotated[str, Meta(min_length=1)]
"""An IP network such as 10.0.0.0/8."""
Url = Annotated[str, Meta(pattern=_URL)]

_ANY_HOST: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""

    def check(self) -> None:
        """Check what the types of the fields cannot say. Raises ConfigError, naming the key."""


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
    keep_webhook_events_days: Days = 365
    keep_messages_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    backup_path: Annotated[str, Meta(min_length=1)] = "backups"
    keep_backups: Positive = 7

    def backups(self, database: Path) -> Path:
        """The folder of backups; a relative one is relative to the database's."""
        return database.parent / self.backup_path

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


class EventSettings(_Section, frozen=True):
    """What the event log keeps. 0 means no limit."""

    keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 30
    max_size_mb: Annotated[int, Meta(ge=0, le=10_000_000)] = 2000
    ids_only: bool = False


class ProfileSettings(_Section, frozen=True):
    """How participants' profiles are kept."""

    cache_ttl_s: Positive = 86_400
    cache_size: Positive = 50_000
    concurrency: Annotated[int, Meta(ge=1, le=16)] = 2


class AvatarSettings(_Section, frozen=True):
    """Where pictures may be fetched from, and how many are kept."""

    hosts: tuple[Host, ...] = ("cdninstagram.com", "fbcdn.net", "fbsbx.com")
    allow_http: bool = False
    allow_networks: tuple[Network, ...] = ()
    max_count: Positive = 50_000

    def check(self) -> None:
        """Every one of `allow_networks` is an IP network. Raises ConfigError."""
        _check_networks("avatars.allow_networks", self.allow_networks)


class Backfill(_Section, frozen=True):
    """Fetching the profiles that conversations lack."""

    schedule: str = "0 3 * * *"
    jitter_s: Annotated[float, Meta(ge=0, le=86_400)] = 1800.0
    batch_size: Annotated[int, Meta(ge=1, le=100)] = 10
    skip_accounts: tuple[MetaId, ...] = ()
    keep_runs_days: Days = 30

    def check(self) -> None:
        """`schedule` is empty or a cron expression with a moment to come. Raises ConfigError."""
        try:
            if self.schedule:
                next(CronSim(self.schedule, datetime.now(UTC)))
        except (CronSimError, StopIteration) as error:
            expected = "is not a cron expression such as '0 3 * * *' (or '' for none)"
            msg = f"backfill.schedule: '{self.schedule}' {expected}: {error}"
            raise ConfigError(msg) from error


class BudgetSettings(_Section, frozen=True):
    """How many Graph API calls an account may make."""

    calls_per_hour: Positive = 200
    calls_per_second: Annotated[float, Meta(gt=0, le=1000)] = 1.0


class ReconciliationSettings(_Section, frozen=True):
    """Looking for messages that Meta did not deliver."""

    every_minutes: Annotated[int, Meta(ge=0, le=1_440)] = 10
    share: Annotated[float, Meta(ge=0.01, le=0.8)] = 0.20
    alert_below: Annotated[float, Meta(ge=0, le=1)] = 0.95
    alert_after_hours: Annotated[int, Meta(ge=1, le=168)] = 2


class SendingSettings(_Section, frozen=True):
    """Answering participants."""

    per_second: Annotated[float, Meta(gt=0, le=300)] = 10.0
    per_hour: Positive = 1000
    private_replies_per_hour: Annotated[int, Meta(ge=1, le=750)] = 700
    after_failure: Literal["hold", "continue"] = "hold"
    automation_pause_minutes: Annotated[int, Meta(ge=0, le=10_080)] = 60
    keep_days: Days = 90
    max_waiting: Annotated[int, Meta(ge=1, le=1_000_000)] = 50_000
    max_uploads_mb: Annotated[int, Meta(ge=50, le=1_000_000)] = 500
    allow_http: bool = False


class TrafficSettings(_Section, frozen=True):
    """What is said about what arrives, or does not."""

    silent_after_hours: Annotated[int, Meta(ge=0, le=8_760)] = 6


class NatsSettings(_Section, frozen=True):
    """Publishing the event log to NATS JetStream."""

    url: Annotated[str, Meta(pattern=_SERVERS_OR_NONE)] = ""
    subject: Annotated[str, Meta(pattern=_SUBJECT)] = "inboxd.events.{type}.{account}"
    stream: Annotated[str, Meta(pattern=_STREAM)] = "INBOXD"
    user: str = ""
    credentials: str = ""
    nkey: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""

    def check(self) -> None:
        """One way to sign in, and a certificate with its key. Raises ConfigError."""
        given = [name for name in ("user", "credentials", "nkey") if getattr(self, name)]
        if len(given) > 1:
            msg = f"forward.nats: {' and '.join(given)} are given, and only one of them can be used: remove the others"
            raise ConfigError(msg)
        if bool(self.cert) != bool(self.key):
            msg = "forward.nats: cert and key belong together: give both, or none"
            raise ConfigError(msg)


class ForwardSettings(_Section, frozen=True):
    """Handing events on to other systems."""

    allow_networks: tuple[Network, ...] = ()
    nats: NatsSettings = NatsSettings()

    def check(self) -> None:
        """Every one of `allow_networks` is an IP network, and every part is as it should be. Raises ConfigError."""
        _check_networks("forward.allow_networks", self.allow_networks)
        self.nats.check()


class Logs(_Section, frozen=True):
    """How the daemon logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    access_sample: Annotated[float, Meta(ge=0, le=1)] = 0.0
    personal: bool = False


class AccountSettings(_Section, frozen=True):
    """An Instagram professional account that is served."""

    id: MetaId
    name: str = ""
    login_type: Literal["instagram", "facebook"] = "instagram"
    page_id: Annotated[str, Meta(pattern=_ID_OR_NONE)] = ""
    human_agent: bool = False
    comments: bool = False


class Settings(_Section, frozen=True):
    """Everything that is configured, apart from secrets."""

    public: Public = Public()
    admin: Admin = Admin()
    storage: Storage = Storage()
    instagram: Instagram = Instagram()
    events: EventSettings = EventSettings()
    profiles: ProfileSettings = ProfileSettings()
    avatars: AvatarSettings = AvatarSettings()
    backfill: Backfill = Backfill()
    budget: BudgetSettings = BudgetSettings()
    reconciliation: ReconciliationSettings = ReconciliationSettings()
    sending: SendingSettings = SendingSettings()
    traffic: TrafficSettings = TrafficSettings()
    forward: ForwardSettings = ForwardSettings()
    logs: Logs = Logs()
    accounts: tuple[AccountSettings, ...] = ()

    def check(self) -> None:
        """No account is listed twice, and every section is as it should be. Raises ConfigError."""
        ids = [account.id for account in self.accounts]
        for account_id in ids:
            if ids.count(account_id) > 1:
                msg = f"accounts: the id {account_id} is listed twice"
                raise ConfigError(msg)
        for section in self._sections():
            section.check()

    def _sections(self) -> Iterator[_Section]:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, _Section):
                yield value


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


def _check_networks(key: str, networks: tuple[str, ...]) -> None:
    """Each of them is an IP network. Raises ConfigError that names the key."""
    for text in networks:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            msg = f"{key}: '{text}' is not an IP network such as 10.0.0.0/8: {error}"
            raise ConfigError(msg) from error


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
