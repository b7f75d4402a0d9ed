"""The table of Graph API errors: what each one means and what to do about it.

Sources: Graph API "Handle errors"; Instagram Platform and Messenger Platform "Error codes"; "Rate limits". A row
with a subcode takes precedence over the row of its code. Meta's HTTP statuses and texts decide nothing: most errors
have the status 400, and texts are localised.
"""

from typing import Final, NamedTuple

from inboxd.domain.retry import FailureAction
from inboxd.meta.throttle import FIRST_STOP_S
from inboxd.runtime.errors import EX_UNAVAILABLE, InboxdError


class Row(NamedTuple):
    """What a code (and subcode) means."""

    action: FailureAction
    meaning: str
    app_wide: bool = False
    """A limit of the app: it stops the calls of all accounts."""
    ambiguous: bool = False
    """About one person. But the same error about many people means a problem of the account or the platform."""
    first_stop_s: float = FIRST_STOP_S
    """Length of the first stop (s) when Meta does not say how long. Each further stop is twice as long."""


TABLE: Final[dict[tuple[int, int | None], Row]] = {
    (1, None): Row(FailureAction.RETRY_LATER, "unknown error inside Meta"),
    (2, None): Row(FailureAction.RETRY_LATER, "service temporarily down"),
    (4, None): Row(FailureAction.WAIT_FOR_BUDGET, "the app's request limit is reached", app_wide=True),
    (10, None): Row(FailureAction.LACKS_PERMISSION, "permission not granted or removed"),
    (10, 2534077): Row(
        FailureAction.LACKS_PERMISSION, "the link between Instagram account and Page, or two-factor login"
    ),
    (17, None): Row(FailureAction.WAIT_FOR_BUDGET, "the user's request limit is reached"),
    (32, None): Row(FailureAction.WAIT_FOR_BUDGET, "the Page's request limit is reached"),
    (100, None): Row(
        FailureAction.RETRY_LATER, "bad parameter, a field that cannot be read, or no matching user", ambiguous=True
    ),
    (100, 33): Row(
        FailureAction.RETRY_LATER,
        "object or permission missing; also seen for valid ids during an outage",
        ambiguous=True,
    ),
    (100, 2018218): Row(FailureAction.GONE, "no profile for this person"),
    (100, 2018247): Row(FailureAction.LACKS_PERMISSION, "permission for a field is missing"),
    (100, 2534014): Row(FailureAction.GONE, "no matching Instagram user, or an id of the wrong kind"),
    (102, None): Row(FailureAction.NEEDS_LOGIN, "session invalid"),
    (190, None): Row(FailureAction.NEEDS_LOGIN, "access token invalid"),
    (190, 458): Row(FailureAction.NEEDS_LOGIN, "the person removed the app"),
    (190, 459): Row(FailureAction.NEEDS_LOGIN, "the person must log in at Meta to pass a checkpoint"),
    (190, 460): Row(FailureAction.NEEDS_LOGIN, "the password was changed"),
    (190, 463): Row(FailureAction.NEEDS_LOGIN, "the token expired"),
    (190, 464): Row(FailureAction.NEEDS_LOGIN, "the user is not confirmed"),
    (190, 467): Row(FailureAction.NEEDS_LOGIN, "the token was invalidated"),
    (190, 492): Row(FailureAction.NEEDS_LOGIN, "the user lost the role on the Page"),
    (200, 2534041): Row(FailureAction.LACKS_PERMISSION, "the owner switched off message access for connected tools"),
    (230, None): Row(FailureAction.WAIT_FOR_PERSON, "the person has not given consent: they must write first"),
    (341, None): Row(FailureAction.WAIT_FOR_BUDGET, "the app's limit is reached", app_wide=True),
    (368, None): Row(FailureAction.WAIT_FOR_BUDGET, "temporarily blocked for policy reasons", first_stop_s=3600.0),
    (613, None): Row(FailureAction.WAIT_FOR_BUDGET, "a custom rate limit is reached"),
    (613, 1996): Row(FailureAction.WAIT_FOR_BUDGET, "abnormal change of call volume", first_stop_s=1800.0),
    (613, 2534040): Row(FailureAction.WAIT_FOR_BUDGET, "the messaging call rate is exceeded"),
    (803, None): Row(FailureAction.GONE, "the id does not exist"),
    (9010, None): Row(FailureAction.GONE, "no matching Instagram user"),
    (9000001, None): Row(
        FailureAction.GONE, "the message was deleted, or is older than the newest ones whose details Meta shows"
    ),
    (36103, None): Row(FailureAction.LACKS_PERMISSION, "the account is not eligible"),
    (80001, None): Row(FailureAction.WAIT_FOR_BUDGET, "business use case limit: Page"),
    (80002, None): Row(FailureAction.WAIT_FOR_BUDGET, "business use case limit: Instagram"),
    (80006, None): Row(FailureAction.WAIT_FOR_BUDGET, "business use case limit: Messenger"),
}

_PERMISSIONS: Final = Row(FailureAction.LACKS_PERMISSION, "permission not granted or removed")
_UNKNOWN: Final = Row(FailureAction.UNKNOWN, "a code that is not in our table")


class GraphError(InboxdError):
    """A classified failure of a Graph API call. It contains no token and no URL.

    `code` and `subcode` are None when the answer was not Meta's error envelope: network errors, HTML, redirects.
    `row` is their row in the table.
    """

    exit_code = EX_UNAVAILABLE

    def __init__(
        self,
        message: str,
        action: FailureAction,
        *,
        code: int | None = None,
        subcode: int | None = None,
        row: Row | None = None,
        of_host: bool = False,
        too_large: bool = False,
        unsent: bool = False,
    ) -> None:
        super().__init__(message)
        self.action = action
        self.code = code
        self.subcode = subcode
        self.row = row or Row(action, message)
        self.of_host = of_host
        """Meta's host did not answer, or not in Meta's format. This says nothing about the request itself."""
        self.too_large = too_large
        """Too much was requested at once. The same request fails again; a smaller one may succeed."""
        self.unsent = unsent
        """The request has certainly not reached Meta, or Meta refused to look at it."""


def row(code: int, subcode: int | None) -> Row:
    """The row for `code` and `subcode`. Unlisted codes from 200 to 299 are permissions, all others are unknown."""
    found = TABLE.get((code, subcode)) or TABLE.get((code, None))
    if found is not None:
        return found
    return _PERMISSIONS if 200 <= code <= 299 else _UNKNOWN


def classified(code: int, subcode: int | None, *, too_large: bool = False) -> GraphError:
    """The error for Meta's envelope with `code` and `subcode`. Its text is ours, as Meta's may quote any data."""
    found = row(code, subcode)
    name = f"{code}/{subcode}" if subcode else f"{code}"
    meaning = "too much data was requested at once" if too_large else found.meaning
    return GraphError(
        f"Graph error {name}: {meaning}", found.action, code=code, subcode=subcode, row=found, too_large=too_large
    )


def transport(reason: str, *, unsent: bool = False) -> GraphError:
    """The error when Meta did not answer: network, TLS or DNS errors, HTML, redirects."""
    return GraphError(reason, FailureAction.RETRY_LATER, of_host=True, unsent=unsent)


def unusable(reason: str) -> GraphError:
    """The error for an answer from Meta without the requested data. The text is ours."""
    return GraphError(f"unusable answer: {reason}", FailureAction.RETRY_LATER)
