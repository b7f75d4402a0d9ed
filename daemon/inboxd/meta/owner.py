"""Whom a token belongs to, as `GET /me` says it."""

from typing import Any, Final, NamedTuple

from inboxd.domain.account import LoginType
from inboxd.domain.retry import FailureAction
from inboxd.meta import answers
from inboxd.meta.graph_errors import GraphError, unusable

OWNER_FIELDS: Final = {
    LoginType.INSTAGRAM: "id,user_id,username",
    LoginType.FACEBOOK: "id,name,instagram_business_account{id,username}",
}
MAX_NAME: Final = 200
"""Most characters of a name, a username or the name of a webhook field. Instagram's own limits are much lower."""


class Owner(NamedTuple):
    """The account that a token belongs to."""

    id: str
    """`IG_ID`: the id that webhooks use."""
    app_scoped_id: str | None
    page_id: str | None
    username: str | None


def owner_in(answer: dict[str, Any], login_type: LoginType) -> Owner:
    """The owner in an answer of `GET /me`. Raises GraphError; for a Page without Instagram account LACKS_PERMISSION."""
    inner = answer.get("data")
    if isinstance(inner, list) and inner:  # the documentation shows a list, Meta sends an object
        answer = _fields(inner[0])
    if login_type is LoginType.FACEBOOK:
        linked = answer.get("instagram_business_account")
        if linked is None:
            msg = "the Page has no Instagram professional account linked to it, or the token may not see it"
            raise GraphError(msg, FailureAction.LACKS_PERMISSION)
        return _owner(_fields(linked), "id", page_id=answers.identifier(answer.get("id")))
    return _owner(answer, "user_id", app_scoped_id=answers.identifier(answer.get("id")))


def _owner(answer: dict[str, Any], name: str, *, app_scoped_id: str | None = None, page_id: str | None = None) -> Owner:
    """The owner, with the id in the field `name`. Raises GraphError when that is not a valid id."""
    found = answers.identifier(answer.get(name))
    if found is None:
        msg = f"GET /me names no {name} that could be an account's"
        raise unusable(msg)
    return Owner(found, app_scoped_id, page_id, answers.word(answer.get("username"), MAX_NAME))


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
