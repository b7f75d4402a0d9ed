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
