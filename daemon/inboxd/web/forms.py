"""Forms, as browsers and Meta send them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.web.problems import ProblemError

TYPE: Final = "application/x-www-form-urlencoded"


async def fields_of(request: web.Request) -> Mapping[str, str]:
    """The fields of a form. Raises ProblemError when the body is none."""
    if request.content_type not in {TYPE, "multipart/form-data"}:
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Expected a form: {TYPE}.")
    try:
        form = await request.post()
    except (ValueError, LookupError) as error:  # bytes of another charset, a charset that nobody knows, no parts
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The form cannot be decoded.") from error
    return {name: value for name, value in form.items() if isinstance(value, str)}
