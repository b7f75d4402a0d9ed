"""The table of errors of the Send API: what each one means for the message, and what to do about it.

Sources: Instagram and Messenger Platform "Error codes", "Send messages" and "Private replies". A row with a subcode
takes precedence over the row of its code. `graph_errors.TABLE` has the same codes where they mean something else: there
a call is read again, here a second call may send a message twice. HTTP statuses and Meta's texts decide nothing.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from inboxd.domain.outbound import ReasonCode
from inboxd.domain.retry import FailureAction
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.graph_errors import Row as GraphRow


class SendFailure(StrEnum):
    """What follows from an error that Meta answered to a send."""

    REFUSED = "refused"
    """It was not sent, and the same message will not be sent by trying again."""
    CLOSED = "closed"
    """The same; and nothing can be sent to this participant until they write."""
    NO_TAG = "no_tag"
    """The same; of a message with the tag HUMAN_AGENT it means that the account does not have the feature."""
    MEDIA = "media"
    """Meta could not fetch a file. It was not sent. One more attempt is worth it."""
    THROTTLED = "throttled"
    """It was not sent. It waits until calls may go on."""
    STOPPED = "stopped"
    """It was not sent, and nothing else of the account will be until a person has done something: it waits."""
    RESTRICTED = "restricted"
    """It was not sent, and Meta restricts the account for hours: it waits."""
    TOKEN = "token"  # noqa: S105 - no secret
    """It was not sent. It waits until the account has a valid token."""
    UNCLEAR = "unclear"
    """It may have been sent. If it is proved that it was not, it is sent again."""
    UNCLEAR_ONCE = "unclear_once"
    """It may have been sent. If it is proved that it was not, it has failed."""


class SendRow(NamedTuple):
    """What a code (and subcode) means."""

    failure: SendFailure
    reason_code: ReasonCode
    words: str
    """What it means, for people; the start of a sentence."""
    app_wide: bool = False
    """A limit of the app: it stops the calls of all accounts."""
    first_stop_s: float = 60.0
    """Length of the first stop (s) when Meta does not say how long."""


_HOUR_S: Final = 3600.0
_THROTTLED: Final = SendRow(SendFailure.THROTTLED, ReasonCode.THROTTLED, "the limit of sends is reached")
_APP_LIMIT: Final = SendRow(
    SendFailure.THROTTLED, ReasonCode.THROTTLED, "the app's request limit is reached", app_wide=True
)
_OPT_IN: Final = SendRow(SendFailure.REFUSED, ReasonCode.REFUSED, "a limit of marketing messages is reached")
_CLOSED: Final = SendRow(SendFailure.CLOSED, ReasonCode.WINDOW_CLOSED, "the reply window is closed")
_BLOCKED: Final = SendRow(
    SendFailure.REFUSED,
    ReasonCode.UNREACHABLE_PERSON,
    "the participant cannot be reached: they blocked the account, switched messages off, or left Instagram",
)
_NO_PERSON: Final = SendRow(
    SendFailure.REFUSED,
    ReasonCode.UNREACHABLE_PERSON,
    "Meta knows no such participant, or another app has the conversation",
)
_RESTRICTED: Final = SendRow(
    SendFailure.RESTRICTED, ReasonCode.ACCOUNT_RESTRICTED, "Meta restricts the account", first_stop_s=_HOUR_S
)
_OWNER: Final = SendRow(
    SendFailure.REFUSED, ReasonCode.NOT_THREAD_OWNER, "another app, or Meta's own inbox, has the conversation"
)
_COMMENT: Final = SendRow(
    SendFailure.REFUSED, ReasonCode.COMMENT_ANSWERED, "the comment has a private reply already, or cannot have one"
)
_FETCH: Final = SendRow(SendFailure.MEDIA, ReasonCode.BAD_MEDIA, "Meta could not fetch the file from its address")
_TOKEN: Final = SendRow(SendFailure.TOKEN, ReasonCode.ACCOUNT_NOT_CALLABLE, "the access token is invalid")
_NO_ACCESS: Final = SendRow(
    SendFailure.STOPPED,
    ReasonCode.NO_PERMISSION,
    "the app may not send for this account: a permission is missing, or it has only a test role",
    first_stop_s=_HOUR_S,
)
_PARAMETER: Final = SendRow(
    SendFailure.REFUSED, ReasonCode.BAD_CONTENT, "Meta does not accept something of the message, or its recipient"
)


def _media(words: str) -> SendRow:
    return SendRow(SendFailure.REFUSED, ReasonCode.BAD_MEDIA, words)


def _content(words: str) -> SendRow:
    return SendRow(SendFailure.REFUSED, ReasonCode.BAD_CONTENT, words)


TABLE: Final[dict[tuple[int, int | None], SendRow]] = {
    (1, None): SendRow(SendFailure.UNCLEAR, ReasonCode.ANSWER_NOT_SEEN, "an unknown error inside Meta"),
    (1, 1357046): SendRow(
        SendFailure.UNCLEAR_ONCE,
        ReasonCode.ANSWER_NOT_SEEN,
        "an error inside Meta after which messages were sent all the same",
    ),
    (2, None): SendRow(
        SendFailure.UNCLEAR, ReasonCode.ANSWER_NOT_SEEN, "a service of Meta's is down, or the participant is blocked"
    ),
    (2, 1545133): SendRow(SendFailure.UNCLEAR, ReasonCode.ANSWER_NOT_SEEN, "a service of Meta's is down for a time"),
    (3, None): SendRow(
        SendFailure.REFUSED, ReasonCode.NO_PERMISSION, "the app lacks the product or the capability to send"
    ),
    (4, None): _APP_LIMIT,
    (4, 2018354): _OPT_IN,
    (9, 2018352): _OPT_IN,
    (10, None): SendRow(
        SendFailure.NO_TAG, ReasonCode.NO_PERMISSION, "a permission, or a feature such as Human Agent, is missing"
    ),
    (10, 1404170): _OPT_IN,
    (10, 1893015): _OPT_IN,
    (10, 1893063): _RESTRICTED,
    (10, 2018065): _CLOSED,
    (10, 2018108): _BLOCKED,
    (10, 2018278): _CLOSED,
    (10, 2534022): _CLOSED,
    (10, 2534077): SendRow(
        SendFailure.STOPPED,
        ReasonCode.NO_PERMISSION,
        "the link between Instagram account and Page, or two-factor login, has to be mended",
        first_stop_s=_HOUR_S,
    ),
    (17, None): _THROTTLED,
    (32, None): _THROTTLED,
    (100, None): _PARAMETER,
    (100, 33): _content("the recipient does not exist, or the app may not see it"),
    (100, 2018001): _NO_PERSON,
    (100, 2018008): _FETCH,
    (100, 2018014): _content("a message and an action in one call"),
    (100, 2018047): _media("the file is of another type than it is sent as"),
    (100, 2018074): _media("the id of the attachment is not valid"),
    (100, 2018109): _media("the file is too large"),
    (100, 2018294): SendRow(SendFailure.MEDIA, ReasonCode.BAD_MEDIA, "Meta could not fetch the video in time"),
    (100, 2018300): _OWNER,
    (100, 2018320): _content("a product of the template does not exist"),
    (100, 2018321): _OWNER,
    (100, 2534001): SendRow(
        SendFailure.REFUSED, ReasonCode.UNREACHABLE_PERSON, "the conversation was deleted or archived by its owner"
    ),
    (100, 2534013): SendRow(
        SendFailure.REFUSED,
        ReasonCode.NO_PERMISSION,
        "the Page has no linked Instagram account, or the comment can have no private reply",
    ),
    (100, 2534014): _NO_PERSON,
    (100, 2534015): _content("something of the message is not valid"),
    (100, 2534023): _COMMENT,
    (100, 2534025): _COMMENT,
    (100, 2534029): _RESTRICTED,
    (100, 2534037): _OWNER,
    (100, 2534038): _content("the text is too long"),
    (100, 2534068): _media("several images in one message are not possible for this account"),
    (100, 2534080): _media("the format of the file is not accepted"),
    (102, None): _TOKEN,
    (190, None): _TOKEN,
    (200, None): _NO_ACCESS,
    (200, 1545041): _BLOCKED,
    (200, 2018028): _NO_ACCESS,
    (200, 2018300): _OWNER,
    (200, 2018321): _OWNER,
    (200, 2534037): _OWNER,
    (200, 2534041): SendRow(
        SendFailure.STOPPED,
        ReasonCode.NO_PERMISSION,
        "the owner switched off message access for connected tools",
        first_stop_s=_HOUR_S,
    ),
    (341, None): _APP_LIMIT,
    (368, None): _RESTRICTED,
    (508, 2534122): SendRow(
        SendFailure.RESTRICTED,
        ReasonCode.ACCOUNT_RESTRICTED,
        "a link cannot be shared, or Meta restricts the account",
        first_stop_s=_HOUR_S,
    ),
    (551, None): _BLOCKED,
    (551, 1545041): _BLOCKED,
    (613, None): _THROTTLED,
    (613, 1893016): _OPT_IN,
    (613, 2018338): SendRow(
        SendFailure.RESTRICTED,
        ReasonCode.ACCOUNT_RESTRICTED,
        "Meta warns of too many tagged messages",
        first_stop_s=_HOUR_S,
    ),
    (613, 2534040): _THROTTLED,
    (2022, None): _RESTRICTED,
    (9000001, None): _content("the message that is answered was deleted"),
    (36103, None): SendRow(
        SendFailure.STOPPED, ReasonCode.NO_PERMISSION, "the account is not eligible for messages", first_stop_s=_HOUR_S
    ),
    (80001, None): _THROTTLED,
    (80002, None): _THROTTLED,
    (80006, None): _THROTTLED,
}
BY_SUBCODE: Final[dict[int, SendRow]] = {
    2446079: _THROTTLED,
    **{
        subcode: TABLE[(100, subcode)]
        for subcode in (2018300, 2018321, 2534014, 2534023, 2534025, 2534037, 2534038, 2534068, 2534080)
    },
    **{subcode: TABLE[(10, subcode)] for subcode in (2018065, 2018108, 2018278, 2534022)},
}
"""Subcodes that mean the same with every code, since Meta was seen to send them with several."""
_UNLISTED: Final = SendRow(
    SendFailure.UNCLEAR_ONCE, ReasonCode.ANSWER_NOT_SEEN, "an error that is not in the table of inboxd"
)
TOO_MANY: Final = SendRow(
    SendFailure.UNCLEAR, ReasonCode.ANSWER_NOT_SEEN, "HTTP 429 without Meta's error: too many requests"
)
"""It stops calls as Meta's own limits do. But a proxy may have answered so after it had passed the request on."""
_ACTIONS: Final = {
    SendFailure.THROTTLED: FailureAction.WAIT_FOR_BUDGET,
    SendFailure.TOKEN: FailureAction.NEEDS_LOGIN,
    SendFailure.STOPPED: FailureAction.LACKS_PERMISSION,
}
_STOP_FOR_ALL: Final = frozenset({368})
"""Of the restrictions, the code that stops every call, and not only sends."""


def send_row(code: int, subcode: int | None) -> SendRow:
    """The row for `code` and `subcode`. Unlisted codes from 200 to 299 are permissions; others may have been sent."""
    if subcode is not None:
        found = TABLE.get((code, subcode)) or BY_SUBCODE.get(subcode)
        if found is not None:
            return found
    found = TABLE.get((code, None))
    if found is not None:
        return found
    return _NO_ACCESS if 200 <= code <= 299 else _UNLISTED


class SendError(GraphError):
    """An error that Meta answered to a send. It contains no token and nothing of the message."""

    def __init__(self, code: int | None, subcode: int | None, row: SendRow) -> None:
        name = "" if code is None else f" (Meta's code {code}/{subcode})" if subcode else f" (Meta's code {code})"
        action = _ACTIONS.get(row.failure, FailureAction.UNKNOWN)
        if row is TOO_MANY or code in _STOP_FOR_ALL:
            action = FailureAction.WAIT_FOR_BUDGET
        super().__init__(
            f"{row.words[0].upper()}{row.words[1:]}{name}.",
            action,
            code=code,
            subcode=subcode,
            row=GraphRow(action, row.words, app_wide=row.app_wide, first_stop_s=row.first_stop_s),
        )
        self.send_row = row


def send_error(error: GraphError) -> SendError:
    """What an error of Meta's means for a send. `error` is an answer: not one that was given up waiting for."""
    if error.code is None:
        return SendError(None, None, TOO_MANY)
    return SendError(error.code, error.subcode, send_row(error.code, error.subcode))
