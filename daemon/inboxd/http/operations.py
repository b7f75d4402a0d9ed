"""Operations of the API, each declared once. Routes, checks and the OpenAPI document follow from them."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import NoneType, UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from inboxd.http.auth import SCOPES
from inboxd.http.compression import compressed
from inboxd.http.problems import SAFE_HEADERS, Handler, ProblemError
from inboxd.http.validation import in_words

T = TypeVar("T")

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_OFFSET: Final = 1_000_000
MAX_DEPTH: Final = 64
"""Maximum nesting of a JSON body."""
PATH_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_EXACT: Final = 2**53
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_QUERY: Final = web.RequestKey("asked.query", object)
_BODY: Final = web.RequestKey("asked.body", object)
OPERATIONS: Final = web.AppKey("operations", list["Operation"])


class Query(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Query parameters of an operation."""


class NoQuery(Query, frozen=True):
    """No query parameters."""


class Page(Query, frozen=True):
    """The part of a list to return."""

    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="How many at most.")] = DEFAULT_LIMIT
    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET, description="How many to pass over.")] = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API. Its summary and description are the handler's docstring."""

    method: str
    path: str
    handler: Handler
    tag: str
    answers: Mapping[int, Any]
    """The type of the JSON body by status; None for no body; a string for another content type."""
    query: type[Query] = NoQuery
    body: Any = None
    problems: Sequence[int] = ()
    """Statuses of problems that only this operation has, beside those that all have."""
    single: bool = False
    """The answer is one resource. It gets an ETag, and supports conditional requests."""
    open: bool = False
    """The operation needs no token."""
    streams: int = 0
    """The most bytes of a body that the handler reads itself, as it arrives. 0: the body is small, and read before."""
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Request headers that the operation reads, with their JSON schema; its `description` says what they mean."""
    examples: Mapping[str, Any] = field(default_factory=dict)
    """An example `body`, and an example `answer` where the answer's type has none of its own (`Resource`)."""
    schemas: Callable[[], Mapping[str, Any]] | None = None
    """Gives schemas, by name, that the answer refers to beside those of its types. Called for the OpenAPI document."""
    id: str = ""
    """The `operationId`. Without it, the names of the handler and its class make one."""
    needs: str = ""
    """The scope that a token needs. Empty: `read` for GET, `write` for all else."""
    follows: str = ""
    """The path of another feature's operation. The document lists this one behind it, and not where it was added."""

    @property
    def scope(self) -> str:
        """The scope that a token needs."""
        if self.needs:
            return self.needs
        return "read" if self.method == hdrs.METH_GET else "write"


def add_operations(app: web.Application, operations: Sequence[Operation]) -> None:
    """Add the routes of operations to the admin application."""
    for operation in operations:
        # aiohttp's default pattern matches no braces. Ids come from outside and may contain them.
        path = PATH_PARAMETER.sub(r"{\1:[^/]+}", operation.path)
        route = app.router.add_route(operation.method, path, _checked(operation))
        if operation.needs and route.resource is not None:
            app[SCOPES][operation.method, route.resource.canonical] = operation.needs
    app[OPERATIONS].extend(operations)


def query(request: web.Request, kind: type[T]) -> T:
    """The checked query parameters of a request."""
    found = request[_QUERY]
    assert isinstance(found, kind)  # noqa: S101 - the operation declares it
    return found


def body(request: web.Request, kind: type[T]) -> T:
    """The checked JSON body of a request."""
    found = request[_BODY]
    assert isinstance(found, kind)  # noqa: S101 - the operation declares it
    return found


def answer(
    resource: msgspec.Struct | Mapping[str, Any],
    *,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A response with a resource as JSON."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(resource),
        content_type="application/json",
        charset="utf-8",
        headers={**SAFE_HEADERS, **(headers or {})},
    )


def not_found(what: str) -> ProblemError:
    """The problem that there is no `what` with the id of the request."""
    return ProblemError(HTTPStatus.NOT_FOUND, f"There is no {what} with this id.")


def path_id(request: web.Request, what: str, name: str = "id") -> int:
    """The id of a `what` in the path, at `{name}`. Raises ProblemError (404) when it cannot be the id of a row."""
    text = request.match_info[name]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise not_found(what)
    return int(text)


def page_links(request: web.Request, *, total: int, limit: int, offset: int) -> dict[str, str]:
    """The `Link` header (RFC 8288) with the next and the previous page."""
    links = {}
    if offset + limit < total:
        links["next"] = offset + limit
    if offset > 0:
        links["prev"] = max(0, offset - limit)
    found = [
        f'<{request.rel_url.update_query(offset=str(at), limit=str(limit))}>; rel="{name}"'
        for name, at in links.items()
    ]
    return {"Link": ", ".join(found)} if found else {}


def _checked(operation: Operation) -> Handler:
    """The handler of an operation, with the checks that the operation declares."""

    async def handler(request: web.Request) -> web.StreamResponse:
        request[_QUERY] = parsed_query(request, operation.query)
        if operation.body is not None:
            request[_BODY] = await _parsed_body(request, operation.body)
        response = await operation.handler(request)
        if isinstance(response, web.Response) and isinstance(response.body, bytes):
            if operation.single and response.status == HTTPStatus.OK:
                response = _conditional(request, response)
            return await compressed(request, response)
        return response

    handler.__doc__ = operation.handler.__doc__
    return handler


def _conditional(request: web.Request, response: web.Response) -> web.Response:
    """The response with an ETag, or 304 when the client has it already (RFC 9110, 13.1.2)."""
    assert isinstance(response.body, bytes)  # noqa: S101 - the caller checked
    tag = hashlib.blake2b(response.body, digest_size=12).hexdigest()
    known = request.if_none_match or ()
    headers = {"ETag": f'W/"{tag}"', "Cache-Control": "no-cache"}
    if any(one.value in {tag, "*"} for one in known):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={**SAFE_HEADERS, **headers})
    response.headers.update(headers)
    return response


def parsed_query(request: web.Request, kind: type[Query]) -> Query:
    """The query parameters as a `kind`. Raises ProblemError (400) that names the wrong parameter."""
    hints = {
        field.encode_name: get_type_hints(kind, include_extras=True)[field.name]
        for field in msgspec.structs.fields(kind)
    }
    values: dict[str, object] = {}
    for name in request.query:
        if name not in hints:
            others = f"known are: {', '.join(sorted(hints))}" if hints else "there are none"
            raise _bad(f"Unknown parameter '{name[:50]}'; {others}.")
        if len(request.query.getall(name)) > 1:
            raise _bad(f"Parameter '{name}' is given twice.")
        values[name] = _value(name, request.query[name], hints[name])
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _bad(f"{in_words(error, kind)}.") from error


def _value(name: str, text: str, hint: Any) -> object:  # noqa: ANN401 - any type hint
    """The text of a parameter, converted to the type that its hint needs."""
    kinds = _plain(hint)
    if bool in kinds:
        if text not in {"true", "false"}:
            raise _bad(f"'{name}' must be true or false.")
        return text == "true"
    if int in kinds:
        if _NUMBER.fullmatch(text) is None:
            raise _bad(f"'{name}' must be a whole number.")
        return int(text)
    return text


def _plain(hint: Any) -> set[Any]:  # noqa: ANN401 - any type hint
    """The types in a hint, without None and `Annotated`."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _plain(get_args(hint)[0])
    if origin in {Union, UnionType}:
        return {kind for part in get_args(hint) if part is not NoneType for kind in _plain(part)}
    return {hint}


async def _parsed_body(request: web.Request, kind: Any) -> Any:  # noqa: ANN401 - the operation's type
    data = await request.read()
    try:
        return msgspec.convert(_whole(msgspec.json.decode(data), MAX_DEPTH), kind)
    except RecursionError as error:  # from the decoder or from _whole
        raise _bad(f"The body is nested more than {MAX_DEPTH} levels deep.") from error
    except msgspec.ValidationError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{in_words(error, kind)}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _bad("The body must be a JSON object.") from error


def _whole(value: Any, depth: int) -> Any:  # noqa: ANN401 - JSON
    """JSON with 12.0 as 12: JSON Schema calls both an integer (validation, 6.1.1).

    Raises RecursionError when it is nested more than `depth` levels. What is stored must be readable later, by us and
    by SQLite, which have limits of their own.
    """
    if isinstance(value, (dict, list)) and depth == 0:
        raise RecursionError
    if isinstance(value, dict):
        return {name: _whole(inner, depth - 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner, depth - 1) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT else value


def _bad(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, detail)
