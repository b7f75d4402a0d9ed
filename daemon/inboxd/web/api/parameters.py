"""Reading query parameters: what is wrong with one is said in one sentence."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from inboxd.web.problems import ProblemError

T = TypeVar("T")

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_OFFSET: Final = 1_000_000
_MAX_ID: Final = 2**63 - 1


def only(request: web.Request, known: Collection[str]) -> None:
    """Refuse parameters that are not `known`, or given twice."""
    for name in request.query:
        if name not in known:
            raise _bad(f"Unknown parameter '{name[:50]}'; known are: {', '.join(sorted(known))}.")
        if len(request.query.getall(name)) > 1:
            raise _bad(f"Parameter '{name}' is given twice.")


def page(request: web.Request) -> tuple[int, int]:
    """`limit` and `offset`."""
    limit = _number(request, "limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
    return limit, _number(request, "offset", default=0, least=0, most=MAX_OFFSET)


def flag(request: web.Request, name: str) -> bool | None:
    """`true`, `false`, or absent."""
    value = choice(request, name, ("true", "false"))
    return None if value is None else value == "true"


def choice(request: web.Request, name: str, values: Collection[str]) -> str | None:
    """One of `values`, or absent."""
    value = request.query.get(name)
    if value is not None and value not in values:
        raise _bad(f"'{name}' must be one of: {', '.join(values)}.")
    return value


def path_id(request: web.Request, what: str) -> int:
    """The id in the path; an id that cannot exist is simply not found."""
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _MAX_ID):
        raise not_found(what)
    return int(text)


async def body(request: web.Request, kind: type[T]) -> T:
    """The JSON body as a `kind`; 400 when it is no JSON, 422 when it is not what is expected."""
    data = await request.read()
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _bad("The body must be a JSON object.") from error


def not_found(what: str) -> ProblemError:
    """There is no such thing."""
    return ProblemError(HTTPStatus.NOT_FOUND, f"There is no {what} with this id.")


def _number(request: web.Request, name: str, *, default: int, least: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        raise _bad(f"'{name}' must be a whole number from {least} to {most}.")
    return int(text)


def _bad(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, detail)
