"""The types of events of conversations and messages."""

from collections.abc import Collection
from typing import Any, Final

from inboxd.conversations import event_recording as recording
from inboxd.conversations.event_data import (
    ConversationEventData,
    EventParticipant,
    MessageEventData,
    ReactionEventData,
    ReadEventData,
    reaction_resource,
    renderer,
)
from inboxd.conversations.examples import (
    CONVERSATION,
    CONVERSATION_RESOURCE,
    DELETED,
    EDITED,
    MESSAGE,
    MESSAGE_RESOURCE,
    REACTED,
    REACTION,
    message_resource,
)
from inboxd.domain.event import EventType
from inboxd.domain.message_facts import Fact

_CONVERSATION: Final[dict[str, Any]] = {
    "conversation_id": str(CONVERSATION.id),
    "participant_platform_id": CONVERSATION.key.participant_id,
    "conversation": CONVERSATION_RESOURCE,
    "participant": EventParticipant.of(CONVERSATION),
}
_MESSAGE: Final[dict[str, Any]] = _CONVERSATION | {
    "message_id": MESSAGE_RESOURCE.id,
    "platform_message_id": MESSAGE.mid,
    "message": MESSAGE_RESOURCE,
}
_IN_CONVERSATION: Final = ConversationEventData(**_CONVERSATION)
_OF_MESSAGE: Final = MessageEventData(**_MESSAGE)
_OF_REACTION: Final = ReactionEventData(
    **_MESSAGE | {"message": message_resource(REACTED)}, reaction=reaction_resource(REACTION)
)
_GONE: Final = ConversationEventData(
    conversation_id=str(CONVERSATION.id), participant_platform_id=CONVERSATION.key.participant_id
)
_TYPES: Final[tuple[tuple[str, str, ConversationEventData], ...]] = (
    (Fact.RECEIVED, "A participant sent a message.", _OF_MESSAGE),
    (Fact.SENT, "The account sent a message, through inboxd, the app or another system.", _OF_MESSAGE),
    (
        Fact.EDITED,
        "The sender changed the text of a message.",
        MessageEventData(**_MESSAGE | {"message": message_resource(EDITED)}),
    ),
    (
        Fact.DELETED,
        "The sender took a message back. Earlier events of the message lose their text too.",
        MessageEventData(**_MESSAGE | {"message": message_resource(DELETED)}),
    ),
    (Fact.UPDATED, "A more complete copy of a message arrived.", _OF_MESSAGE),
    (Fact.REACTION_ADDED, "Somebody reacted to a message, or changed their reaction.", _OF_REACTION),
    (
        Fact.REACTION_REMOVED,
        "Somebody took a reaction back.",
        ReactionEventData(**_MESSAGE, reaction=reaction_resource(REACTION)),
    ),
    (
        Fact.READ,
        "The participant or the account read a message, and with it all messages before it.",
        ReadEventData(**_MESSAGE, read_by="account"),
    ),
    (Fact.POSTBACK, "A participant tapped an ice breaker, a menu item or a button.", _OF_MESSAGE),
    (recording.CREATED, "A conversation began, or was imported.", _IN_CONVERSATION),
    (
        recording.UPDATED,
        "The status, the metadata or the read mark of a conversation was changed over the API.",
        _IN_CONVERSATION,
    ),
    (recording.DELETED, "A conversation was deleted with its messages.", _GONE),
)


def event_types(accounts: Collection[str]) -> tuple[EventType, ...]:
    """The types. `accounts` are the ids of the served accounts."""
    return tuple(
        EventType(
            name=name, summary=summary, data=type(example), example=example, render=renderer(type(example), accounts)
        )
        for name, summary, example in _TYPES
    )
