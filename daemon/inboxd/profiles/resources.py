"""Participants, as the API shows them."""

from typing import Self

from inboxd.domain.profile import ProfileState
from inboxd.domain.waiting import Waiting, WaitingFor
from inboxd.http.resource import EXAMPLE_ACCOUNT, EXAMPLE_AVATAR, EXAMPLE_PARTICIPANT, Resource, avatar_path, iso
from inboxd.profiles.store import Participant
from inboxd.runtime.clock import iso_utc


class FormerUsernameResource(Resource, frozen=True):
    """A username that a participant no longer has."""

    username: str
    until: str


class ParticipantResource(Resource, frozen=True):
    """A participant: what the User Profile API says, and how that knowledge stands."""

    client_account_id: str
    participant_platform_id: str
    profile_state: str
    username: str | None
    name: str | None
    profile_pic: str | None
    avatar: str | None
    follower_count: int | None
    is_verified_user: bool | None
    is_user_follow_business: bool | None
    is_business_follow_user: bool | None
    previous_usernames: list[FormerUsernameResource]
    reason: str | None
    waiting_for: WaitingFor | None
    waiting_until: str | None
    attempts: int
    next_attempt_at: str | None
    fetched_at: str | None
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, participant: Participant, waiting: Waiting | None) -> Self:
        """The resource of a participant, and what the profile is `waiting` for."""
        profile = participant.profile
        return cls(
            client_account_id=participant.key.account_id,
            participant_platform_id=participant.key.participant_id,
            profile_state=participant.state.value,
            username=profile.username if profile else None,
            name=profile.name if profile else None,
            profile_pic=profile.profile_pic if profile else None,
            avatar=avatar_path(participant.avatar),
            follower_count=profile.follower_count if profile else None,
            is_verified_user=profile.is_verified_user if profile else None,
            is_user_follow_business=profile.is_user_follow_business if profile else None,
            is_business_follow_user=profile.is_business_follow_user if profile else None,
            previous_usernames=[
                FormerUsernameResource(username=former.username, until=iso_utc(former.until))
                for former in participant.previous_usernames
            ],
            reason=waiting.text if waiting and participant.state is ProfileState.PENDING else participant.reason,
            waiting_for=waiting.what if waiting else None,
            waiting_until=iso(waiting.until) if waiting else None,
            attempts=participant.attempts,
            next_attempt_at=iso(participant.next_attempt_at),
            fetched_at=iso(participant.fetched_at or None),
            created_at=iso_utc(participant.created_at),
            updated_at=iso_utc(participant.updated_at),
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            client_account_id=EXAMPLE_ACCOUNT,
            participant_platform_id=EXAMPLE_PARTICIPANT,
            profile_state="complete",
            username="ana_x",
            name="Ana X",
            profile_pic="https://scontent.cdninstagram.com/v/t51/ana.jpg",
            avatar=EXAMPLE_AVATAR,
            follower_count=312,
            is_verified_user=False,
            is_user_follow_business=True,
            is_business_follow_user=False,
            previous_usernames=[FormerUsernameResource(username="ana.b", until="2026-08-02T09:30:00.000Z")],
            reason=None,
            waiting_for=None,
            waiting_until=None,
            attempts=0,
            next_attempt_at=None,
            fetched_at="2026-09-21T14:13:28.001Z",
            created_at="2026-07-01T08:00:00.000Z",
            updated_at="2026-09-21T14:13:28.001Z",
        )


class ParticipantList(Resource, frozen=True):
    """A page of participants."""

    participants: list[ParticipantResource]
    total: int
    limit: int
    offset: int

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            participants=[ParticipantResource.example()],
            total=1,
            limit=50,
            offset=0,
        )
