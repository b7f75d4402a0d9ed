"""Signs what is pushed, as Standard Webhooks says (https://www.standardwebhooks.com)."""

import base64
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from inboxd.runtime.secret import Secret

PREFIX: Final = "whsec_"
_BYTES: Final = 32


def new_secret() -> Secret:
    """A new secret of an endpoint, in the form that the libraries of receivers take."""
    return Secret(PREFIX + base64.b64encode(os.urandom(_BYTES)).decode())


def signed_headers(item_id: str, body: bytes, secrets: Sequence[Secret], now: int) -> dict[str, str]:
    """The headers by which a receiver knows that `body` is from us: a signature for each of `secrets`. `now` in ms."""
    moment = datetime.fromtimestamp(now // 1000, UTC)
    text = body.decode()
    signatures = [Webhook(secret.reveal()).sign(item_id, moment, text) for secret in secrets]
    return {
        "webhook-id": item_id,
        "webhook-timestamp": str(now // 1000),
        "webhook-signature": " ".join(signatures),
    }
