"""Records thread control and referrals in the event log, as the webhook events that they are.

Their payloads may be anything: what cannot be read is left out of the event.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from inboxd.conversations import store
from inboxd.conversations.event_preparation import PreparedEvent
from inboxd.conversations.resources import ReferralResource
from inboxd.conversations.webhook_event_types import (
    HANDOVER,
    REFERRAL,
    HandoverEventData,
    ReferralEventData,
)
from inboxd.domain.event import NewEvent
from inboxd.domain.payload import shown
from inboxd.domain.referral import referral_of
from inboxd.domain.untrusted import id_of, object_of, text_of
from inboxd.events.log import EventLog
from inboxd.meta.webhook_decoding import MAX_ITEM_BYTES

MAX_TEXT: Final = 10_000
"""Characters of the metadata of a handover, which has 1,000."""
MAX_WORD: Final = 200
MAX_APPS: Final = 50
"""Apps, and roles of each, that an event lists."""
_HANDOVERS: Final[Mapping[str, Literal["pass", "take", "request", "app_roles"]]] = {
    "pass_thread_control": "pass",
    "take_thread_control": "take",
    "request_thread_control": "request",
    "app_roles": "app_roles",
}
_TEXTS_OF_REFERRAL: Final = dict.fromkeys(("ref", "ad_title", "photo_url", "video_url"))


def record_webhook_events(connection: sqlite3.Connection, log: EventLog, events: Sequence[PreparedEvent]) -> None:
    """Record those of `events` that have a type in the log. They were stored just now."""
    found = [_event(connection, one, ids_only=log.ids_only) for one in events]
    log.append(connection, [event for event in found if event is not None])


def _event(connection: sqlite3.Connection, one: PreparedEvent, *, ids_only: bool) -> NewEvent | None:
    match one.kind:
        case "referral":
            return _referral(connection, one, ids_only=ids_only)
        case kind if kind in _HANDOVERS:
            return _handover(connection, one, ids_only=ids_only)
    return None


def _handover(connection: sqlite3.Connection, one: PreparedEvent, *, ids_only: bool) -> NewEvent:
    value = object_of(_payload(one), one.kind)
    kind = _HANDOVERS[one.kind]
    participant_id, conversation_id = _conversation(connection, one)
    data = HandoverEventData(
        kind=kind,
        participant_platform_id=participant_id,
        conversation_id=None if conversation_id is None else str(conversation_id),
        previous_owner_app_id=id_of(value, "previous_owner_app_id"),
        new_owner_app_id=id_of(value, "new_owner_app_id"),
        requested_owner_app_id=id_of(value, "requested_owner_app_id"),
        metadata=None if ids_only else text_of(value, "metadata", MAX_TEXT),
        app_roles=_roles(value) if kind == "app_roles" else {},
    )
    return _new(HANDOVER.name, one, data, participant_id=participant_id, conversation_id=conversation_id)


def _roles(value: Mapping[str, Any]) -> dict[str, list[str]]:
    found = {}
    for app_id, roles in list(value.items())[:MAX_APPS]:
        listed = roles if isinstance(roles, list) else []
        words = [role for role in listed[:MAX_APPS] if isinstance(role, str) and len(role) <= MAX_WORD]
        if len(app_id) <= MAX_WORD:
            found[app_id] = words
    return found


def _referral(connection: sqlite3.Connection, one: PreparedEvent, *, ids_only: bool) -> NewEvent:
    referral = referral_of(_payload(one).get("referral"))
    if referral is not None and ids_only:
        referral = msgspec.structs.replace(referral, **_TEXTS_OF_REFERRAL)
    participant_id, conversation_id = _conversation(connection, one)
    data = ReferralEventData(
        participant_platform_id=participant_id,
        conversation_id=None if conversation_id is None else str(conversation_id),
        referral=None if referral is None else ReferralResource.of(referral),
    )
    return _new(REFERRAL.name, one, data, participant_id=participant_id, conversation_id=conversation_id)


def _conversation(connection: sqlite3.Connection, one: PreparedEvent) -> tuple[str | None, int | None]:
    """The participant and the conversation that an event is about, as far as they are known."""
    key = one.translated.key
    if key is None:
        return None, None
    conversation = store.get_by_key(connection, key)
    return key.participant_id, None if conversation is None else conversation.id


def _payload(one: PreparedEvent) -> Mapping[str, Any]:
    """The item as Meta sent it; an empty object when it is too large, or none."""
    payload = b"" if one.kept is None else one.kept.payload
    if len(payload) > MAX_ITEM_BYTES:
        return {}
    value = msgspec.json.decode(shown(payload).json)
    return value if isinstance(value, dict) else {}


def _new(
    name: str,
    one: PreparedEvent,
    data: msgspec.Struct,
    *,
    participant_id: str | None = None,
    conversation_id: int | None = None,
) -> NewEvent:
    return NewEvent(name, one.account_id, one.at, msgspec.json.encode(data), participant_id, conversation_id)
