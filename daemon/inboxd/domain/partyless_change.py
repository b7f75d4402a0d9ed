"""Changes of messages that came without sender and recipient."""

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Deleted, Direction, Edited, Message, MessageChange, Reacted, Seen


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
