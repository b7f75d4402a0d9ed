"""Parses `signed_request`: Meta's notice that an app user has removed the app or wants their data deleted.

Source: Meta's "Data deletion callback", "Parsing the request". The text has two unpadded base64url parts. The first is
the HMAC-SHA256 of the second *as encoded*, with the app secret.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

_ALGORITHM: Final = "HMAC-SHA256"
MAX_LENGTH: Final = 10_000


class SignedRequest(NamedTuple):
    """A request whose signature is valid."""

    user_id: str
    """The app-scoped id: `id`, not `user_id`, of GET /me."""
    receipt: str
    """A keyed hash: equal for every copy of this request, and revealing nothing about the person."""


class SignedRequestError(ValueError):
    """The request is malformed or not signed by Meta. The text is for the sender."""


class _Payload(msgspec.Struct, frozen=True):
    user_id: str | int
    algorithm: str = _ALGORITHM


def sign_request(payload: bytes, secret: str) -> str:
    """The `signed_request` with which Meta would send `payload`."""
    encoded = _encoded(payload)
    return f"{_encoded(hmac.digest(secret.encode(), encoded.encode(), 'sha256'))}.{encoded}"


def parse_signed_request(text: str, secrets: Sequence[str]) -> SignedRequest:
    """The request in `text`, signed with any of `secrets`. Raises SignedRequestError."""
    signature_text, dot, encoded = text.partition(".")
    if not dot or len(text) > MAX_LENGTH:
        msg = "signed_request must be two base64url parts with a dot between them"
        raise SignedRequestError(msg)
    signature, payload = _decoded(signature_text), _decoded(encoded)
    signer = None
    for secret in secrets:
        if hmac.compare_digest(hmac.digest(secret.encode(), encoded.encode(), "sha256"), signature):
            signer = secret
    if signer is None:
        msg = "signed_request is signed with none of the configured app secrets"
        raise SignedRequestError(msg)
    try:
        found = msgspec.json.decode(payload, type=_Payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = "the payload of signed_request is not the JSON that Meta documents"
        raise SignedRequestError(msg) from error
    if found.algorithm.upper() != _ALGORITHM:
        msg = f"signed_request must use {_ALGORITHM}"
        raise SignedRequestError(msg)
    receipt = hmac.digest(signer.encode(), b"receipt:" + payload, "sha256").hex()[:32]
    return SignedRequest(str(found.user_id), receipt)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        msg = "signed_request must be two base64url parts with a dot between them"
        raise SignedRequestError(msg) from error
