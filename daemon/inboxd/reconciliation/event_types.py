"""The event of reconciliation."""

from typing import Final, Literal

from inboxd.domain.event import EventType
from inboxd.http.resource import Resource

CauseName = Literal["subscription_lost", "down", "companions_only", "not_delivered"]


class HealedEventData(Resource, frozen=True):
    """What one check of an account found. Each message has its own event beside this one."""

    count: int
    """Messages that no webhook had brought."""
    healed_count: int
    """Those among them that are here now. The others are listed by the API and not shown."""
    cause: CauseName
    """The likely cause of most of them."""
    causes: dict[CauseName, int]
    """The messages by their likely cause."""
    since: str
    """When the first of them was sent."""
    until: str
    """When the last of them was sent."""
    reason: str
    """Why the account was checked: `schedule`, `restart`, `outage`, `subscription` or `companions`."""


HEALED: Final = EventType(
    name="reconciliation.healed",
    summary="A check of an account found messages that no webhook had brought, and added those that Meta shows.",
    data=HealedEventData,
    example=HealedEventData(
        count=3,
        healed_count=3,
        cause="down",
        causes={"down": 2, "not_delivered": 1},
        since="2026-11-30T09:58:12.000Z",
        until="2026-11-30T10:11:40.000Z",
        reason="restart",
    ),
)
EVENT_TYPES: Final = (HEALED,)
