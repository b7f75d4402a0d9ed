"""Errors as RFC 9457 problem details. All responses with an error are made here."""

import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from inboxd.runtime import logs
from inboxd.runtime.errors import StorageError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CONTENT_TYPE: Final = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The description of an error. Its `type` is about:blank, since the status says what kind of error it is."""

    status: int
    title: str
    detail: str | None = None
    request_id: str | None = None
    oldest_cursor: str | None = None
    """Of a cursor that cannot be read from: the oldest one that can."""


class ProblemError(Exception):
    """Raised by a handler to answer with a problem of this status and detail."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        oldest_cursor: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.oldest_cursor = oldest_cursor
        self.detail = detail
        self.headers = headers or {}


def problem(
    status: int,
    detail: str | None = None,
    *,
    headers: dict[str, str] | None = None,
    request_id: str | None = None,
    oldest_cursor: str | None = None,
) -> web.Response:
    """A response with a problem."""
    title = HTTPStatus(status).phrase
    body = Problem(status=status, title=title, detail=detail, request_id=request_id, oldest_cursor=oldest_cursor)
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type=CONTENT_TYPE,
        headers={**SAFE_HEADERS, **(headers or {})},
    )


SAFE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@web.middleware
async def problem_middleware(  # noqa: PLR0911 - one return for each kind of error
    request: web.Request, handler: Handler
) -> web.StreamResponse:
    """Turn every exception of a handler into a problem. An unexpected one is logged with the id in the response."""
    try:
        return await handler(request)
    except ProblemError as error:
        return problem(error.status, error.detail, headers=error.headers, oldest_cursor=error.oldest_cursor)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return problem(error.status, f"Use {allowed}.", headers={"Allow": allowed})
    except web.HTTPRequestEntityTooLarge as error:
        return problem(error.status, "The body is larger than this server accepts.")
    except web.HTTPException as error:
        return problem(error.status, _DETAILS.get(error.status))
    except StorageError as error:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": "5"})
    except ConnectionResetError:  # the client has gone; nobody receives the response
        return problem(HTTPStatus.BAD_REQUEST, "The connection closed before the request was complete.")
    except web.RequestPayloadError:  # its text contains what was sent
        return problem(HTTPStatus.BAD_REQUEST, "The body does not match the headers of the request.")
    except Exception:  # noqa: BLE001 - logged, and answered with 500
        request_id = secrets.token_hex(8)
        logs.get("web").exception("request_failed", request_id=request_id, method=request.method, path=request.path)
        return problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "An error in the daemon. The log has it under this id.",
            request_id=request_id,
        )


_DETAILS: Final = {404: "There is nothing at this address."}
