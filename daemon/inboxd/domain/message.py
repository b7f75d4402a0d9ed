"""A message, and the changes that can be made to it.

Meta delivers events more than once and in any order. So a change is *joined* to its message: `Message.apply` is
commutative, associative and idempotent. The final state of a message does not depend on the order of its changes, or on
how often they arrive. The docstring of each field names the rule that ensures this.
"""

from enum import IntEnum

import msgspec

from inboxd.domain.conversation import ConversationKey


class Direction(IntEnum):
    """The direction of a message, as the account sees it."""

    INBOUND = 0
    OUTBOUND = 1


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attachment. View-once media, hearts and link previews come without any payload."""

    type: str
    url: str | None = None
    title: str | None = None
    payload: dict[str, object] | None = None


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of a message. `details` has the rest, under Meta's names: reply_to, quick_reply, referral, …."""

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
    """The latest reaction of one person. `reaction` is None when they took it back."""

    by: str
    at: int
    reaction: str | None = None
    emoji: str | None = None

    def rank(self) -> tuple[int, bool, str, str]:
        """The greatest wins: the latest; at equal times one that was not taken back; then the last by the alphabet."""
        return (self.at, self.reaction is not None, self.reaction or "", self.emoji or "")


class MessageChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a message at `at` (ms). There is a subclass for each kind of change."""

    key: ConversationKey
    mid: str
    at: int


class Sent(MessageChange, frozen=True, kw_only=True):
    """The message itself. A `standby` copy comes while another app owns the thread. It may lack parts."""

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
    """A person (`by`) reacted, or took their reaction back (`reaction` is None)."""

    by: str
    reaction: str | None
    emoji: str | None


class Seen(MessageChange, frozen=True, kw_only=True):
    """One side has seen the message, and so all messages before it."""

    by_account: bool


class PartylessChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="what"):
    """A change that came without sender and recipient: only its mid says which message it is about.

    The message says who made the change, so the change waits until the message has arrived. `at` in ms. There is a
    subclass for each kind of change.
    """

    account_id: str
    mid: str
    at: int


class PartylessEdited(PartylessChange, frozen=True, kw_only=True, tag="edited"):
    """The sender changed the text. Only the sender can."""

    text: str
    number: int


class PartylessDeleted(PartylessChange, frozen=True, kw_only=True, tag="deleted"):
    """The sender took the message back. Only the sender can."""


class PartylessSeen(PartylessChange, frozen=True, kw_only=True, tag="seen"):
    """The side that did not send the message has seen it."""


class PartylessReacted(PartylessChange, frozen=True, kw_only=True, tag="reacted"):
    """The participant reacted. Meta sends only the participant's reactions ("Webhooks", `message_reactions`)."""

    reaction: str | None
    emoji: str | None


AnyPartylessChange = PartylessEdited | PartylessDeleted | PartylessSeen | PartylessReacted


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of one message. `direction` and `sent_at` are None until the message itself arrives. Times in ms."""

    mid: str
    noticed_at: int
    """The earliest time of anything known about the message (minimum)."""
    sender_id: str | None = None
    """From the message, an edit or a delete: they all name the sender (minimum)."""
    direction: Direction | None = None
    """From the message itself. A received copy wins over an echo of the same mid (minimum)."""
    sent_at: int | None = None
    """From the message itself (minimum)."""
    content: Content | None = None
    """The most complete copy (greatest rank). None before the message arrives, and after a delete."""
    standby: bool = False
    """Whether `content` is from a standby copy."""
    edit: Edit | None = None
    """The latest edit (greatest). None after a delete."""
    deleted_at: int | None = None
    """When it was taken back (minimum)."""
    seen_by_account_at: int | None = None
    seen_by_participant_at: int | None = None
    """The earliest time at which each side is known to have seen the message (minimum)."""
    reactions: tuple[Reaction, ...] = ()
    """One per person (greatest), ordered by person. None after a delete."""

    @property
    def seen(self) -> bool:
        """Whether either side is known to have seen it."""
        return self.seen_by_account_at is not None or self.seen_by_participant_at is not None

    @property
    def timeline_at(self) -> int | None:
        """The time (ms) that orders the message in its conversation. None while there is nothing to show of it."""
        if self.sent_at is not None:
            return self.sent_at
        if self.deleted_at is not None or self.edit is not None:
            return self.noticed_at
        return None

    @property
    def shown_at(self) -> int:
        """The time (ms) that readers see: `timeline_at`, or `noticed_at` when that is None."""
        return self.timeline_at or self.noticed_at

    def apply(self, change: MessageChange) -> "Message":
        """The message after `change`. It is equal to this one when the change adds nothing new."""
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
    """The message after `change`. `message` is its state before; None when nothing is known of it."""
    if message is not None:
        return message.apply(change)
    if type(change) is Sent:  # most changes are this kind: built in one step
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
    """The change with its sender and recipient, taken from `message` in the conversation `key`.

    None while the message itself has not arrived.
    """
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
