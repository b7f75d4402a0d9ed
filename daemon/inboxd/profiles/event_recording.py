"""Records what happened to participants and their profiles in the event log, in the transaction that did it."""

import sqlite3
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, UnsetType

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.event import EventType, NewEvent
from inboxd.domain.profile import Profile
from inboxd.events.log import EventLog
from inboxd.http.resource import Resource
from inboxd.profiles.resources import ParticipantResource
from inboxd.profiles.store import Participant

_EXAMPLE: Final = ParticipantResource.example()


class ParticipantEventData(Resource, frozen=True, kw_only=True):
    """A participant. In a log of ids only, all but the id is absent."""

    participant_platform_id: str
    participant: ParticipantResource | UnsetType = UNSET
    previous_username: str | UnsetType = UNSET
    """The username before, when it changed."""


class ProfileFailedData(ParticipantEventData, frozen=True, kw_only=True):
    """A participant whose profile could not be fetched."""

    profile_state: str


_ID: Final = _EXAMPLE.participant_platform_id
COMPLETED: Final = EventType(
    name="profile.completed",
    summary="The profile of a participant was fetched for the first time: now they have a name.",
    data=ParticipantEventData,
    example=ParticipantEventData(participant_platform_id=_ID, participant=_EXAMPLE),
)
UPDATED: Final = EventType(
    name="participant.updated",
    summary="A profile that was known was fetched again, and name, picture or who follows whom had changed.",
    data=ParticipantEventData,
    example=ParticipantEventData(
        participant_platform_id=_ID, participant=_EXAMPLE, previous_username=_EXAMPLE.previous_usernames[0].username
    ),
)
FAILED: Final = EventType(
    name="profile.failed",
    summary="The profile of a participant cannot be fetched, or not for now; `profileState` and `reason` say why.",
    data=ProfileFailedData,
    example=ProfileFailedData(
        participant_platform_id=_ID,
        participant=msgspec.structs.replace(_EXAMPLE, profile_state="no_consent", username=None, name=None),
        profile_state="no_consent",
    ),
)
EVENT_TYPES: Final = (COMPLETED, UPDATED, FAILED)


def record_fetched(
    connection: sqlite3.Connection, log: EventLog, before: Participant | None, after: Participant, now: int
) -> None:
    """Record that a profile was fetched, if that told something new. `now` in ms."""
    if before is None or not before.fetched_at or before.profile is None:
        _record(connection, log, COMPLETED, after, now)
    elif after.profile is not None and _told(before.profile) != _told(after.profile):
        renamed = before.profile.username != after.profile.username
        _record(connection, log, UPDATED, after, now, before.profile.username if renamed else None)


def record_failed(
    connection: sqlite3.Connection, log: EventLog, before: Participant | None, after: Participant, now: int
) -> None:
    """Record that a profile could not be fetched, if the state of the participant changed by that. `now` in ms."""
    if before is None or before.state is not after.state:
        _record(connection, log, FAILED, after, now)


def _record(
    connection: sqlite3.Connection,
    log: EventLog,
    kind: EventType,
    participant: Participant,
    now: int,
    previous_username: str | None = None,
) -> None:
    key: ConversationKey = participant.key
    state = {"profile_state": participant.state.value} if kind is FAILED else {}
    data = kind.data(
        participant_platform_id=key.participant_id,
        participant=UNSET if log.ids_only else ParticipantResource.of(participant, None),
        previous_username=UNSET if log.ids_only or previous_username is None else previous_username,
        **state,
    )
    log.append(connection, [NewEvent(kind.name, key.account_id, now, msgspec.json.encode(data), key.participant_id)])


def _told(profile: Profile) -> tuple[object, ...]:
    """What an update tells others about. The rest of a picture's address changes with every fetch, followers daily."""
    picture = None if profile.profile_pic is None else urlsplit(profile.profile_pic).path
    flags = (profile.is_verified_user, profile.is_user_follow_business, profile.is_business_follow_user)
    return profile.username, profile.name, picture, *flags
