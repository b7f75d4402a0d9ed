"""How the commands reach the admin API of a daemon on this machine."""

from typing import NamedTuple

from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.runtime.errors import ConfigError
from inboxd.runtime.secret import Secret


class AdminAccess(NamedTuple):
    """The URL of the admin API, without a slash at the end, and the token for it."""

    url: str
    token: Secret


def admin_access(settings: Settings, secrets: Secrets) -> AdminAccess:
    """The access to the daemon that has this configuration. Raises ConfigError without an `admin_token`."""
    if secrets.admin_token is None:
        msg = "a daemon is running with this database, so the command goes through it: give it the admin_token too"
        raise ConfigError(msg)
    host = settings.admin.host
    reached = f"[{host}]" if ":" in host else {"0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    return AdminAccess(f"http://{reached}:{settings.admin.port}", secrets.admin_token)
