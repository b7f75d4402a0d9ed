"""Query parameters that say which events to read."""

from http import HTTPStatus
from typing import Annotated, Final

from msgspec import Meta

from inboxd.events.log import EventReader
from inboxd.events.store import EventFilter
from inboxd.http.operations import Query
from inboxd.http.problems import ProblemError

_LISTED: Final = "Several are separated by commas."
_ID: Final = r"^[0-9]{1,18}$(?!\n)"


class EventQuery(Query, frozen=True):
    """Which events."""

    types: (
        Annotated[
            str,
            Meta(
                max_length=2000, description=f"Only these types, such as `message.received` or `message.*`. {_LISTED}"
            ),
        ]
        | None
    ) = None
    account_id: Annotated[str, Meta(max_length=2000, description=f"Only of these accounts. {_LISTED}")] | None = None
    conversation_id: Annotated[str, Meta(pattern=_ID, description="Only of this conversation.")] | None = None

    def only(self, reader: EventReader) -> EventFilter:
        """The filter. Raises ProblemError for a type that does not exist, and for a list of nothing."""
        return EventFilter(
            types=None if self.types is None else names(reader, self.types),
            account_ids=None if self.account_id is None else _accounts(self.account_id),
            conversation_id=None if self.conversation_id is None else int(self.conversation_id),
        )


def names(reader: EventReader, text: str) -> list[str]:
    """The names of the types that a list of patterns selects. Raises ProblemError when a pattern selects none."""
    patterns = _parts("types", text)
    for pattern in patterns:
        if not reader.names([pattern]):
            known = ", ".join(sorted(reader.types))
            raise ProblemError(
                HTTPStatus.BAD_REQUEST, f"No type of event matches '{pattern[:100]}'. There are: {known}."
            )
    return reader.names(patterns)


def _parts(name: str, text: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:  # whoever asks for nothing would wait for ever
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"'{name}' is empty. Leave it out to get all.")
    return found


def _accounts(text: str) -> list[str]:
    accounts = _parts("accountId", text)
    if not all(one.isascii() and one.isdigit() for one in accounts):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "'accountId' must be ids of accounts, which are numbers. `GET /api/accounts` lists them.",
        )
    return accounts
