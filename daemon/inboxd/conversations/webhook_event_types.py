"""The types of events about what Meta sends beside messages: thread control and referrals."""

from typing import Any, Final, Literal

from inboxd.conversations.examples import CONVERSATION
from inboxd.conversations.resources import ReferralResource
from inboxd.domain.event import EventType
from inboxd.domain.referral import Referral
from inboxd.http.resource import Resource


class HandoverEventData(Resource, frozen=True, kw_only=True):
    """Which app controls a conversation. Null is what Meta did not say. In a log of ids only, `metadata` is null."""

    kind: Literal["pass", "take", "request", "app_roles"]
    participant_platform_id: str | None
    conversation_id: str | None
    previous_owner_app_id: str | None
    new_owner_app_id: str | None
    requested_owner_app_id: str | None
    metadata: str | None
    """What the other app wrote into it."""
    app_roles: dict[str, list[str]]
    """The roles of apps, by their ids; only of the kind `app_roles`."""


class ReferralEventData(Resource, frozen=True, kw_only=True):
    """What led a participant back to a conversation that there was already.

    In a log of ids only, the members of `referral` that are texts or addresses are null.
    """

    participant_platform_id: str | None
    conversation_id: str | None
    referral: ReferralResource | None


_ABOUT: Final[dict[str, Any]] = {
    "participant_platform_id": CONVERSATION.key.participant_id,
    "conversation_id": str(CONVERSATION.id),
}
HANDOVER: Final = EventType(
    name="handover.changed",
    summary="The control of a conversation was passed, taken or requested by an app, or the roles of apps changed.",
    data=HandoverEventData,
    example=HandoverEventData(
        **_ABOUT,
        kind="pass",
        previous_owner_app_id="111",
        new_owner_app_id="222",
        requested_owner_app_id=None,
        metadata="for a human",
        app_roles={},
    ),
)
REFERRAL: Final = EventType(
    name="referral.received",
    summary="A participant came back to a conversation through a link or an ad, without writing.",
    data=ReferralEventData,
    example=ReferralEventData(
        **_ABOUT, referral=ReferralResource.of(Referral(source="SHORTLINKS", type="OPEN_THREAD", ref="poster"))
    ),
)
WEBHOOK_EVENT_TYPES: Final = (HANDOVER, REFERRAL)
