"""A Graph API that answers correctly in form and absurdly in content, and odd values to do it with."""

import json
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from tests.support import ACCOUNT

Json = dict[str, Any]
ABSENT: Final = object()
ODD: Final[list[Any]] = [
    ABSENT,
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**30,
    -(10**30),
    10**400,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "   ",
    "0",
    "-5",
    "9" * 40,
    "9" * 6000,
    "1e9",
    "null",
    "\ud800",
    "x\udfffy",
    "\ud83d\ude00",
    "x" * 300_000,
    "é" * 100_000,
    "nul\x00nul",
    "\x1b[31mred\x07",
    "two\nlines\r\n",
    "\u202eright to left",
    "\ufeffmark",
    [],
    [None],
    ["x"] * 1000,
    {},
    {"id": 1},
    {"username": {"username": {}}},
    [[[[[[[[]]]]]]]],
]
"""Values that Meta should not send, and some that it may."""
PROFILE: Final[Json] = {
    "username": "ana_x",
    "name": "Ana X",
    "profile_pic": "http://127.0.0.1:1/a.png",
    "follower_count": 42,
    "is_verified_user": False,
    "is_user_follow_business": True,
    "is_business_follow_user": False,
    "id": "7000000000000001",
}
ME: Final[Json] = {"id": f"9{ACCOUNT}", "user_id": ACCOUNT, "username": "the.shop"}
ERROR: Final[Json] = {"message": "no", "type": "OAuthException", "code": 2, "error_subcode": 1, "fbtrace_id": "A"}


def replaced(fields: Json, name: str, value: Any) -> Json:
    """The same with one member that is odd, or missing."""
    rest = {key: known for key, known in fields.items() if key != name}
    return rest if value is ABSENT else {**rest, name: value}


def encoded(value: Any) -> bytes:
    """JSON as Python writes it: lone surrogates as escapes, NaN and Infinity by name."""
    return json.dumps(value, default=str).encode()


class HostileGraph:
    """Answers each path with what was put there, else as Meta does."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Callable[[web.Request], web.StreamResponse]] = {}
        """By the path's last part."""
        self.calls: list[str] = []
        self.refreshed = 0

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request.path)
        last = request.path.rpartition("/")[2]
        found = self.answers.get(last)
        if callable(found):
            return found(request)
        body = found if found is not None else encoded(self._usual(request, last))
        return web.Response(body=body, content_type="application/json")

    def _usual(self, request: web.Request, last: str) -> Json:
        if last == "me":
            return ME
        if last == "subscribed_apps":
            return {"success": True} if request.method == "POST" else {"data": [{"subscribed_fields": ["messages"]}]}
        if last == "conversations":
            return {"data": []}
        if last == "refresh_access_token":
            self.refreshed += 1
            return {"access_token": f"new-{self.refreshed}", "token_type": "bearer", "expires_in": 5_184_000}
        return {**PROFILE, "username": f"user_{last}", "id": last}
