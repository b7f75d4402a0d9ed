"""A conversation: all messages between one account and one participant."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from inboxd.domain.profile import ProfileState, validated_username


class ConversationKey(NamedTuple):
    """The natural key of a conversation. Both ids are Meta's, as text."""

    account_id: str
    participant_id: str

    @property
    def platform_id(self) -> str:
        """`platformConversationId`: `{accountId}_{participantId}`."""
        return f"{self.account_id}_{self.participant_id}"


class ConversationStatus(StrEnum):
    """The status that the people who answer give to a conversation."""

    OPEN = "open"
    CLOSED = "closed"
    ARCHIVED = "archived"


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation with the profile of its participant. Times in ms since the epoch, UTC."""

    id: int
    key: ConversationKey
    participant_username: str | None
    participant_name: str | None
    participant_profile_pic: str | None
    last_message_at: int | None
    answered_at: int | None
    read_at: int | None
    seen_at: int | None
    unread_count: int
    status: ConversationStatus
    metadata: dict[str, object]
    created_at: int
    updated_at: int
    participant_avatar: str | None = None
    """The hash that names our own copy of the profile picture."""
    profile_state: ProfileState | None = None
    profile_reason: str | None = None
    """Why the profile is not complete."""
    profile_next_attempt_at: int | None = None
    """When the profile is fetched next."""
    customer_wrote_at: int | None = None
    """The latest thing that opened the reply window."""
    ad_clicked_at: int | None = None
    """The latest message that came from an ad."""
    window_refused_at: int | None = None
    """When Meta last said that the window is closed, of a message without a tag."""
    tag_refused_at: int | None = None
    """The same of a message with the tag HUMAN_AGENT."""
    automation_paused_until: int | None = None
    """A human of the account wrote elsewhere: until when bots should be silent."""
    human_agent: bool = False
    """Whether the account has the Human Agent feature, by its settings."""
    human_agent_refused_at: int | None = None
    """When Meta last said that it has not."""

    def update_participant_profile(
        self, username: str, profile_pic: str | None, *, name: str | None = None, at: int
    ) -> "Conversation":
        """The conversation with a new profile. The picture may be missing; the username must not be.

        `updated_at` grows, even when `at` (ms) is not later than the last update.
        Raises InvalidProfileError when the username is blank.
        """
        return msgspec.structs.replace(
            self,
            participant_username=validated_username(username),
            participant_profile_pic=profile_pic or None,
            participant_name=name or None,
            updated_at=max(at, self.updated_at + 1),
        )

    @property
    def answered(self) -> bool:
        """Whether the account sent the latest message."""
        return self.answered_at is not None and self.answered_at >= (self.last_message_at or 0)

    def is_read(self, *, inbound: bool, sent_at: int) -> bool:
        """Whether the receiver of a message that was sent at `sent_at` (ms) has read it.

        The account has read what it has seen or answered. The participant has read what they have seen.
        """
        marks = (self.answered_at, self.read_at) if inbound else (self.seen_at,)
        return any(mark is not None and sent_at <= mark for mark in marks)
