"""Forms, as browsers and Meta send them. They must be small, since anybody may send them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.http.problems import ProblemError
from inboxd.http.protocol import send_continue

TYPE: Final = "application/x-www-form-urlencoded"

MAX_FORM_BYTES: Final = 64 * 1024


async def fields_of(request: web.Request) -> Mapping[str, str]:
    """The fields of a form. Raises ProblemError when the body is not a form."""
    if request.content_type not in {TYPE, "multipart/form-data"}:
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Expected a form: {TYPE}.")
    if (request.content_length or 0) > MAX_FORM_BYTES:
        raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A form may have {MAX_FORM_BYTES} bytes.")
    send_continue(request)
    try:
        form = await request.post()
    except (web.HTTPException, web.RequestPayloadError, ConnectionError):
        raise
    except Exception as error:  # what aiohttp raises for the parts and the charsets of a form has no end of kinds
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The form cannot be decoded.") from error
    return {name: value for name, value in form.items() if isinstance(value, str)}
