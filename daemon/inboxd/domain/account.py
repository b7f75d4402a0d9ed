"""An account that is served: its identity, whether calls may be made for it, and the lifetime of its token."""

from enum import StrEnum
from typing import Final

import msgspec

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

REFRESH_MIN_AGE_MS: Final = DAY_MS
"""A younger token cannot be refreshed (Instagram Login, "Refresh access token")."""
REFRESH_AHEAD_MS: Final = 30 * DAY_MS
"""A token is refreshed when less than this is left of its 60 days."""
REFRESH_RETRY_MS: Final = DAY_MS
"""After a failed refresh, the next one is tried after this time."""
EXPIRY_WARNING_MS: Final = 7 * DAY_MS


class LoginType(StrEnum):
    """Which of Meta's two products an account uses."""

    INSTAGRAM = "instagram"
    """Instagram API with Instagram Login: graph.instagram.com, a user token of 60 days."""
    FACEBOOK = "facebook"
    """Instagram Messaging with Facebook Login: graph.facebook.com, a Page token."""


class AccountState(StrEnum):
    """Whether the Graph API may be called for an account."""

    ACTIVE = "active"
    NEEDS_LOGIN = "needs_login"
    """There is no valid token: a human must log in again. No calls are made."""
    LACKS_PERMISSION = "lacks_permission"
    """A permission must be granted, or a setting switched on. Checked again every hour."""
    DEAUTHORIZED = "deauthorized"
    """The owner removed the app ("Deauthorize callback"). No calls are made."""


class AccountChange(StrEnum):
    """Why the state of an account may change."""

    TOKEN_GIVEN = "token_given"  # noqa: S105 - no secret
    """A human gave a token."""
    TOKEN_ACCEPTED = "token_accepted"  # noqa: S105
    """A check asked Meta to whom the current token belongs, and Meta named this account."""
    CALL_ANSWERED = "call_answered"
    """Meta answered a call of a kind that it can refuse."""
    TOKEN_REFUSED = "token_refused"  # noqa: S105
    """Meta says that the token is invalid, or the token has expired."""
    PERMISSION_REFUSED = "permission_refused"
    """Meta says that a permission must be granted, or a setting switched on."""
    TOKEN_MISSING = "token_missing"  # noqa: S105
    """There is no token, or none that can be decrypted."""
    APP_REMOVED = "app_removed"
    """The owner removed the app, or asked for deletion."""


_FOLLOWING: Final[dict[AccountChange, dict[AccountState, AccountState]]] = {
    AccountChange.TOKEN_GIVEN: dict.fromkeys(AccountState, AccountState.ACTIVE),
    AccountChange.APP_REMOVED: dict.fromkeys(AccountState, AccountState.DEAUTHORIZED),
    AccountChange.TOKEN_ACCEPTED: dict.fromkeys(
        (AccountState.ACTIVE, AccountState.NEEDS_LOGIN, AccountState.LACKS_PERMISSION), AccountState.ACTIVE
    ),
    AccountChange.CALL_ANSWERED: dict.fromkeys(
        (AccountState.ACTIVE, AccountState.LACKS_PERMISSION), AccountState.ACTIVE
    ),
    AccountChange.TOKEN_REFUSED: dict.fromkeys(
        (AccountState.ACTIVE, AccountState.NEEDS_LOGIN, AccountState.LACKS_PERMISSION), AccountState.NEEDS_LOGIN
    ),
    AccountChange.PERMISSION_REFUSED: dict.fromkeys(
        (AccountState.ACTIVE, AccountState.LACKS_PERMISSION), AccountState.LACKS_PERMISSION
    ),
    AccountChange.TOKEN_MISSING: dict.fromkeys(
        (AccountState.ACTIVE, AccountState.LACKS_PERMISSION), AccountState.NEEDS_LOGIN
    ),
}


def following(state: AccountState, cause: AccountChange) -> AccountState | None:
    """The state that follows `state` because of `cause`. None when `cause` changes nothing.

    Meta's answers may come late. So an answer about a token is ignored after the app was removed, and a call that
    worked does not make a refused token valid. An account leaves DEAUTHORIZED only when a human gives a new token.
    """
    return _FOLLOWING[cause].get(state)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An Instagram professional account, without its token. Times are milliseconds since the epoch, UTC."""

    id: str
    """`user_id` of GET /me. Webhooks carry this id."""
    login_type: LoginType
    state: AccountState
    created_at: int
    updated_at: int
    name: str = ""
    username: str | None = None
    app_scoped_id: str | None = None
    """`id` of GET /me under Instagram Login. `signed_request` carries this id."""
    page_id: str | None = None
    """The linked Page, under Facebook Login."""
    configured: bool = False
    """Whether it is in the configuration file, and so cannot be removed here."""
    reason: str | None = None
    """Why the state is not active."""
    token_obtained_at: int | None = None
    token_expires_at: int | None = None
    refresh_tried_at: int | None = None
    subscribed_fields: tuple[str, ...] | None = None
    """The webhook fields to which it was subscribed at the last check. None before the first check."""
    subscription_checked_at: int | None = None
    human_agent: bool = False
    """Whether Meta approved the Human Agent feature: a human may answer for seven days, not one."""
    human_agent_refused_at: int | None = None
    """When Meta last refused a message because the feature is missing. None since it was last switched on."""
    wants_comments: bool = False
    """Whether to subscribe to comments, live comments and mentions too."""
    refused_fields: dict[str, str] = {}
    """The webhook fields that are wanted and that Meta refused, each with the reason."""
    refused_fields_at: int | None = None
    """When they were last asked for."""

    @property
    def callable(self) -> bool:
        """Whether calls may be made for it."""
        return self.state in {AccountState.ACTIVE, AccountState.LACKS_PERMISSION}

    @property
    def aliases(self) -> tuple[str, ...]:
        """All ids by which webhooks may name it. Some of Meta's samples use the id of the Page."""
        return (self.id,) if self.page_id is None else (self.id, self.page_id)

    @property
    def display_name(self) -> str:
        """The name to show: its username if known, else the name that it was given, else its id."""
        return self.username or self.name or self.id

    def refresh_due_at(self) -> int | None:
        """When its token should be refreshed next (ms). None when it needs no refresh.

        A token whose expiry is unknown is refreshed as soon as Meta allows. The answer tells its expiry.
        """
        if self.login_type is not LoginType.INSTAGRAM or not self.callable or self.token_obtained_at is None:
            return None
        due_at = self.token_obtained_at + REFRESH_MIN_AGE_MS
        if self.token_expires_at is not None:
            due_at = max(due_at, self.token_expires_at - REFRESH_AHEAD_MS)
        if self.refresh_tried_at is not None:
            due_at = max(due_at, self.refresh_tried_at + REFRESH_RETRY_MS)
        return due_at

    def expires_soon(self, now: int) -> bool:
        """Whether its token expires within EXPIRY_WARNING_MS of `now` (ms), or has expired."""
        return self.callable and self.token_expires_at is not None and self.token_expires_at - now < EXPIRY_WARNING_MS

    def expired(self, now: int) -> bool:
        """Whether its token has expired at `now` (ms). Then it cannot be refreshed any more."""
        return self.token_expires_at is not None and now >= self.token_expires_at
