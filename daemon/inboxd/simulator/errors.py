"""Errors as Meta words them."""

from typing import Any

from aiohttp import web


def graph_error(
    status: int, code: int, message: str, *, subcode: int | None = None, kind: str = "OAuthException"
) -> web.Response:
    """An answer with Meta's error envelope."""
    error: dict[str, Any] = {"message": f"(#{code}) {message}", "type": kind, "code": code, "fbtrace_id": "Simulated"}
    if subcode is not None:
        error["error_subcode"] = subcode
    return web.json_response({"error": error}, status=status)


class RefusedError(Exception):
    """A call is answered with this error."""

    def __init__(self, response: web.Response) -> None:
        super().__init__()
        self.response = response


def refused(code: int, message: str, *, status: int = 400, subcode: int | None = None) -> RefusedError:
    """The error to raise for a call that is refused."""
    return RefusedError(graph_error(status, code, message, subcode=subcode))


def missing(node: str, method: str = "get") -> RefusedError:
    """The error for an object that is not there, or that the caller may not see."""
    message = f"Unsupported {method} request. Object with ID '{node}' does not exist, or cannot be loaded"
    return refused(100, message, subcode=33)
