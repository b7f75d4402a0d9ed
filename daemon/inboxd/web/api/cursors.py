"""Cursors: a place in a list, as text that means nothing to others and something to us."""

import base64
import binascii
from http import HTTPStatus

import msgspec

from inboxd.store.conversations import Place
from inboxd.web.problems import ProblemError

_MAX: int = 2**62


def of(place: Place) -> str:
    """The cursor of a place."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def place(cursor: str | None) -> Place | None:
    """The place of a cursor. Raises ProblemError (400) for what is none of ours."""
    if cursor is None:
        return None
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = Place(*msgspec.json.decode(data, type=tuple[int | None, int]))
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "'cursor' must be a nextCursor of an earlier answer.") from error
    if not all(number is None or 0 <= number <= _MAX for number in found):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "'cursor' must be a nextCursor of an earlier answer.")
    return found
