"""What the event log is told about accounts."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from inboxd.domain.account import Account, AccountState, LoginType
from inboxd.domain.event import EventType, NewEvent
from inboxd.http.resource import Resource
from inboxd.runtime.clock import iso_utc

_MESSAGES: Final = "messages"


class Change(StrEnum):
    """What happened to an account."""

    ADDED = "added"
    REMOVED = "removed"
    """It is no longer served. Its conversations stay."""
    NEEDS_LOGIN = "needs_login"
    LACKS_PERMISSION = "lacks_permission"
    DEAUTHORIZED = "deauthorized"
    """Its owner removed the app, or asked for deletion: no calls are made until somebody logs in again."""
    WORKS_AGAIN = "works_again"
    TOKEN_REFRESHED = "token_refreshed"  # noqa: S105 - no secret
    SUBSCRIPTION_LOST = "subscription_lost"
    SUBSCRIPTION_RESTORED = "subscription_restored"
    SETTINGS_CHANGED = "settings_changed"
    """`humanAgent` or `comments` was switched."""
    HUMAN_AGENT_REFUSED = "human_agent_refused"
    """Meta refused a message because the account has no Human Agent feature."""


_OF_STATE: Final = {
    AccountState.ACTIVE: Change.WORKS_AGAIN,
    AccountState.NEEDS_LOGIN: Change.NEEDS_LOGIN,
    AccountState.LACKS_PERMISSION: Change.LACKS_PERMISSION,
    AccountState.DEAUTHORIZED: Change.DEAUTHORIZED,
}


class AccountEventData(Resource, frozen=True, kw_only=True):
    """An account after the change. In a log of ids only, `username` and `reason` are null."""

    account_id: str
    change: Change
    login_type: LoginType
    state: AccountState
    reason: str | None
    """Why the state is not `active`."""
    username: str | None
    token_expires_at: str | None
    subscription_seen_at: str | None
    """When the account was last seen subscribed to `messages`. What was sent since a loss may be missing."""
    human_agent: bool = False
    """Whether a human may answer for seven days after the participant wrote."""
    comments: bool = False
    """Whether comments and mentions are wanted."""


UPDATED: Final = EventType(
    name="account.updated",
    summary="An account was added, removed, stopped or works again; or its token, subscription or settings changed.",
    data=AccountEventData,
    example=AccountEventData(
        account_id="17841400000000001",
        change=Change.NEEDS_LOGIN,
        login_type=LoginType.INSTAGRAM,
        state=AccountState.NEEDS_LOGIN,
        reason="Error validating access token: the session has been invalidated",
        username="shop",
        token_expires_at="2026-02-28T00:00:00.000Z",  # noqa: S106 - no secret
        subscription_seen_at="2026-01-01T00:00:00.000Z",
    ),
)
EVENT_TYPES: Final = (UPDATED,)


def changes_between(before: Account | None, after: Account, *, refreshed: bool) -> list[Change]:
    """What happened to an account between two of its states. `refreshed`: its token was refreshed."""
    found: list[Change] = []
    if before is None:
        found.append(Change.ADDED)
    else:
        if before.state is not after.state:
            found.append(_OF_STATE[after.state])
        if (before.human_agent, before.wants_comments) != (after.human_agent, after.wants_comments):
            found.append(Change.SETTINGS_CHANGED)
        if after.human_agent_refused_at is not None and before.human_agent_refused_at is None:
            found.append(Change.HUMAN_AGENT_REFUSED)
    if refreshed:
        found.append(Change.TOKEN_REFRESHED)
    had, has = (None if one is None else one.subscribed_fields for one in (before, after))
    if had is not None and has is not None and (_MESSAGES in had) is not (_MESSAGES in has):
        found.append(Change.SUBSCRIPTION_RESTORED if _MESSAGES in has else Change.SUBSCRIPTION_LOST)
    return found


def events_of(account: Account, changes: Sequence[Change], now: int, *, ids_only: bool) -> list[NewEvent]:
    """An event for each change. `account` is as it is after them; `now` in ms."""
    return [NewEvent(UPDATED.name, account.id, now, _data(account, change, ids_only=ids_only)) for change in changes]


def _data(account: Account, change: Change, *, ids_only: bool) -> bytes:
    return msgspec.json.encode(
        AccountEventData(
            account_id=account.id,
            change=change,
            login_type=account.login_type,
            state=account.state,
            reason=None if ids_only else account.reason,
            username=None if ids_only else account.username,
            token_expires_at=_iso(account.token_expires_at),
            subscription_seen_at=_iso(account.subscription_checked_at),
            human_agent=account.human_agent,
            comments=account.wants_comments,
        )
    )


def _iso(at: int | None) -> str | None:
    return None if at is None else iso_utc(at)
