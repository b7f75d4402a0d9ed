"""Secrets: from systemd credentials, files or the environment, never from the configuration file or into a log."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from inboxd.runtime.errors import ConfigError
from inboxd.runtime.secret import Secret

ENV_PREFIX: Final = "INBOXD_"
SECRET_NAMES: Final = (
    "app_secrets",
    "verify_token",
    "admin_token",
    "admin_tokens",
    "storage_key",
    "nats_password",
    "nats_token",
)
_TOKEN_PREFIX: Final = "account_token_"  # noqa: S105 - a name, not a token


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
    nats_password: Secret | None = None
    nats_token: Secret | None = None

    def missing(self) -> list[str]:
        """Names of the secrets without which the daemon will not start."""
        names = []
        if not self.app_secrets:
            names.append("app_secrets")
        if self.verify_token is None:
            names.append("verify_token")
        return names


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
        nats_password=_optional(_secret("nats_password", environment)),
        nats_token=_optional(_secret("nats_token", environment)),
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


def is_secret(name: str) -> bool:
    """Whether a variable's `name`, without the prefix, gives a secret."""
    lowered = name.removesuffix("_FILE").lower()
    return lowered in SECRET_NAMES or lowered.startswith(_TOKEN_PREFIX)


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
    """`name:scopes:token`, where scopes are `read`, `write` and `send`, separated by commas."""
    name, scopes, token = (*(part.strip() for part in line.split(":", 2)), "", "")[:3]
    granted = tuple(scope.strip() for scope in scopes.split(","))
    if not name or not token or not set(granted) <= {"read", "write", "send"}:
        rule = "each line of the secret admin_tokens must be name:scopes:token"
        msg = f"{rule}, with the scopes read, write and send, separated by commas, such as read,send"
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
