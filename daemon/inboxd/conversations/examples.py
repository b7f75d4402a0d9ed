"""Examples of conversations and messages, for the documents of the API and of events."""

from typing import Final

from inboxd.conversations.resources import ConversationResource, MessageResource
from inboxd.conversations.store import StoredMessage
from inboxd.domain.conversation import Conversation, ConversationKey, ConversationStatus
from inboxd.domain.message import Content, Direction, Message, Reaction
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
CONVERSATION_RESOURCE: Final = ConversationResource.of(CONVERSATION, {ACCOUNT_ID})
MESSAGE_RESOURCE: Final = MessageResource.of(StoredMessage(345, _AT, _AT, MESSAGE), CONVERSATION)
