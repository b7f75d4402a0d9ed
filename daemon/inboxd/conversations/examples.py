"""Examples of conversations and messages, for the documents of the API and of events."""

from typing import Any, Final

from inboxd.conversations.resources import ConversationResource, MessageResource
from inboxd.conversations.store import StoredMessage
from inboxd.domain.conversation import Conversation, ConversationKey, ConversationStatus
from inboxd.domain.message import Content, Deleted, Direction, Edited, Message, MessageChange, Reacted, Reaction
from inboxd.domain.profile import ProfileState

ACCOUNT_ID: Final = "17841400000000001"
_AT: Final = 1_767_225_600_000
"""2026-01-01T00:00:00.000Z."""
CONVERSATION: Final = Conversation(
    id=12,
    key=ConversationKey(ACCOUNT_ID, "912345678901234"),
    participant_username="garden.friend",
    participant_name="Garden Friend",
    participant_profile_pic="https://scontent.cdninstagram.com/v/picture.jpg",
    last_message_at=_AT,
    answered_at=None,
    read_at=None,
    seen_at=None,
    unread_count=1,
    status=ConversationStatus.OPEN,
    metadata={},
    created_at=_AT,
    updated_at=_AT,
    profile_state=ProfileState.COMPLETE,
    customer_wrote_at=_AT,
)
MESSAGE: Final = Message(
    mid="aWdfZAG1faXRlbTox",
    noticed_at=_AT,
    sender_id=CONVERSATION.key.participant_id,
    direction=Direction.INBOUND,
    sent_at=_AT,
    content=Content(type="text", text="Do you still have the green one?"),
)
REACTION: Final = Reaction(by=CONVERSATION.key.participant_id, at=_AT, reaction="love", emoji="\u2764")
_ABOUT: Final[dict[str, Any]] = {"key": CONVERSATION.key, "mid": MESSAGE.mid, "at": _AT + 60_000}
_WHO: Final = CONVERSATION.key.participant_id
EDITED: Final = Edited(**_ABOUT, sender_id=_WHO, text="Do you still have the blue one?", number=1)
DELETED: Final = Deleted(**_ABOUT, sender_id=_WHO)
REACTED: Final = Reacted(**_ABOUT, by=_WHO, reaction=REACTION.reaction, emoji=REACTION.emoji)
CONVERSATION_RESOURCE: Final = ConversationResource.of(CONVERSATION, {ACCOUNT_ID}, at=_AT)


def message_resource(change: MessageChange | None = None) -> MessageResource:
    """The message, after a change."""
    message = MESSAGE if change is None else MESSAGE.apply(change)
    return MessageResource.of(StoredMessage(345, _AT, _AT, message), CONVERSATION)


MESSAGE_RESOURCE: Final = message_resource()
