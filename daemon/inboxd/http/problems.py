"""The one renderer of errors: RFC 9457 problem details."""

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
    """What went wrong, for people and programs. `type` is about:blank: the status says it all."""

    status: int
    title: str
    detail: str | None = None
    request_id: str | None = None


class ProblemError(Exception):
    """Raised by a handler to answer with a problem."""

    def __init__(self, status: HTTPStatus, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def problem(
    status: int, detail: str | None = None, *, headers: dict[str, str] | None = None, request_id: str | None = None
) -> web.Response:
    """A problem as a response."""
    body = Problem(status=status, title=HTTPStatus(status).phrase, detail=detail, request_id=request_id)
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
async def problem_middleware(  # noqa: PLR0911 - one return a kind of error
    request: web.Request, handler: Handler
) -> web.StreamResponse:
    """Turns whatever a handler raises into a problem; an unhandled error is logged under the id it answers with."""
    try:
        return await handler(request)
    except ProblemError as error:
        return problem(error.status, error.detail, headers=error.headers)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return problem(error.status, f"Use {allowed}.", headers={"Allow": allowed})
    except web.HTTPRequestEntityTooLarge as error:
        return problem(error.status, "The body is larger than this server accepts.")
    except web.HTTPException as error:
        return problem(error.status, _DETAILS.get(error.status))
    except StorageError as error:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": "5"})
    except ConnectionResetError:  # whoever asked has gone: nobody hears the answer
        return problem(HTTPStatus.BAD_REQUEST, "The connection ended before the request did.")
    except web.RequestPayloadError:  # it says what was sent, which nobody needs to see
        return problem(HTTPStatus.BAD_REQUEST, "The body does not come as the head of the request says.")
    except Exception:  # noqa: BLE001 - the last resort, logged
        request_id = secrets.token_hex(8)
        logs.get("web").exception("request_failed", request_id=request_id, method=request.method, path=request.path)
        return problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "An error on our side; the log has it under the id.",
            request_id=request_id,
        )


_DETAILS: Final = {404: "There is nothing at this address."}
