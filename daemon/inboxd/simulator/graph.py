"""The simulated Graph API: profiles, errors in Meta's envelopes, usage headers, and moods that can be switched."""

import asyncio
import json
import random
from typing import Any, Final

import msgspec
from aiohttp import web

from inboxd.simulator.people import Person, person
from inboxd.simulator.pictures import avatar

CONTROL_PATH: Final = "/_simulator/behaviour"


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the simulated Graph API behaves; changed with PUT /_simulator/behaviour."""

    latency_ms: float = 40.0
    """Average time to answer; each answer takes from half to one and a half of it."""
    error_rate: float = 0.0
    """Share of calls that fail with `error_code`."""
    error_code: int = 2
    throttled: bool = False
    """Every call fails with code 4, and the usage headers say 100 %."""
    outage: bool = False
    """Every call gets an HTML page with status 503, as from a failing edge."""
    token_expired: bool = False
    """Every call fails with 190/463."""
    no_consent: tuple[str, ...] = ()
    """IGSIDs that answer 230 until they are taken from this list."""


class GraphServer:
    """The application, what it was asked, and how it behaves."""

    def __init__(self, tokens: dict[str, str], *, seed: int = 1) -> None:
        self.behaviour = Behaviour()
        self.calls: list[str] = []
        """The path of every Graph call, in order."""
        self._tokens = tokens
        self._random = random.Random(seed)

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get(CONTROL_PATH, self._show)
        app.router.add_put(CONTROL_PATH, self._switch)
        app.router.add_get("/pictures/{igsid}.png", self._picture)
        app.router.add_get("/{version}/me", self._me)
        app.router.add_get("/{version}/{igsid}", self._profile)
        return app

    async def _show(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self.behaviour), content_type="application/json")

    async def _switch(self, request: web.Request) -> web.Response:
        try:
            self.behaviour = msgspec.json.decode(await request.read(), type=Behaviour)
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=400)
        return await self._show(request)

    async def _picture(self, request: web.Request) -> web.Response:
        return web.Response(body=avatar(request.match_info["igsid"]), content_type="image/png")

    async def _me(self, request: web.Request) -> web.Response:
        refusal = await self._refusal(request)
        if refusal is not None:
            return refusal
        account_id = self._tokens[_token(request)]
        return self._answer({"id": f"9{account_id}", "user_id": account_id, "username": "the.shop"})

    async def _profile(self, request: web.Request) -> web.Response:
        refusal = await self._refusal(request)
        if refusal is not None:
            return refusal
        who = request.match_info["igsid"]
        if who in self.behaviour.no_consent:
            return self._error(403, 230, "User consent is required to access user profile")
        found = person(who)
        if found is None:
            return self._error(400, 9010, "No matching Instagram user", kind="IGApiException")
        fields = set(request.query.get("fields", "").split(","))
        known = _fields(found, f"{request.url.origin()}/pictures/{who}.png")
        unknown = fields - known.keys() - {"id", ""}
        if unknown:
            return self._error(400, 100, f"Tried accessing nonexisting field ({min(unknown)})")
        # Meta leaves the name and the picture out where there is none.
        asked = {name: value for name, value in known.items() if name in fields and value is not None}
        return self._answer(asked | {"id": who})

    async def _refusal(self, request: web.Request) -> web.Response | None:
        """What stands in the way of any answer at all."""
        self.calls.append(request.path)
        mood = self.behaviour
        await asyncio.sleep(mood.latency_ms / 1000 * (0.5 + self._random.random()))
        if mood.outage:
            return web.Response(status=503, text="<html>Sorry, something went wrong.</html>", content_type="text/html")
        if _token(request) not in self._tokens:
            return self._error(400, 190, "Invalid OAuth access token", subcode=467)
        if mood.token_expired:
            return self._error(400, 190, "Error validating access token: Session has expired", subcode=463)
        if mood.throttled:
            return self._error(400, 4, "Application request limit reached")
        if self._random.random() < mood.error_rate:
            return self._error(500, mood.error_code, "Service temporarily unavailable")
        return None

    def _answer(self, body: dict[str, Any], status: int = 200) -> web.Response:
        percent = 100 if self.behaviour.throttled else min(99, len(self.calls) // 2)
        usage = {"call_count": percent, "total_cputime": percent // 2, "total_time": percent // 2}
        return web.json_response(body, status=status, headers={"X-App-Usage": json.dumps(usage)})

    def _error(
        self, status: int, code: int, message: str, *, subcode: int | None = None, kind: str = "OAuthException"
    ) -> web.Response:
        error: dict[str, Any] = {
            "message": f"(#{code}) {message}",
            "type": kind,
            "code": code,
            "fbtrace_id": "Simulated",
        }
        if subcode is not None:
            error["error_subcode"] = subcode
        return self._answer({"error": error}, status)


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _fields(found: Person, picture_url: str) -> dict[str, Any]:
    return {
        "username": found.username,
        "follower_count": found.follower_count,
        "is_verified_user": found.is_verified,
        "is_user_follow_business": found.follows_business,
        "is_business_follow_user": False,
        "name": found.name,
        "profile_pic": picture_url if found.has_picture else None,
    }
