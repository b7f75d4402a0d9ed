"""How pages show a participant, with or without a known name."""

from typing import Final, NamedTuple

from inboxd.domain.conversation import Conversation
from inboxd.domain.profile import ProfileState
from inboxd.domain.waiting import Waiting

UNKNOWN: Final = "Unknown participant"
SELF: Final = "Notes to self"
_REASONS: Final = {
    None: "No profile has been asked for yet.",
    ProfileState.PENDING: "The profile is being fetched.",
    ProfileState.NO_CONSENT: "Instagram tells who it is once the person has written.",
    ProfileState.UNAVAILABLE: "Instagram has no profile of this person: the account is gone, or blocks yours.",
    ProfileState.FAILED: "The profile could not be fetched; it is tried again.",
    ProfileState.COMPLETE: "",
}


class DisplayedParticipant(NamedTuple):
    """A participant as pages show them."""

    name: str
    username: str | None
    avatar: str | None
    initial: str
    known: bool
    reason: str
    """Why the name is not known, in words. Empty when it is known."""


def displayed(conversation: Conversation, waiting: Waiting | None = None) -> DisplayedParticipant:
    """The participant of a conversation; `waiting` is what their profile waits for, if that is known."""
    if conversation.key.account_id == conversation.key.participant_id:
        return DisplayedParticipant(SELF, None, None, "✎", known=False, reason="What the account wrote to itself.")
    username = conversation.participant_username
    avatar = conversation.participant_avatar
    if username is None:
        reason = _sentence(waiting.text) if waiting is not None else _REASONS[conversation.profile_state]
        return DisplayedParticipant(UNKNOWN, None, None, "?", known=False, reason=reason)
    name = conversation.participant_name or username
    initial = next((letter.upper() for letter in name if letter.isalnum()), "?")
    return DisplayedParticipant(
        name, username, f"/avatars/{avatar}" if avatar else None, initial, known=True, reason=""
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
