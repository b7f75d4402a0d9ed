"""The header Idempotency-Key, by which a request that is made again is known."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from inboxd.http.problems import ProblemError

KEY: Final = "Idempotency-Key"
KEY_SCHEMA: Final[Mapping[str, Any]] = {
    "pattern": "^[\x21-\x7e]{1,255}$",
    "description": "Names this message. The same key and the same request again: nothing more is sent, and the answer "
    "is the same message. The same key and another request: 409.",
}
_FORM: Final = re.compile(r"[\x21-\x7e]{1,255}")


def key_of(request: web.Request) -> str | None:
    """The key of the request; None when it has none. Raises ProblemError (400)."""
    given = request.headers.getall(KEY, [])
    if not given:
        return None
    if len(given) > 1 or _FORM.fullmatch(given[0]) is None:
        detail = f"{KEY} must be one header of 1 to 255 visible ASCII characters, without blanks."
        raise ProblemError(HTTPStatus.BAD_REQUEST, detail)
    return given[0]
