"""Translates Meta's webhook events into a conversation, a direction and a change of a message."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from inboxd.domain.clock_trust import is_believable
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
from inboxd.domain.partyless_change import (
    AnyPartylessChange,
    PartylessDeleted,
    PartylessEdited,
    PartylessReacted,
    PartylessSeen,
)
from inboxd.domain.reply_window import Opening, is_from_ad, opening_of
from inboxd.meta import webhook_events as events
from inboxd.meta.webhook_events import WebhookEvent


class Translated(NamedTuple):
    """The meaning of a webhook event. At most one of `change`, `partyless` and `kept` is set."""

    key: ConversationKey | None = None
    """The conversation that the event belongs to, if any."""
    change: MessageChange | None = None
    partyless: AnyPartylessChange | None = None
    kept: bool = False
    """Whether the event itself is stored as it was received."""
    participant_wrote: bool = False
    """Whether the participant wrote or tapped something: only then may we read their profile (User Profile API)."""
    participant_username: str | None = None
    """The username of the participant, if the event has it."""
    opening: Opening | None = None
    """What it does for the reply window."""
    companion_of: str | None = None
    """The mid of a message that the event accompanies, and of which it says nothing."""


@dataclass(slots=True)
class BatchChanges:
    """The changes of a batch of events, grouped by how they are processed."""

    changes: list[tuple[int, MessageChange]] = field(default_factory=list)
    """Each with the id of its delivery."""
    partyless: list[AnyPartylessChange] = field(default_factory=list)
    arrived: set[str] = field(default_factory=set)
    """The mids of messages that arrived."""
    usernames: dict[ConversationKey, str] = field(default_factory=dict)
    """Usernames of participants, from events that contain one."""
    openings: dict[ConversationKey, Opening] = field(default_factory=dict)
    """What the events do for the reply windows of their conversations."""


def changes_of(translated: Iterable[tuple[int, Translated]]) -> BatchChanges:
    """Collect the changes of events, each given with the id of its delivery."""
    found = BatchChanges()
    for delivery_id, one in translated:
        if one.change is not None:
            found.changes.append((delivery_id, one.change))
            if isinstance(one.change, Sent):
                found.arrived.add(one.change.mid)
        if one.partyless is not None:
            found.partyless.append(one.partyless)
        if one.key is not None and one.participant_username is not None:
            found.usernames[one.key] = one.participant_username
        if one.key is not None and one.opening is not None:
            found.openings[one.key] = one.opening.merged(found.openings.get(one.key))
    return found


def translate(event: WebhookEvent, accounts: Mapping[str, str], received_at: int) -> Translated:
    """The meaning of `event`. `accounts` maps each id of a served account to its main id.

    `received_at` (ms) replaces a time that is missing or in the future.
    """
    body = event.body
    if isinstance(body, events.MessageEdit) and body.is_companion:
        return Translated(companion_of=body.mid)
    if event.sender_id is None or event.recipient_id is None:
        if isinstance(body, events.Other):
            return Translated(kept=True)
        return Translated(partyless=_partyless(event, accounts, received_at))
    key, direction = sides(event, accounts)
    at = time_of(event, received_at)
    if isinstance(body, events.Other):
        opens = body.kind == "referral" and direction is Direction.INBOUND
        return Translated(key, kept=True, opening=_referred(event, at) if opens else None)
    sender = key.account_id if direction is Direction.OUTBOUND else key.participant_id
    change = _change(event, key, at, direction, sender)
    wrote = direction is Direction.INBOUND and isinstance(change, Sent) and key.account_id != key.participant_id
    name = event.sender_username if accounts.get(event.sender_id, event.sender_id) == key.participant_id else None
    opening = opening_of(change)
    return Translated(key, change, participant_wrote=wrote, participant_username=name, opening=opening)


def sides(event: WebhookEvent, accounts: Mapping[str, str]) -> tuple[ConversationKey, Direction]:
    """The conversation and the direction of an event.

    The account is the side with the id of a served account. When neither or both sides have one, `is_echo` decides
    (Webhooks, "sent and received"), then the kind of event. `entry.id` is used last, because Meta's samples label it
    as IGSID or as Page id.
    """
    sender, recipient = (accounts.get(who, who) for who in (event.sender_id or "", event.recipient_id or ""))
    body = event.body
    is_message = isinstance(body, events.WebhookMessage)
    is_echo = event.is_self or (isinstance(body, events.WebhookMessage) and bool(body.is_echo or body.is_self))
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


def time_of(event: WebhookEvent, received_at: int) -> int:
    """When the event happened (ms): the time of the item, else of its entry, else `received_at`."""
    for told in (event.timestamp, event.entry_time):
        if told is not None and is_believable(told, received_at, event.entry_time):
            return told
    return received_at


def _referred(event: WebhookEvent, at: int) -> Opening:
    """What a referral of its own does: the participant followed a link into the conversation, or came from an ad."""
    payload = msgspec.json.decode(event.raw)
    is_ad = isinstance(payload, dict) and is_from_ad(payload.get("referral"))
    return Opening(at, at if is_ad else None)


def _change(event: WebhookEvent, key: ConversationKey, at: int, direction: Direction, sender: str) -> MessageChange:
    match event.body:
        case events.WebhookMessage(is_deleted=True, mid=str(mid)):
            return Deleted(key=key, mid=mid, at=at, sender_id=sender)
        case events.WebhookMessage() as body:
            mid = body.mid or _made_up_mid("message", key, event.timestamp, bytes(event.raw))
            content = _content(body)
        case events.Postback() as body:
            told = (body.title, body.payload, body.referral)
            mid = body.mid or _made_up_mid("postback", key, event.timestamp, *told)
            content = Content(type="postback", text=body.title, details=_details(body, is_self=event.is_self))
        case events.MessageEdit() as body:
            text = body.text or ""
            return Edited(key=key, mid=body.mid, at=at, sender_id=sender, text=text, number=body.number)
        case events.WebhookReaction() as body:
            reaction, emoji = _reaction(body)
            return Reacted(key=key, mid=body.mid, at=at, by=sender, reaction=reaction, emoji=emoji)
        case events.Read() as body:
            return Seen(key=key, mid=body.mid, at=at, by_account=direction is Direction.OUTBOUND)
        case _:  # pragma: no cover - every other body is kept as an event
            msg = f"no change for an event of kind {event.kind}"
            raise AssertionError(msg)
    return Sent(
        key=key,
        mid=mid,
        at=at,
        sender_id=sender,
        direction=direction,
        content=content,
        standby=event.standby,
    )


def _partyless(event: WebhookEvent, accounts: Mapping[str, str], received_at: int) -> AnyPartylessChange:
    account_id = accounts.get(event.entry_id, event.entry_id)
    at = time_of(event, received_at)
    match event.body:
        case events.MessageEdit() as body:
            number = body.number
            return PartylessEdited(account_id=account_id, mid=body.mid, at=at, text=body.text or "", number=number)
        case events.WebhookReaction() as body:
            reaction, emoji = _reaction(body)
            return PartylessReacted(account_id=account_id, mid=body.mid, at=at, reaction=reaction, emoji=emoji)
        case events.Read() as body:
            return PartylessSeen(account_id=account_id, mid=body.mid, at=at)
        case events.WebhookMessage(is_deleted=True, mid=str(mid)):
            return PartylessDeleted(account_id=account_id, mid=mid, at=at)
        case _:  # pragma: no cover - the decoder lets no other body through without its parties
            msg = f"an event of kind {event.kind} without parties"
            raise AssertionError(msg)


def _reaction(body: events.WebhookReaction) -> tuple[str | None, str | None]:
    """Name and emoji. Both are None when the reaction was taken back."""
    return (None, None) if body.action == "unreact" else (body.reaction or "other", body.emoji)


def _content(body: events.WebhookMessage) -> Content:
    attachments = tuple(map(_attachment, body.attachments or ()))
    if body.is_unsupported:
        kind = "unsupported"
    elif attachments:
        kind = attachments[0].type
    else:
        kind = "text"
    return Content(type=kind, text=body.text, attachments=attachments, details=_details(body))


def _attachment(item: events.WebhookAttachment) -> Attachment:
    """The attachment. `ig_story` has another name for the URL; link previews have URL and title beside the payload."""
    payload = item.payload or {}
    urls = (payload.get("url"), payload.get("story_media_url"), item.url)
    titles = (payload.get("title"), item.title)
    return Attachment(
        type=item.type,
        url=next((url for url in urls if isinstance(url, str)), None),
        title=next((title for title in titles if isinstance(title, str)), None),
        payload=item.payload or None,
    )


def _details(body: events.WebhookMessage | events.Postback, *, is_self: bool = False) -> dict[str, object] | None:
    """All data other than text and attachments, under Meta's names."""
    if isinstance(body, events.Postback):
        found: dict[str, object | None] = {
            "payload": body.payload,
            "referral": body.referral,
            "is_self": is_self or None,
        }
    else:
        found = {
            "reply_to": body.reply_to,
            "quick_reply": body.quick_reply and {"payload": body.quick_reply.payload},
            "referral": body.referral,
            "is_self": body.is_self or None,
            "app_id": None if body.app_id is None else str(body.app_id),
        }
    return {name: value for name, value in found.items() if value is not None} or None


def _made_up_mid(kind: str, key: ConversationKey, at: int | None, *told: object) -> str:
    """A mid for a message that has none. Each copy of the message gets the same mid, so that copies are recognised.

    It is made only from data that Meta sent, because the time of arrival differs between copies.
    """
    text = msgspec.json.encode((key, at, *told), order="deterministic")
    return f"{kind}:" + hashlib.blake2b(text, digest_size=16).hexdigest()
