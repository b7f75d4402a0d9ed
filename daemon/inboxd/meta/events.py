"""From a webhook body to typed events: every kind and every envelope that Instagram is known to send.

Meta's "Webhooks" and "Webhook examples" pages of the Instagram Platform, and of Instagram Messaging for what only
the Messenger Platform documents. An item that fits no known shape becomes an event of kind `unknown` with the
reason; one bad item never costs its neighbours.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from inboxd.errors import InboxdError

_Id = str | int  # a few samples print ids as numbers; everything here is text in the end

TEST_SENDER: Final = "12334"
TEST_RECIPIENT: Final = "23245"
TEST_ENTRY: Final = "0"
"""The fixed ids of the dashboard's Test button."""

MAX_ID_LENGTH: Final = 1024
"""Real mids exceed 150 characters; what exceeds this is no id."""

_SECONDS_BELOW: Final = 10**11
_LATEST_MS: Final = 4_102_444_800_000  # the year 2100: later times are nonsense, and may not fit a column
_MESSAGING_FIELDS: Final = frozenset(
    {
        "messages",
        "message_echoes",
        "message_edit",
        "message_reactions",
        "messaging_handover",
        "messaging_optins",
        "messaging_postbacks",
        "messaging_referral",
        "messaging_seen",
        "standby",
    }
)
_CHANGE_KINDS: Final = {
    "comments": "comment",
    "live_comments": "live_comment",
    "mentions": "mention",
    "story_insights": "story_insights",
}


class UnreadableDeliveryError(InboxdError):
    """The body is signed but is not a webhook payload: not JSON, or not an object with entries."""


class _Attachment(msgspec.Struct, frozen=True):
    type: str
    payload: dict[str, Any] | None = None


class _QuickReply(msgspec.Struct, frozen=True):
    payload: str | None = None


class Message(msgspec.Struct, frozen=True):
    """`messaging[].message`: a message, an echo, a message to oneself, a delete or an unsupported one."""

    mid: str
    text: str | None = None
    attachments: tuple[_Attachment, ...] | None = None
    quick_reply: _QuickReply | None = None
    reply_to: dict[str, Any] | None = None
    referral: dict[str, Any] | None = None
    is_echo: bool | None = None
    is_self: bool | None = None
    is_deleted: bool | None = None
    is_unsupported: bool | None = None
    app_id: _Id | None = None

    @property
    def kind(self) -> str:
        """What happened, as one word."""
        if self.is_deleted:
            return "delete"
        if self.is_self:
            return "self_message"
        if self.is_echo:
            return "echo"
        return "unsupported" if self.is_unsupported else "message"


class MessageEdit(msgspec.Struct, frozen=True):
    """`messaging[].message_edit`. `num_edit` is shown quoted in one sample and bare in another."""

    mid: str
    text: str | None = None
    num_edit: int | str | None = None

    @property
    def number(self) -> int:
        """Which edit this is, from 1; 0 when Meta does not say."""
        try:
            return max(0, min(int(self.num_edit or 0), 2**31))
        except ValueError:
            return 0


class Reaction(msgspec.Struct, frozen=True):
    """`messaging[].reaction`. Both `reaction` and `emoji` are absent when it is taken back."""

    mid: str
    action: str
    reaction: str | None = None
    emoji: str | None = None


class Read(msgspec.Struct, frozen=True):
    """`messaging[].read`: the message that was seen."""

    mid: str


class Postback(msgspec.Struct, frozen=True):
    """`messaging[].postback`: a tapped ice breaker, menu item or button. `mid` and `payload` may be missing."""

    mid: str | None = None
    title: str | None = None
    payload: str | None = None
    referral: dict[str, Any] | None = None


class Other(msgspec.Struct, frozen=True):
    """Anything that is kept as it came: referrals, opt-ins, handover, comments, mentions, insights, the unknown."""

    kind: str
    reason: str | None = None
    """For unknown events: why they are unknown."""


Body = Message | MessageEdit | Reaction | Read | Postback | Other


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One item inside a delivery."""

    kind: str
    entry_id: str
    body: Body
    raw: msgspec.Raw
    """The item's own JSON, as it came."""
    sender_id: str | None = None
    recipient_id: str | None = None
    timestamp: int | None = None
    """Milliseconds since the epoch; from the item, else its entry; None when neither says."""
    standby: bool = False


class _Party(msgspec.Struct, frozen=True):
    id: _Id


class _Item(msgspec.Struct, frozen=True):
    """One element of `messaging[]` or `standby[]`: who, when, and exactly one of the others."""

    sender: _Party | None = None
    recipient: _Party | None = None
    timestamp: int | float | str | None = None
    message: Message | None = None
    message_edit: MessageEdit | None = None
    reaction: Reaction | None = None
    read: Read | None = None
    postback: Postback | None = None
    referral: Any = None
    optin: Any = None
    pass_thread_control: Any = None
    take_thread_control: Any = None
    request_thread_control: Any = None
    app_roles: Any = None
    policy_enforcement: Any = msgspec.field(default=None, name="policy-enforcement")
    response_feedback: Any = None


_KEPT: Final = (
    "referral",
    "optin",
    "pass_thread_control",
    "take_thread_control",
    "request_thread_control",
    "app_roles",
    "policy_enforcement",
    "response_feedback",
)


class _Change(msgspec.Struct, frozen=True):
    field: str
    value: msgspec.Raw = msgspec.Raw(b"null")


class _Entry(msgspec.Struct, frozen=True):
    id: _Id = ""
    time: int | float | str | None = None
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


def decode(body: bytes) -> list[Event]:
    """The events of a delivery, in the order in which they stand.

    Raises UnreadableDeliveryError when the body as a whole is not a webhook payload.
    """
    try:
        deliveries = _deliveries(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            deliveries = _deliveries(_mended(body))
        except (ValueError, RecursionError):
            msg = f"not a webhook payload: {error}"
            raise UnreadableDeliveryError(msg) from error
    return [event for delivery in deliveries for entry in delivery.entry for event in _entry(delivery.object, entry)]


def _deliveries(body: bytes) -> tuple[_Delivery, ...]:
    # One sample page prints payloads wrapped in an array.
    return _decode_wrapped(body) if body.lstrip()[:1] == b"[" else (_decode_delivery(body),)


def _mended(body: bytes) -> bytes:
    """The same JSON with half characters replaced: an emoji cut in two arrives as a lone surrogate escape.

    Raises ValueError when it is no JSON.
    """
    return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")


def to_ms(value: float | str | None) -> int | None:
    """A timestamp in milliseconds: Meta sends ms or s, as numbers or strings; None when it is no time at all."""
    if value is None:
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


def _entry(object_name: str, raw: msgspec.Raw) -> Iterator[Event]:
    try:
        entry = _decode_entry(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield _unknown("", raw, f"entry: {error}")
        return
    entry_id, time = str(entry.id), to_ms(entry.time)
    if object_name != "instagram":
        yield _unknown(entry_id, raw, f"object {object_name!r} is not instagram", time)
        return
    found = False
    for standby, items in ((False, entry.messaging), (True, entry.standby)):
        for item in items or ():
            found = True
            yield _messaging(entry_id, item, time, standby=standby)
    for change in entry.changes or ():
        found = True
        yield _change(entry_id, change, time)
    if entry.field is not None:  # Instagram Login: the change stands in the entry itself
        found = True
        yield _changed(entry_id, entry.field, entry.value, raw, time)
    if entry.changed_fields is not None:
        found = True
        yield _kept("changed_fields", entry_id, raw, time)
    if not found:
        yield _unknown(entry_id, raw, "entry holds neither messaging, standby, changes nor field", time)


def _messaging(entry_id: str, raw: msgspec.Raw, entry_time: int | None, *, standby: bool) -> Event:
    try:
        item = _decode_item(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _unknown(entry_id, raw, f"item: {error}", entry_time)
    body = _body(item)
    if body is None:
        return _unknown(entry_id, raw, "item of no known kind", entry_time)
    if item.sender is None or item.recipient is None:
        return _unknown(entry_id, raw, "item without sender or recipient", entry_time)
    sender_id, recipient_id = str(item.sender.id), str(item.recipient.id)
    if not (_is_id(sender_id) and _is_id(recipient_id) and _is_id(getattr(body, "mid", None) or "-")):
        return _unknown(entry_id, raw, "item with an id that is empty, too long or not printable", entry_time)
    if (sender_id == TEST_SENDER and recipient_id == TEST_RECIPIENT) or entry_id == TEST_ENTRY:
        return _kept("test", entry_id, raw, None)
    return Event(
        kind=_kind(body),
        entry_id=entry_id,
        body=body,
        raw=raw,
        sender_id=sender_id,
        recipient_id=recipient_id,
        timestamp=to_ms(item.timestamp) or entry_time,
        standby=standby,
    )


def _body(item: _Item) -> Body | None:
    body = item.message or item.reaction or item.read or item.postback or item.message_edit
    if body is not None:
        return body
    for kind in _KEPT:
        if getattr(item, kind) is not None:
            return Other(kind)
    return None


def _kind(body: Body) -> str:
    match body:
        case Message() | Other():
            return body.kind
        case MessageEdit():
            return "edit"
        case Reaction():
            return "reaction"
        case Read():
            return "seen"
        case Postback():
            return "postback"


def _change(entry_id: str, raw: msgspec.Raw, time: int | None) -> Event:
    try:
        change = _decode_change(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _unknown(entry_id, raw, f"change: {error}", time)
    return _changed(entry_id, change.field, change.value, raw, time)


def _changed(entry_id: str, field: str, value: msgspec.Raw, raw: msgspec.Raw, time: int | None) -> Event:
    if field in _MESSAGING_FIELDS:
        return _messaging(entry_id, value, time, standby=field == "standby")
    if entry_id == TEST_ENTRY:
        return _kept("test", entry_id, raw, None)
    kind = _CHANGE_KINDS.get(field)
    if kind is None:
        return _unknown(entry_id, raw, f"field {field[:40]!r}", time)
    return _kept(kind, entry_id, raw, time)


def _kept(kind: str, entry_id: str, raw: msgspec.Raw, time: int | None) -> Event:
    return Event(kind=kind, entry_id=entry_id, body=Other(kind), raw=raw, timestamp=time)


def _unknown(entry_id: str, raw: msgspec.Raw, reason: str, time: int | None = None) -> Event:
    return Event(kind="unknown", entry_id=entry_id, body=Other("unknown", reason), raw=raw, timestamp=time)
