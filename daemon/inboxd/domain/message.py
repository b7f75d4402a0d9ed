"""A message and everything that may happen to it.

Meta delivers events twice and in any order, so what happens to a message is a *join*: `Message.apply` is
commutative, associative and idempotent. Whatever the order and however often the same changes arrive, the
message ends in the same state. Each field says which rule makes it so.
"""

from enum import IntEnum

import msgspec

from inboxd.domain.conversation import ConversationKey


class Direction(IntEnum):
    """Which way a message went, seen from the account."""

    INBOUND = 0
    OUTBOUND = 1


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attachment. View-once media, hearts and link previews come without any payload."""

    type: str
    url: str | None = None
    title: str | None = None
    payload: dict[str, object] | None = None


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a message says. `details` keeps the rest as Meta names it: reply_to, quick_reply, referral and so on."""

    type: str
    text: str | None = None
    attachments: tuple[Attachment, ...] = ()
    details: dict[str, object] | None = None


class Edit(msgspec.Struct, frozen=True, order=True):
    """The latest edit: ordered by number, then time, then text, so that the greatest one wins."""

    number: int
    at: int
    text: str


class Reaction(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one person last did with their one reaction; `reaction` is None when they took it back."""

    by: str
    at: int
    reaction: str | None = None
    emoji: str | None = None

    def rank(self) -> tuple[int, bool, str, str]:
        """The later one wins; at the same instant taking back loses, then the alphabet decides."""
        return (self.at, self.reaction is not None, self.reaction or "", self.emoji or "")


class MessageChange(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a message at `at` (ms). Subclasses say what."""

    key: ConversationKey
    mid: str
    at: int


class Sent(MessageChange, frozen=True, kw_only=True):
    """The message itself. `standby` copies come while another app owns the thread and may lack parts."""

    sender_id: str
    direction: Direction
    content: Content
    standby: bool = False


class Edited(MessageChange, frozen=True, kw_only=True):
    """The sender changed the text."""

    sender_id: str
    text: str
    number: int


class Deleted(MessageChange, frozen=True, kw_only=True):
    """The sender took the message back."""

    sender_id: str


class Reacted(MessageChange, frozen=True, kw_only=True):
    """Somebody reacted, or took their reaction back (`reaction` None)."""

    by: str
    reaction: str | None
    emoji: str | None


class Seen(MessageChange, frozen=True, kw_only=True):
    """One side has seen the message (and so everything before it)."""

    by_account: bool


class PartylessChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="what"):
    """A change that came without sender and recipient: only its mid says which message it is about.

    Who did it follows from the message, so it waits until the message itself is known. Subclasses say what it is.
    """

    account_id: str
    mid: str
    at: int


class PartylessEdited(PartylessChange, frozen=True, kw_only=True, tag="edited"):
    """Somebody changed the text: its sender, since nobody else can."""

    text: str
    number: int


class PartylessDeleted(PartylessChange, frozen=True, kw_only=True, tag="deleted"):
    """Somebody took the message back: its sender, since nobody else can."""


class PartylessSeen(PartylessChange, frozen=True, kw_only=True, tag="seen"):
    """The side that did not send the message has seen it."""


class PartylessReacted(PartylessChange, frozen=True, kw_only=True, tag="reacted"):
    """The participant reacted: Meta tells of nobody else's reactions ("Webhooks", `message_reactions`)."""

    reaction: str | None
    emoji: str | None


AnyPartylessChange = PartylessEdited | PartylessDeleted | PartylessSeen | PartylessReacted


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one message. Until the message itself arrives, `direction` and `sent_at` are None."""

    mid: str
    noticed_at: int
    """The earliest time of anything known about the message (minimum)."""
    sender_id: str | None = None
    """From the message, an edit or a delete: they all name the sender (minimum)."""
    direction: Direction | None = None
    """From the message itself; a received copy outranks an echo of the same mid (minimum)."""
    sent_at: int | None = None
    """From the message itself (minimum)."""
    content: Content | None = None
    """The richest copy (greatest rank); None before it arrives and for ever after a delete."""
    standby: bool = False
    """Whether the content kept is a standby copy."""
    edit: Edit | None = None
    """The latest edit (greatest); None for ever after a delete."""
    deleted_at: int | None = None
    """When it was taken back (minimum)."""
    seen_by_account_at: int | None = None
    seen_by_participant_at: int | None = None
    """When each side first showed that it has seen it (minimum)."""
    reactions: tuple[Reaction, ...] = ()
    """One per person, the greatest, ordered by person; none for ever after a delete."""

    @property
    def timeline_at(self) -> int | None:
        """Where the message stands in its conversation (ms), or None while there is nothing to show of it."""
        if self.sent_at is not None:
            return self.sent_at
        if self.deleted_at is not None or self.edit is not None:
            return self.noticed_at
        return None

    def apply(self, change: MessageChange) -> "Message":
        """The message after `change`; equal to itself when the change says nothing new."""
        facts: dict[str, object] = {"noticed_at": min(self.noticed_at, change.at)}
        match change:
            case Sent():
                facts |= self._sent(change)
            case Edited():
                facts |= self._edited(change)
            case Deleted():
                facts |= self._deleted(change)
            case Reacted():
                facts |= self._reacted(change)
            case Seen():
                field = "seen_by_account_at" if change.by_account else "seen_by_participant_at"
                facts[field] = _earliest(getattr(self, field), change.at)
        return msgspec.structs.replace(self, **facts)

    def _sent(self, change: Sent) -> dict[str, object]:
        facts: dict[str, object] = {
            "sender_id": change.sender_id if self.sender_id is None else min(self.sender_id, change.sender_id),
            "direction": change.direction if self.direction is None else min(self.direction, change.direction),
            "sent_at": _earliest(self.sent_at, change.at),
        }
        if self.deleted_at is None and self._is_richer(change):
            facts |= {"content": change.content, "standby": change.standby}
        return facts

    def _is_richer(self, change: Sent) -> bool:
        if self.content is None:
            return True
        if self.content == change.content and self.standby == change.standby:
            return False
        return _rank(change.content, standby=change.standby) > _rank(self.content, standby=self.standby)

    def _edited(self, change: Edited) -> dict[str, object]:
        facts: dict[str, object] = {
            "sender_id": change.sender_id if self.sender_id is None else min(self.sender_id, change.sender_id)
        }
        if self.deleted_at is None:
            edit = Edit(number=change.number, at=change.at, text=change.text)
            facts["edit"] = edit if self.edit is None else max(self.edit, edit)
        return facts

    def _deleted(self, change: Deleted) -> dict[str, object]:
        return {
            "sender_id": change.sender_id if self.sender_id is None else min(self.sender_id, change.sender_id),
            "deleted_at": _earliest(self.deleted_at, change.at),
            "content": None,
            "standby": False,
            "edit": None,
            "reactions": (),
        }

    def _reacted(self, change: Reacted) -> dict[str, object]:
        if self.deleted_at is not None:
            return {}
        latest = {reaction.by: reaction for reaction in self.reactions}
        new = Reaction(by=change.by, at=change.at, reaction=change.reaction, emoji=change.emoji)
        known = latest.get(change.by)
        if known is None or new.rank() > known.rank():
            latest[change.by] = new
        return {"reactions": tuple(latest[by] for by in sorted(latest))}


def fold(message: Message | None, change: MessageChange) -> Message:
    """`change` joined to what is known so far of its message (None: nothing)."""
    if message is not None:
        return message.apply(change)
    if type(change) is Sent:  # the one change that is most of all traffic: built in one step
        return Message(
            mid=change.mid,
            noticed_at=change.at,
            sender_id=change.sender_id,
            direction=change.direction,
            sent_at=change.at,
            content=change.content,
            standby=change.standby,
        )
    return Message(mid=change.mid, noticed_at=change.at).apply(change)


def placed(change: AnyPartylessChange, key: ConversationKey, message: Message) -> MessageChange | None:
    """The change as one of `message`, in the conversation `key`; None while the message itself has not arrived."""
    if message.direction is None or message.sender_id is None:
        return None
    mid, at, sender_id = change.mid, change.at, message.sender_id
    match change:
        case PartylessEdited():
            return Edited(key=key, mid=mid, at=at, sender_id=sender_id, text=change.text, number=change.number)
        case PartylessDeleted():
            return Deleted(key=key, mid=mid, at=at, sender_id=sender_id)
        case PartylessSeen():
            return Seen(key=key, mid=mid, at=at, by_account=message.direction is Direction.INBOUND)
        case PartylessReacted():
            by = key.participant_id
            return Reacted(key=key, mid=mid, at=at, by=by, reaction=change.reaction, emoji=change.emoji)


def _earliest(known: int | None, new: int) -> int:
    return new if known is None else min(known, new)


def _rank(content: Content, *, standby: bool) -> tuple[bool, bytes]:
    return (not standby, msgspec.json.encode(content, order="deterministic"))
