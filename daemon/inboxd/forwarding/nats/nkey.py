"""Signing in to NATS by a key: seeds (nkeys) and credentials files (`.creds`), which hold a seed and a JWT.

The Python package `nkeys` does the same, and needs a second library of cryptography beside ours.
"""

import base64
import binascii
import re
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from inboxd.runtime.errors import ConfigError

_MAX_BYTES: Final = 64 * 1024
_SEED: Final = 18 << 3
_USER: Final = 20 << 3
_SEED_BYTES: Final = 36
"""Two bytes of prefix, 32 of the seed, two of the checksum."""
_PART: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----\s+(\S+)\s+-+END ")


class Signer(NamedTuple):
    """Signs what a NATS server sends to sign."""

    key: Ed25519PrivateKey
    public_key: str
    """As the server's configuration names the user."""
    jwt: str | None

    def sign(self, nonce: str) -> bytes:
        """The signature, in base64."""
        return base64.b64encode(self.key.sign(nonce.encode()))


def from_seed_file(path: Path) -> Signer:
    """The signer of a file with a user's seed. Raises ConfigError."""
    return _signer(_text(path, "forward.nats.nkey").strip(), None, f"forward.nats.nkey: {path}")


def from_credentials_file(path: Path) -> Signer:
    """The signer of a `.creds` file. Raises ConfigError."""
    name = f"forward.nats.credentials: {path}"
    parts = dict(_PART.findall(_text(path, "forward.nats.credentials")))
    jwt, seed = parts.get("NATS USER JWT"), parts.get("USER NKEY SEED")
    if jwt is None or seed is None:
        msg = f"{name} is no credentials file: it must have a NATS USER JWT and a USER NKEY SEED, as nsc writes them"
        raise ConfigError(msg)
    return _signer(seed, jwt, name)


def _text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("ascii")
    except OSError as error:
        msg = f"{name}: cannot read {path}: {error.strerror}"
        raise ConfigError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{name}: {path} is not text"
        raise ConfigError(msg) from error


def _signer(seed: str, jwt: str | None, name: str) -> Signer:
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except binascii.Error:
        raw = b""
    if len(raw) != _SEED_BYTES or raw[0] & 0xF8 != _SEED or _checksum(raw[:-2]) != raw[-2:]:
        msg = f"{name} has no seed of a user's nkey: it begins with SU and is 58 characters long"
        raise ConfigError(msg)
    if (raw[0] & 7) << 5 | raw[1] >> 3 != _USER:
        msg = f"{name} has the seed of an account or operator: give that of a user, which begins with SU"
        raise ConfigError(msg)
    key = Ed25519PrivateKey.from_private_bytes(raw[2:-2])
    public = bytes([_USER]) + key.public_key().public_bytes_raw()
    return Signer(key, base64.b32encode(public + _checksum(public)).decode().rstrip("="), jwt)


def _checksum(data: bytes) -> bytes:
    """CRC-16/XMODEM, as nkeys has it."""
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")
