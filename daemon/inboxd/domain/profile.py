"""Profiles of participants: their state, their fields, and whether they are fresh."""

from enum import StrEnum

import msgspec


class ProfileState(StrEnum):
    """The state of a participant's profile."""

    PENDING = "pending"
    """A fetch is due or under way."""
    COMPLETE = "complete"
    """Fetched. The profile of a person without a picture or a name is complete too."""
    NO_CONSENT = "no_consent"
    """Not readable until the person writes (User Profile API, consent)."""
    UNAVAILABLE = "unavailable"
    """There is no profile to fetch: the participant is gone, has blocked the account, or is not a person."""
    FAILED = "failed"
    """The attempts are used up for now. The reason and the time of the next attempt are recorded."""


class Profile(msgspec.Struct, frozen=True, gc=False):
    """What the User Profile API says about a participant. `name` and `profile_pic` may be absent."""

    username: str
    name: str | None = None
    profile_pic: str | None = None
    follower_count: int | None = None
    is_verified_user: bool | None = None
    is_user_follow_business: bool | None = None
    is_business_follow_user: bool | None = None


class InvalidProfileError(ValueError):
    """A profile that must not be stored. The message says why."""


def validated_username(username: str | None) -> str:
    """The username without surrounding blanks.

    Raises InvalidProfileError when nothing is left: a blank username must not overwrite a good one.
    """
    stripped = (username or "").strip()
    if not stripped:
        msg = "a participant's username must not be blank"
        raise InvalidProfileError(msg)
    return stripped


def is_fresh(fetched_at: int, now: int, ttl_ms: int) -> bool:
    """Whether a profile fetched at `fetched_at` needs no new fetch at `now` (all in ms)."""
    return now - fetched_at < ttl_ms
