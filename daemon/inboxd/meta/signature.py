"""Webhook signatures: `X-Hub-Signature-256`, HMAC-SHA256 over the raw body with the app secret.

Source: Meta's "Webhooks" page, "Validating payloads". The bytes are hashed exactly as they were received. A body that
was parsed and encoded again passes tests with ASCII text, and fails on the first accented letter.
"""

import hmac
import re
from collections.abc import Sequence
from enum import Enum

HEADER = "X-Hub-Signature-256"
_PREFIX = "sha256="
_FORM = re.compile(_PREFIX + "[0-9a-f]{64}")


class Verdict(Enum):
    """The result of checking a signature. The value is a sentence for the sender."""

    VALID = "The signature is valid."
    MISSING = f"The {HEADER} header is missing; SHA-1 signatures are not accepted."
    MALFORMED = f"The {HEADER} header must be 'sha256=' and 64 lowercase hexadecimal digits."
    WRONG = "The signature matches none of the configured app secrets."


def sign(body: bytes, secret: str) -> str:
    """The header value with which Meta would send `body`."""
    return header_of(hmac.digest(secret.encode(), body, "sha256"))


def header_of(digest: bytes) -> str:
    """The header value that carries `digest`, a HMAC-SHA256."""
    return _PREFIX + digest.hex()


def digest_of(header: str) -> bytes:
    """The 32 bytes of the HMAC-SHA256 in `header`, which must be well-formed."""
    return bytes.fromhex(header.removeprefix(_PREFIX))


def check_form(header: str | None) -> Verdict:
    """Check a signature before the body has arrived: MISSING, MALFORMED, or VALID, which means only well-formed."""
    if header is None:
        return Verdict.MISSING
    return Verdict.VALID if _FORM.fullmatch(header) else Verdict.MALFORMED


class SignatureVerifier:
    """Checks signatures against every configured app secret.

    There may be several: Instagram Login and Facebook Login use different secrets, and a rotation has two for a time.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = tuple(secret.encode() for secret in secrets)

    def check(self, header: str | None, body: bytes) -> Verdict:
        """Whether `header` signs `body`. All secrets are tried, each compared in constant time."""
        verdict = check_form(header)
        if header is None or verdict is not Verdict.VALID:
            return verdict
        return self.check_body(digest_of(header), body)

    def check_body(self, digest: bytes, body: bytes) -> Verdict:
        """Whether `digest`, a HMAC-SHA256, signs `body`."""
        valid = False
        for key in self._keys:
            valid |= hmac.compare_digest(hmac.digest(key, body, "sha256"), digest)
        return Verdict.VALID if valid else Verdict.WRONG
