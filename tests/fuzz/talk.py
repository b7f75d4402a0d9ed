"""People who write, so that something is asked about them."""

import json
from collections.abc import Sequence
from typing import Any

from inboxd.simulator.payloads import Conversationalist, delivery

from tests.fuzz.daemon import Daemon
from tests.fuzz.mutations import MARKUP
from tests.fuzz.raw_server import response
from tests.fuzz.surface import Failure
from tests.hostile import PROFILE
from tests.support import ACCOUNT, T0


async def deliver_from(daemon: Daemon, people: Sequence[str], *, account_id: str = ACCOUNT) -> None:
    """Each of them writes once."""
    items = [Conversationalist(account_id, who, T0).says("ok") for who in people]
    status = await daemon.deliver(json.dumps(delivery(account_id, T0, items)).encode())
    if status != 200:
        raise Failure(f"a delivery without anything odd is answered {status}")


def profile_of(who: str, **fields: Any) -> bytes:
    """A profile, as Meta answers it."""
    return response(
        json.dumps(
            {**PROFILE, "username": f"user_{who}", "id": who, "name": MARKUP, "profile_pic": None, **fields}
        ).encode()
    )
