"""A message, and the changes that can be made to it.

Meta delivers events more than once and in any order. So a change is *joined* to its message: `Message.apply` is
commutative, associative and idempotent. The final state of a message does not depend on the order of its changes, or on
how often they arrive. The docstring of each field names the rule that ensures this.
"""

import unicodedata
from enum import IntEnum
from typing import Final

import msgspec

from inboxd.domain.conversation import ConversationKey

NEVER_READ: Final = 2**53 - 1
"""Where `read_at` stands for content that is what was sent from here: every copy that is read later is better."""
READ_BACK_DELAY_MS: Final = 60_000
"""A text that differs in the Conversations API is an edit when it was read so long after the text that is known: what
is new is shown there after about 30 s."""


class Direction(IntEnum):
    """The direction of a message, as the account sees it."""

    INBOUND = 0
    OUTBOUND = 1


class Source(IntEnum):
    """Where a message is known from. The smallest value wins: a webhook has more to say than the Conversations API."""

    WEBHOOK = 0
    RECONCILED = 1
    """Meta did not deliver it; a reconciliation found it."""
    HISTORY = 2
    """It was imported. It does not count as unread."""
    SENT = 3
    """It was sent from here, and Meta accepted it. Neither a webhook nor the API has shown it yet."""


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


class ReadText(msgspec.Struct, frozen=True, order=True):
    """The text that the Conversations API showed at `at` (ms). The latest wins."""

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


class ReadBack(MessageChange, frozen=True, kw_only=True):
    """The message as the Conversations API shows it. `at` is its time there, which has whole seconds.

    `direction`, `sender_id` and `content` are None when the API lists it without readable details.
    """

    source: Source
    read_at: int
    """When it was read (ms)."""
    sender_id: str | None = None
    direction: Direction | None = None
    content: Content | None = None


class SentFromHere(MessageChange, frozen=True, kw_only=True):
    """The message as it was sent from here, once Meta accepted it. `at` is when the call began, by our clock."""

    content: Content


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
    source: Source | None = None
    """Where it is known from (minimum). None while only changes of it are known."""
    listed_at: int | None = None
    """The time at which the Conversations API lists it (minimum)."""
    read_at: int | None = None
    """When `content` was read from the Conversations API (minimum), or NEVER_READ. None when it is from a webhook."""
    read_text: ReadText | None = None
    """The latest text that the Conversations API showed (greatest). None after a delete."""
    content: Content | None = None
    """The most complete copy: a webhook's before the Conversations API's, then the greatest rank. None before the
    message arrives, and after a delete."""
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
        if self.listed_at is not None:
            return self.listed_at
        if self.deleted_at is not None or self.edit is not None or self.source is Source.SENT:
            return self.noticed_at
        return None

    @property
    def current_edit(self) -> Edit | None:
        """The edit that made the text what it is: what a webhook told, or what was read long enough after that."""
        read, original = self.read_text, None if self.content is None else self.content.text
        since = max(self.timeline_at or self.noticed_at, 0 if self.edit is None else self.edit.at)
        if read is None or self.content is None or read.at <= since + READ_BACK_DELAY_MS:
            return self.edit
        if _same(read.text, original if self.edit is None else self.edit.text):
            return self.edit
        return Edit(0 if self.edit is None else self.edit.number, read.at, read.text)

    @property
    def text(self) -> str | None:
        """The text as it is now."""
        edit = self.current_edit
        if edit is not None:
            return edit.text
        return None if self.content is None else self.content.text

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
            case ReadBack():
                facts |= self._read_back(change)
            case SentFromHere():
                facts |= self._sent_from_here(change)
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
            "source": Source.WEBHOOK,
        }
        if self.deleted_at is None and self._is_richer(change):
            facts |= {"content": change.content, "standby": change.standby, "read_at": None}
        return facts

    def _read_back(self, change: ReadBack) -> dict[str, object]:
        facts: dict[str, object] = {
            "listed_at": _earliest(self.listed_at, change.at),
            "source": change.source if self.source is None else min(self.source, change.source),
        }
        if change.content is None or change.direction is None or change.sender_id is None:
            return facts
        if self.direction is None:
            facts |= {"direction": change.direction, "sender_id": self.sender_id or change.sender_id}
        if self.deleted_at is not None:
            return facts
        if self.content is None or (self.read_at is not None and change.read_at < self.read_at):
            facts |= {"content": change.content, "read_at": change.read_at}
        if change.content.text:
            read = ReadText(change.read_at, change.content.text)
            facts["read_text"] = read if self.read_text is None else max(self.read_text, read)
        return facts

    def _sent_from_here(self, change: SentFromHere) -> dict[str, object]:
        us = change.key.account_id
        facts: dict[str, object] = {
            "sender_id": us if self.sender_id is None else min(self.sender_id, us),
            "direction": Direction.OUTBOUND if self.direction is None else self.direction,
            "source": Source.SENT if self.source is None else self.source,
        }
        if self.content is None:
            is_better = self.deleted_at is None
        else:
            is_better = self.read_at == NEVER_READ and _rank(change.content) > _rank(self.content)
        return facts | {"content": change.content, "read_at": NEVER_READ} if is_better else facts

    def _is_richer(self, change: Sent) -> bool:
        if self.content is None or self.read_at is not None:
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
            "read_at": None,
            "read_text": None,
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
            source=Source.WEBHOOK,
            content=change.content,
            standby=change.standby,
        )
    return Message(mid=change.mid, noticed_at=change.at).apply(change)


def _same(one: str | None, other: str | None) -> bool:
    """Whether two copies of a text say the same. The API may compose letters and trim blanks otherwise."""
    return _plain(one) == _plain(other)


def _plain(text: str | None) -> str:
    return " ".join(unicodedata.normalize("NFC", text or "").split())


def _earliest(known: int | None, new: int) -> int:
    return new if known is None else min(known, new)


def _rank(content: Content, *, standby: bool = False) -> tuple[bool, bytes]:
    return (not standby, msgspec.json.encode(content, order="deterministic"))
