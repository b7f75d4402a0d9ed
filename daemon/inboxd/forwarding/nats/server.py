"""What is known of the NATS servers before any connection: where they are, how to sign in, whom to trust."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inboxd.forwarding.nats import nkey
from inboxd.forwarding.nats.nkey import Signer
from inboxd.runtime.errors import ConfigError
from inboxd.runtime.secret import Secret

TLS: Final = "tls://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How the NATS servers are reached. What is empty is not used.

    Files are read again for each connection, so renewed certificates and credentials need no restart.
    """

    urls: Sequence[str]
    user: str = ""
    password: Secret | None = None
    token: Secret | None = None
    credentials: str = ""
    nkey: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def needs_tls(self) -> bool:
        """Whether a connection without TLS must not be used: then nothing secret is sent over it."""
        return bool(self.ca or self.cert) or any(url.startswith(TLS) for url in self.urls)

    def check(self) -> None:
        """Raises ConfigError when a file cannot be used, or the ways to sign in do not fit together."""
        if self.user and self.password is None:
            msg = (
                "forward.nats.user needs its password: a systemd credential nats_password, or "
                "INBOXD_NATS_PASSWORD_FILE=<path>, or INBOXD_NATS_PASSWORD=<value>"
            )
            raise ConfigError(msg)
        self.signer()
        self.tls_context()

    def signer(self) -> Signer | None:
        """What signs in with a key, if a key is given. Raises ConfigError."""
        if self.credentials:
            return nkey.from_credentials_file(Path(self.credentials))
        return nkey.from_seed_file(Path(self.nkey)) if self.nkey else None

    def tls_context(self) -> ssl.SSLContext:
        """Whom to trust, and our own certificate. Raises ConfigError."""
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except (OSError, ValueError) as error:
            msg = f"forward.nats.ca: {self.ca} has no certificates that can be read: {_why(error)}"
            raise ConfigError(msg) from error
        if self.cert:
            try:
                context.load_cert_chain(self.cert, self.key, password=_no_password)
            except (OSError, ValueError) as error:
                msg = f"forward.nats.cert and key: {self.cert} and {self.key} cannot be used: {_why(error)}"
                raise ConfigError(msg) from error
        return context


def _no_password() -> str:
    """Without this, OpenSSL would ask for the password of an encrypted key on the terminal."""
    msg = "the key is encrypted, and a daemon cannot ask for its password"
    raise ValueError(msg)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not PEM"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
