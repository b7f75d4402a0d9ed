"""Cursors: a place in a list, as text: `<ms>.<id>`, or `-.<id>` behind everything that has a time."""

import re
from http import HTTPStatus
from typing import Annotated, Final

from msgspec import Meta

from inboxd.domain.paging import Place
from inboxd.http.problems import ProblemError

PATTERN: Final = r"^([0-9]{1,18}|-)\.[0-9]{1,18}$(?!\n)"
Cursor = Annotated[str, Meta(pattern=PATTERN, description="`nextCursor` of the page before; instead of `offset`.")]


def of(place: Place) -> str:
    """The cursor of a place."""
    return f"{'-' if place.at is None else place.at}.{place.id}"


def place(cursor: str | None) -> Place | None:
    """The place of a cursor, which has the form of PATTERN."""
    if cursor is None:
        return None
    at, _, last_id = cursor.partition(".")
    return Place(None if at == "-" else int(at), int(last_id))


def parsed(text: str | None) -> Place | None:
    """The place of what may be a cursor. Raises ProblemError when it is none."""
    if text is not None and re.fullmatch(PATTERN, text) is None:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "That is no place in this list: begin at its first page.")
    return place(text)
