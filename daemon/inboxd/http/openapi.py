"""The OpenAPI 3.1 document, built from the operations and their types, and the operation that serves it."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from inboxd import __version__
from inboxd.http.operations import OPERATIONS, PATH_PARAMETER, Operation
from inboxd.http.problems import CONTENT_TYPE as PROBLEM_TYPE
from inboxd.http.problems import SAFE_HEADERS, Problem

OPENAPI: Final = "3.1.0"
TITLE: Final = "inboxd admin API"
DOCUMENT_PATH: Final = "/api/openapi.json"
_REF: Final = "#/components/schemas/{name}"
_ALWAYS: Final = (400, 401, 403, 404, 405, 406, 413, 429, 500, 503)
_PROBLEM_EXAMPLE: Final = {"status": 404, "title": "Not Found", "detail": "There is no conversation with this id."}


class OpenApiDocument:
    """The operation that serves the document of all operations of its application."""

    def __init__(self) -> None:
        self._document: bytes | None = None

    def operations(self) -> Sequence[Operation]:
        """The operations of this part."""
        answers = {200: dict[str, Any]}
        examples = {"answer": {"openapi": OPENAPI, "info": {"title": TITLE, "version": __version__}, "paths": {}}}
        return [
            Operation(
                "GET",
                DOCUMENT_PATH,
                self.describe,
                "system",
                answers,
                open=True,
                id="System_describe",
                examples=examples,
            )
        ]

    async def describe(self, request: web.Request) -> web.Response:
        """The OpenAPI document of this API."""
        if self._document is None:
            operations: list[Operation] = request.app[OPERATIONS]
            self._document = msgspec.json.encode(document(operations))
        return web.Response(body=self._document, content_type="application/json", headers=SAFE_HEADERS)


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document that describes `operations`."""
    operations = _in_order(operations)
    types = list(dict.fromkeys([Problem, *_types(operations)]))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    for operation in operations:
        components |= {} if operation.schemas is None else operation.schemas()
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, by_type)
    return {
        "openapi": OPENAPI,
        "info": {
            "title": TITLE,
            "version": __version__,
            "description": "Conversations, participants, accounts and the work behind them. Errors: RFC 9457.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The admin token, or a named one with the scope that an operation needs.",
                }
            },
            "responses": {
                "Problem": {
                    "description": "What went wrong.",
                    "content": {PROBLEM_TYPE: {"schema": by_type[Problem], "example": _PROBLEM_EXAMPLE}},
                }
            },
        },
        "security": [{"bearer": []}],
    }


def _in_order(operations: Sequence[Operation]) -> list[Operation]:
    """The operations, with each that `follows` a path behind the last one of that path."""
    ordered: list[Operation] = []
    for operation in operations:
        places = [place for place, one in enumerate(ordered, 1) if one.path == operation.follows]
        ordered.insert(places[-1] if places else len(ordered), operation)
    return ordered


def _types(operations: Sequence[Operation]) -> Iterator[Any]:
    for operation in operations:
        if operation.body is not None:
            yield operation.body
        yield from (kind for kind in operation.answers.values() if kind is not None and not isinstance(kind, str))


def _described(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    title, _, rest = (operation.handler.__doc__ or "").partition("\n")
    statuses = (*_ALWAYS, *((422,) if operation.body is not None else ()), *operation.problems)
    found: dict[str, Any] = {
        "operationId": operation.id or operation.handler.__qualname__.replace("Api.", "_").replace(".", "_"),
        "tags": [operation.tag],
        "summary": title.strip().rstrip("."),
        "description": " ".join(rest.split()) + f" Scope: {operation.scope}.",
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_header_parameters(operation)],
        "responses": {
            **{str(status): _answer(operation, status, kind, schemas) for status, kind in operation.answers.items()},
            **{str(status): {"$ref": "#/components/responses/Problem"} for status in sorted(set(statuses))},
        },
    }
    if operation.single:
        found["responses"]["304"] = {"description": "The client has it already."}
    if operation.open:
        found["security"] = []
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schemas[operation.body]}
        if "body" in operation.examples:
            content["example"] = operation.examples["body"]
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    if operation.streams:
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
        types = {"application/octet-stream": {"schema": file}, "multipart/form-data": {"schema": form}}
        found["requestBody"] = {"required": True, "content": types}
    return found


def _answer(operation: Operation, status: int, kind: Any, schemas: dict[Any, Any]) -> dict[str, Any]:  # noqa: ANN401 - a type
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(kind, str):
        described["content"] = {kind: {"schema": {}}}
    elif kind is not None:
        content: dict[str, Any] = {"schema": schemas[kind]}
        example = _example(operation, kind)
        if example is not None:
            content["example"] = example
        described["content"] = {"application/json": content}
    return described


def _example(operation: Operation, kind: Any) -> Any:  # noqa: ANN401 - a type, JSON
    """The operation's own example of an answer, or that of the answer's type; None without either."""
    if "answer" in operation.examples:
        return operation.examples["answer"]
    make = getattr(kind, "example", None)
    return None if make is None else msgspec.json.decode(msgspec.json.encode(make()))


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in PATH_PARAMETER.findall(operation.path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    (schema,), components = msgspec.json.schema_components([operation.query], ref_template="{name}")
    struct = components[schema["$ref"]]
    found = []
    for name, described in struct["properties"].items():
        options = described.get("anyOf", [described])
        (plain,) = [option for option in options if option.get("type") != "null"]
        inlined = {**components.get(plain.get("$ref", ""), plain)}
        text = inlined.pop("description", described.get("description", ""))
        inlined.pop("title", None)
        parameter = {"name": name, "in": "query", "required": name in struct.get("required", []), "schema": inlined}
        found.append(parameter | ({"description": text} if text else {}))
    return found


def _header_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string", **schema}}
        for name, schema in operation.headers.items()
    ]
