"""Encrypts stored tokens with Fernet (AES-128-CBC and HMAC-SHA256), and recognises a token by its keyed hash."""

import base64
import hmac
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from inboxd.runtime.errors import ConfigError, StorageUnavailableError
from inboxd.runtime.secret import Secret

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

KEY_FILE: Final = "storage.key"


class Vault:
    """Encrypts with the first key and decrypts with any key, so that keys can be rotated.

    Raises ConfigError when a key is not a Fernet key.
    """

    def __init__(self, keys: Sequence[Secret]) -> None:
        self._keys = [key.reveal().encode() for key in keys]
        if not all(_is_key(key) for key in self._keys):
            msg = (
                "storage_key is not a Fernet key, which is 32 random bytes in URL-safe base64: "
                "make one with  openssl rand -base64 32 | tr '+/' '-_'"
            )
            raise ConfigError(msg)

    def lock(self, token: Secret) -> bytes:
        """The token, encrypted."""
        return self._fernet.encrypt(token.reveal().encode())

    def open(self, locked: bytes) -> Secret | None:
        """The decrypted token, or None when none of the keys fits."""
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - see _fernet

        try:
            return Secret(self._fernet.decrypt(locked).decode())
        except InvalidToken:
            return None

    @cached_property
    def _fernet(self) -> "MultiFernet":
        # This import takes seven megabytes of memory: it is made only when there is a token.
        from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415

        return MultiFernet([Fernet(key) for key in self._keys])

    def fingerprint(self, token: Secret) -> bytes:
        """A keyed hash that identifies the token without revealing it."""
        return _keyed(self._keys[0], token)

    def recognises(self, fingerprint: bytes, token: Secret) -> bool:
        """Whether `fingerprint` is the hash of this token, with any of the keys."""
        return any(hmac.compare_digest(fingerprint, _keyed(key, token)) for key in self._keys)


def key_from(folder: Path) -> tuple[Secret, bool]:
    """The key stored in `folder`, and whether it was created just now. Raises StorageUnavailableError."""
    path = folder / KEY_FILE
    try:
        if path.exists():
            return Secret(path.read_text(encoding="ascii").strip()), False
        key = base64.urlsafe_b64encode(os.urandom(32)).decode()
        # Write the file completely or not at all, also on a power failure: without the key, the tokens are lost.
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        msg = f"cannot read or make the storage key {path}: {reason}"
        raise StorageUnavailableError(msg) from error
    return Secret(key), True


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, altchars=b"-_", validate=True)) == 32
    except ValueError:
        return False


def _keyed(key: bytes, token: Secret) -> bytes:
    return hmac.digest(key, token.reveal().encode(), "sha256")
