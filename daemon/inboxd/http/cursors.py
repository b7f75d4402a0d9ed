"""Cursors: a position in a list as text. `<ms>.<id>`, or `-.<id>` among the entries without a time, which come last."""

import re
from http import HTTPStatus
from typing import Annotated, Final

from msgspec import Meta

from inboxd.domain.paging import Place
from inboxd.http.problems import ProblemError

PATTERN: Final = r"^([0-9]{1,18}|-)\.[0-9]{1,18}$(?!\n)"
Cursor = Annotated[str, Meta(pattern=PATTERN, description="`nextCursor` of the page before; instead of `offset`.")]


def of(place: Place) -> str:
    """The cursor for a position."""
    return f"{'-' if place.at is None else place.at}.{place.id}"


def place(cursor: str | None) -> Place | None:
    """The position of a cursor that matches PATTERN."""
    if cursor is None:
        return None
    at, _, last_id = cursor.partition(".")
    return Place(None if at == "-" else int(at), int(last_id))


def parsed(text: str | None) -> Place | None:
    """The position of an unchecked cursor. Raises ProblemError when it does not match PATTERN."""
    if text is not None and re.fullmatch(PATTERN, text) is None:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "This is not a valid cursor. Start at the first page.")
    return place(text)
