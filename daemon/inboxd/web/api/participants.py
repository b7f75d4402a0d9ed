"""`/api/participants` and `/avatars`: the people on the other side, and their pictures."""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import ProfileState
from inboxd.store.avatars import Avatars
from inboxd.store.profiles import Profiles
from inboxd.web.api import parameters
from inboxd.web.api.conversations import answer
from inboxd.web.api.resources import ParticipantList, ParticipantResource
from inboxd.web.problems import SAFE_HEADERS

PATH: Final = "/api/participants"
_STATES: Final = tuple(state.value for state in ProfileState)
_FOR_EVER: Final = "private, max-age=31536000, immutable"


class ParticipantsApi:
    """Reading participants, their profiles and avatars."""

    def __init__(self, profiles: Profiles, avatars: Avatars) -> None:
        self._profiles = profiles
        self._avatars = avatars

    def add_routes(self, app: web.Application) -> None:
        """Put the routes on the admin application."""
        app.router.add_get(PATH, self.page)
        app.router.add_get(PATH + "/{account}/{participant}", self.one)
        app.router.add_get("/avatars/{name}", self.avatar)

    async def page(self, request: web.Request) -> web.Response:
        """A page of participants."""
        parameters.only(request, ("limit", "offset", "clientAccountId", "profileState"))
        limit, offset = parameters.page(request)
        state = parameters.choice(request, "profileState", _STATES)
        found, total = await self._profiles.page(
            account_id=request.query.get("clientAccountId"),
            state=None if state is None else ProfileState(state),
            limit=limit,
            offset=offset,
        )
        resources = [ParticipantResource.of(participant) for participant in found]
        return answer(ParticipantList(participants=resources, total=total, limit=limit, offset=offset))

    async def one(self, request: web.Request) -> web.Response:
        """One participant."""
        parameters.only(request, ())
        key = ConversationKey(request.match_info["account"], request.match_info["participant"])
        found = await self._profiles.one(key)
        if found is None:
            raise parameters.not_found("participant")
        return answer(ParticipantResource.of(found))

    async def avatar(self, request: web.Request) -> web.StreamResponse:
        """A picture. Its address is the hash of what is in it, so it never changes."""
        name = request.match_info["name"]
        path = self._avatars.path(name)
        if path is None:
            raise parameters.not_found("avatar")
        headers = {**SAFE_HEADERS, "Cache-Control": _FOR_EVER, "ETag": f'"{name}"'}
        if f'"{name}"' in request.headers.get("If-None-Match", ""):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.FileResponse(path, headers={**headers, "Content-Type": "image/webp"})
