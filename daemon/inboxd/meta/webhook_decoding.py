"""From a webhook body to typed events, in every envelope that Instagram is known to send.

An item that fits no known shape becomes an event of kind `unknown` with the reason; one bad item never costs its
neighbours, also when it makes the body as a whole undecodable.
"""

import json
import operator
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from inboxd.meta import json_parts
from inboxd.meta.webhook_events import (
    Body,
    BrokenDeliveryError,
    Id,
    MessageEdit,
    Other,
    Postback,
    Read,
    UnreadableDeliveryError,
    WebhookEvent,
    WebhookMessage,
    WebhookReaction,
)

TEST_SENDER: Final = "12334"
TEST_RECIPIENT: Final = "23245"
TEST_ENTRY: Final = "0"
"""The fixed ids of the dashboard's Test button."""

MAX_ID_LENGTH: Final = 1024
"""Real mids exceed 150 characters; what exceeds this is no id."""
MAX_ITEM_BYTES: Final = 64 * 1024
"""Larger items are kept as they came, but no message is made of them: a real one has a few KiB at most."""
MAX_NESTING: Final = 64
"""The same for items that are nested deeper: SQLite, JSON readers and browsers all have a limit somewhere."""
MAX_BRACKETS: Final = 10_000
MAX_NAME: Final = 255
"""The longest username that is believed."""

_SECONDS_BELOW: Final = 10**11
_LATEST_MS: Final = 4_102_444_800_000  # the year 2100: later times are nonsense, and may not fit a column
_MESSAGING_FIELDS: Final = frozenset(
    {
        "messages",
        "message_echoes",
        "message_edit",
        "message_edits",  # the plural forms are the Messenger Platform's
        "message_reactions",
        "messaging_handover",
        "messaging_handovers",
        "messaging_optins",
        "messaging_policy_enforcement",
        "messaging_postbacks",
        "messaging_referral",
        "messaging_referrals",
        "messaging_seen",
        "standby",
    }
)
_BAD_ID: Final = "item with an id that is empty, too long or not printable"
_CHANGE_KINDS: Final = {
    "comments": "comment",
    "live_comments": "live_comment",
    "mentions": "mention",
    "story_insights": "story_insights",
}


class _Party(msgspec.Struct, frozen=True):
    id: Id
    username: Any = None


class _Item(msgspec.Struct, frozen=True):
    """One element of `messaging[]` or `standby[]`: who, when, and one or more of the others."""

    sender: _Party | None = None
    recipient: _Party | None = None
    timestamp: Any = None
    is_self: Any = None
    message: WebhookMessage | None = None
    message_edit: MessageEdit | None = None
    reaction: WebhookReaction | None = None
    read: Read | None = None
    postback: Postback | None = None
    referral: Any = None
    optin: Any = None
    pass_thread_control: Any = None
    take_thread_control: Any = None
    request_thread_control: Any = None
    app_roles: Any = None
    policy_enforcement: Any = None
    policy_enforcement_hyphen: Any = msgspec.field(default=None, name="policy-enforcement")  # Messenger's samples
    response_feedback: Any = None


_KEPT: Final = {
    "referral": "referral",
    "optin": "optin",
    "pass_thread_control": "pass_thread_control",
    "take_thread_control": "take_thread_control",
    "request_thread_control": "request_thread_control",
    "app_roles": "app_roles",
    "policy_enforcement": "policy_enforcement",
    "policy_enforcement_hyphen": "policy_enforcement",
    "response_feedback": "response_feedback",
}
"""The kinds of events that are kept as they came, by their member of an item."""
_NOTHING_KEPT: Final = (None,) * len(_KEPT)
_kept_of: Final = operator.attrgetter(*_KEPT)
_bodies_of: Final = operator.attrgetter("message", "message_edit", "reaction", "read", "postback")


class _Change(msgspec.Struct, frozen=True):
    field: str
    value: msgspec.Raw = msgspec.Raw(b"null")


class _Entry(msgspec.Struct, frozen=True):
    id: Id = ""
    time: Any = None
    messaging: tuple[msgspec.Raw, ...] | None = None
    standby: tuple[msgspec.Raw, ...] | None = None
    changes: tuple[msgspec.Raw, ...] | None = None
    changed_fields: Any = None
    field: str | None = None
    value: msgspec.Raw = msgspec.Raw(b"null")


class _Delivery(msgspec.Struct, frozen=True):
    object: str
    entry: tuple[msgspec.Raw, ...]


_decode_delivery = msgspec.json.Decoder(_Delivery).decode
_decode_wrapped = msgspec.json.Decoder(tuple[_Delivery, ...]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_item = msgspec.json.Decoder(_Item).decode
_decode_change = msgspec.json.Decoder(_Change).decode


def decode(body: bytes) -> Iterator[WebhookEvent]:
    """The events of a delivery, in the order in which they stand, one at a time.

    Raises BrokenDeliveryError at the first one when the body cannot be decoded as a whole.
    """
    try:
        deliveries = _deliveries(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"not a webhook payload: {error}"
        raise BrokenDeliveryError(msg) from error
    for delivery in deliveries:
        for entry in delivery.entry:
            yield from _entry(delivery.object, entry)


def decode_broken(body: bytes) -> list[WebhookEvent]:
    """The events of a delivery that `decode` refuses: what is broken in it becomes an unknown event.

    It takes about 2 µs for each bracket, so a large body is not for the event loop. Raises UnreadableDeliveryError
    when there is nothing in it that looks like a webhook payload.
    """
    found = json_parts.entries_of(body)
    if found is None:
        msg = "not a webhook payload: no JSON, or not an object with entries"
        raise UnreadableDeliveryError(msg)
    return [event for name, entry in found for event in _entry(name, msgspec.Raw(entry))]


def _deliveries(body: bytes) -> tuple[_Delivery, ...]:
    # One sample page prints payloads wrapped in an array.
    return _decode_wrapped(body) if body.lstrip()[:1] == b"[" else (_decode_delivery(body),)


def _mended(body: bytes) -> bytes:
    """The same JSON with half characters replaced: an emoji cut in two arrives as a lone surrogate escape.

    Raises ValueError when it is no JSON, RecursionError when it is nested too deeply.
    """
    return json.dumps(json.loads(body, parse_constant=_no_number), ensure_ascii=False).encode("utf-8", "replace")


def _no_number(name: str) -> None:
    msg = f"{name} is no JSON"
    raise ValueError(msg)


def to_ms(value: object) -> int | None:
    """A timestamp in milliseconds: Meta sends ms or s, as numbers or strings; None when it is no time at all."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    if number < _SECONDS_BELOW:
        number *= 1000
    return number if 0 < number < _LATEST_MS else None


def _is_id(text: str) -> bool:
    return 0 < len(text) <= MAX_ID_LENGTH and text.isprintable()


def _entry(object_name: str, raw: msgspec.Raw) -> Iterator[WebhookEvent]:
    try:
        entry = _decode_entry(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        pieces = _pieced_together(bytes(raw))
        if pieces is None:
            yield _unknown("", raw, f"entry: {error}")
            return
        entry = pieces
    entry_id, time = str(entry.id), to_ms(entry.time)
    if not _is_id(entry_id):
        entry_id = ""
    found = False
    if object_name == "instagram":
        for event in _items(entry, entry_id, raw, time):
            found = True
            yield event
    if not found:
        reason = "entry holds neither messaging, standby, changes nor field"
        if object_name != "instagram":
            reason = f"object {object_name[:40]!r} is not instagram"
        yield _unknown(entry_id, raw, reason, time)


def _items(entry: _Entry, entry_id: str, raw: msgspec.Raw, time: int | None) -> Iterator[WebhookEvent]:
    for item in entry.messaging or ():
        yield from _messaging(entry_id, item, time, standby=False)
    for item in entry.standby or ():
        yield from _messaging(entry_id, item, time, standby=True)
    for change in entry.changes or ():
        yield from _change(entry_id, change, time)
    if entry.field is not None:  # Instagram Login: the change stands in the entry itself
        yield from _changed(entry_id, entry.field, entry.value, raw, time)
    if entry.changed_fields is not None:
        yield _kept("changed_fields", entry_id, raw, time)


def _pieced_together(raw: bytes) -> _Entry | None:
    """An entry that cannot be decoded as a whole, with its items as they came; None when it is none."""
    members = json_parts.members(raw)
    if members is None:
        return None
    simple: dict[str, Any] = {}
    for name in ("id", "time", "field"):
        try:
            simple[name] = msgspec.json.decode(members.get(name, b"null"))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            simple[name] = None
    items = {
        name: tuple(map(msgspec.Raw, json_parts.elements(members[name]) or ()))
        for name in ("messaging", "standby", "changes")
        if name in members
    }
    return _Entry(
        id=simple["id"] if isinstance(simple["id"], str | int) else "",
        time=simple["time"],
        field=simple["field"] if isinstance(simple["field"], str) else None,
        value=msgspec.Raw(members.get("value", b"null")),
        changed_fields=members.get("changed_fields"),
        **items,
    )


def _messaging(entry_id: str, raw: msgspec.Raw, entry_time: int | None, *, standby: bool) -> Iterator[WebhookEvent]:
    try:
        item = _item(bytes(raw))
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        yield _unknown(entry_id, raw, f"item: {error}", entry_time)
        return
    bodies = _bodies(item)
    sender_id = None if item.sender is None else str(item.sender.id)
    recipient_id = None if item.recipient is None else str(item.recipient.id)
    parties = sender_id is not None and recipient_id is not None
    if (sender_id == TEST_SENDER and recipient_id == TEST_RECIPIENT) or entry_id == TEST_ENTRY:
        yield _kept("test", entry_id, raw, None)
        return
    reason = "item of no known kind" if not bodies else None
    if parties and not (_is_id(sender_id or "") and _is_id(recipient_id or "")):
        reason = _BAD_ID
    if reason is not None:
        yield _unknown(entry_id, raw, reason, entry_time)
        return
    for body in bodies:
        reason = _refused(body, entry_id, parties=parties)
        if reason is not None:
            yield _unknown(entry_id, raw, reason, entry_time)
            continue
        yield WebhookEvent(
            kind=body.kind,
            entry_id=entry_id,
            body=body,
            raw=raw,
            sender_id=sender_id if parties else None,
            recipient_id=recipient_id if parties else None,
            sender_username=_username(item.sender),
            timestamp=to_ms(item.timestamp) or entry_time,
            entry_time=entry_time,
            standby=standby,
            is_self=bool(item.is_self),
        )


def _item(raw: bytes) -> _Item:
    """Raises ValueError or RecursionError when it is not an item, or one that nobody should have to show."""
    if len(raw) > MAX_ITEM_BYTES:
        msg = f"larger than {MAX_ITEM_BYTES} bytes"
        raise ValueError(msg)
    if raw.count(b"[") + raw.count(b"{") > MAX_NESTING:
        json_parts.require_shallow(raw, levels=MAX_NESTING, brackets=MAX_BRACKETS)
    try:
        return _decode_item(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if b"\\u" not in raw:
            raise
        return _decode_item(_mended(raw))


def _refused(body: Body, entry_id: str, *, parties: bool) -> str | None:
    """Why nothing can be made of `body`, if that is so."""
    if isinstance(body, Other):
        return None
    mid = body.mid
    if mid and not _is_id(mid):
        return _BAD_ID
    is_change = isinstance(body, MessageEdit | WebhookReaction | Read) or (
        isinstance(body, WebhookMessage) and body.is_deleted
    )
    if is_change and not mid:
        return "item about a message without its mid"
    if not parties and not is_change:
        return "item without sender or recipient"
    return "item with neither parties nor an account" if not parties and not entry_id else None


def _username(sender: _Party | None) -> str | None:
    name = None if sender is None else sender.username
    if not isinstance(name, str) or not 0 < len(name.strip()) <= MAX_NAME or not name.isprintable():
        return None
    return name.strip()


def _bodies(item: _Item) -> list[Body]:
    """Everything that the item says: usually one thing, sometimes a message and a reaction together."""
    found: list[Body] = [body for body in _bodies_of(item) if body is not None]
    kept = _kept_of(item)
    if kept != _NOTHING_KEPT:
        kinds = dict.fromkeys(kind for kind, value in zip(_KEPT.values(), kept, strict=True) if value is not None)
        found += [Other(kind) for kind in kinds]
    return found


def _change(entry_id: str, raw: msgspec.Raw, time: int | None) -> Iterator[WebhookEvent]:
    try:
        change = _change_of(bytes(raw))
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        yield _unknown(entry_id, raw, f"change: {error}", time)
        return
    yield from _changed(entry_id, change.field, change.value, raw, time)


def _change_of(raw: bytes) -> _Change:
    """Raises DecodeError, ValueError or RecursionError when it is no change."""
    try:
        return _decode_change(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if b"\\u" not in raw or len(raw) > MAX_ITEM_BYTES:
            raise
        return _decode_change(_mended(raw))


def _changed(
    entry_id: str, field: str, value: msgspec.Raw, raw: msgspec.Raw, time: int | None
) -> Iterator[WebhookEvent]:
    kind = _CHANGE_KINDS.get(field)
    if field in _MESSAGING_FIELDS:
        yield from _messaging(entry_id, value, time, standby=field == "standby")
    elif entry_id == TEST_ENTRY:
        yield _kept("test", entry_id, raw, None)
    elif kind is None:
        yield _unknown(entry_id, raw, f"field {field[:40]!r}", time)
    else:
        yield _kept(kind, entry_id, raw, time)


def _kept(kind: str, entry_id: str, raw: msgspec.Raw, time: int | None) -> WebhookEvent:
    return WebhookEvent(kind=kind, entry_id=entry_id, body=Other(kind), raw=raw, timestamp=time, entry_time=time)


def _unknown(entry_id: str, raw: msgspec.Raw, reason: str, time: int | None = None) -> WebhookEvent:
    return WebhookEvent(kind="unknown", entry_id=entry_id, body=Other("unknown", reason), raw=raw, timestamp=time)
