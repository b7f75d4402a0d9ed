"""From Meta's events to what they mean for us: whose conversation, which way, which change."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import (
    Attachment,
    Content,
    Deleted,
    Direction,
    Edited,
    MessageChange,
    Reacted,
    Seen,
    Sent,
)
from inboxd.meta import events
from inboxd.meta.events import Event


class Translated(NamedTuple):
    """What an event means. At most one of `change` and `kept` is there; both are None for what says nothing new."""

    key: ConversationKey | None
    """The conversation it belongs to, if any."""
    change: MessageChange | None
    kept: bool
    """Whether the event itself is to be kept."""
    participant_wrote: bool
    """Whether the participant wrote or tapped something: what opens their profile to us (User Profile API)."""


def translate(event: Event, accounts: Mapping[str, str], received_at: int) -> Translated:
    """The meaning of `event` for somebody who serves `accounts`: every id that names one, and its own.

    `received_at` (ms) stands in for a missing time.
    """
    body = event.body
    if event.sender_id is None or event.recipient_id is None:
        return Translated(None, None, kept=True, participant_wrote=False)
    key, direction = sides(event, accounts)
    if isinstance(body, events.Other):
        return Translated(key, None, kept=True, participant_wrote=False)
    at = event.timestamp if event.timestamp is not None else received_at
    sender = key.account_id if direction is Direction.OUTBOUND else key.participant_id
    change = _change(event, key, at, direction, sender)
    wrote = direction is Direction.INBOUND and isinstance(change, Sent) and key.account_id != key.participant_id
    return Translated(key, change, kept=False, participant_wrote=wrote)


def sides(event: Event, accounts: Mapping[str, str]) -> tuple[ConversationKey, Direction]:
    """Which side is the account, and which way the event went.

    The account is the side with a known account's id; `is_echo` breaks ties (Webhooks, "sent and received"). For
    traffic of an account that nobody configured, what the event is decides; `entry.id` only where nothing else does,
    since samples label it IGSID or Page id.
    """
    sender, recipient = (accounts.get(who, who) for who in (event.sender_id or "", event.recipient_id or ""))
    body = event.body
    is_message = isinstance(body, events.Message)
    is_echo = isinstance(body, events.Message) and bool(body.is_echo or body.is_self)
    sender_known, recipient_known = sender in accounts, recipient in accounts
    if sender_known != recipient_known:
        account_sent = sender_known
    elif is_echo:
        account_sent = True
    elif is_message or isinstance(body, events.Postback):
        account_sent = False
    else:
        account_sent = event.entry_id == event.sender_id and sender != recipient
    key = ConversationKey(sender, recipient) if account_sent else ConversationKey(recipient, sender)
    return key, Direction.OUTBOUND if account_sent or is_echo else Direction.INBOUND


def _change(event: Event, key: ConversationKey, at: int, direction: Direction, sender: str) -> MessageChange:
    match event.body:
        case events.Message(is_deleted=True) as body:
            return Deleted(key=key, mid=body.mid, at=at, sender_id=sender)
        case events.Message() as body:
            return Sent(
                key=key,
                mid=body.mid,
                at=at,
                sender_id=sender,
                direction=direction,
                content=_content(body),
                standby=event.standby,
            )
        case events.MessageEdit() as body:
            return Edited(key=key, mid=body.mid, at=at, sender_id=sender, text=body.text or "", number=body.number)
        case events.Reaction() as body:
            taken_back = body.action == "unreact"
            return Reacted(
                key=key,
                mid=body.mid,
                at=at,
                by=sender,
                reaction=None if taken_back else body.reaction or "other",
                emoji=None if taken_back else body.emoji,
            )
        case events.Read() as body:
            return Seen(key=key, mid=body.mid, at=at, by_account=direction is Direction.OUTBOUND)
        case events.Postback() as body:
            return Sent(
                key=key,
                mid=body.mid or _postback_mid(key, at, body),
                at=at,
                sender_id=sender,
                direction=direction,
                content=Content(type="postback", text=body.title, details=_details(body)),
                standby=event.standby,
            )
        case _:  # pragma: no cover - every other body is kept as an event
            msg = f"no change for an event of kind {event.kind}"
            raise AssertionError(msg)


def _content(body: events.Message) -> Content:
    attachments = tuple(_attachment(item.type, item.payload) for item in body.attachments or ())
    if body.is_unsupported:
        kind = "unsupported"
    elif attachments:
        kind = attachments[0].type
    else:
        kind = "text"
    return Content(type=kind, text=body.text, attachments=attachments, details=_details(body))


def _attachment(kind: str, payload: dict[str, object] | None) -> Attachment:
    if not payload:
        return Attachment(type=kind)
    url, title = payload.get("url"), payload.get("title")
    return Attachment(
        type=kind,
        url=url if isinstance(url, str) else None,
        title=title if isinstance(title, str) else None,
        payload=payload,
    )


def _details(body: events.Message | events.Postback) -> dict[str, object] | None:
    """What is neither text nor attachment, by Meta's own names."""
    if isinstance(body, events.Postback):
        found: dict[str, object | None] = {"payload": body.payload, "referral": body.referral}
    else:
        found = {
            "reply_to": body.reply_to,
            "quick_reply": body.quick_reply and {"payload": body.quick_reply.payload},
            "referral": body.referral,
            "is_self": body.is_self or None,
            "app_id": None if body.app_id is None else str(body.app_id),
        }
    return {name: value for name, value in found.items() if value is not None} or None


def _postback_mid(key: ConversationKey, at: int, body: events.Postback) -> str:
    """A name for a postback without one: the same for every copy, so that copies are recognised."""
    told = msgspec.json.encode((key, at, body.title, body.payload, body.referral), order="deterministic")
    return "postback:" + hashlib.blake2b(told, digest_size=16).hexdigest()
