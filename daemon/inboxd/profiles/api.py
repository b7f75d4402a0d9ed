"""`/api/participants` and `/avatars`: participants, their profiles and avatars."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import ProfileState
from inboxd.http.operations import Operation, Page, answer, not_found, page_links, query
from inboxd.http.problems import SAFE_HEADERS
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.outlook import ProfileOutlook
from inboxd.profiles.resources import ParticipantList, ParticipantResource
from inboxd.profiles.store import Participant, ProfileStore
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database

PATH: Final = "/api/participants"
_FOR_EVER: Final = "private, max-age=31536000, immutable"


class ParticipantQuery(Page, frozen=True):
    """Which participants."""

    client_account_id: Annotated[str, Meta(description="Of this account.")] | None = None
    profile_state: ProfileState | None = None


class ParticipantsApi:
    """Participants, their profiles and avatars. `on_due` is called with the participants whose fetch becomes due."""

    def __init__(
        self,
        database: Database,
        avatars: AvatarStore,
        clock: Clock,
        on_due: Callable[[Sequence[ConversationKey]], None],
        outlook: ProfileOutlook,
    ) -> None:
        self._profiles = ProfileStore(database)
        self._avatars = avatars
        self._clock = clock
        self._on_due = on_due
        self._outlook = outlook

    def operations(self) -> Sequence[Operation]:
        """The operations of the API."""
        one = PATH + "/{account}/{participant}"
        tag = "participants"
        return [
            Operation("GET", PATH, self.page, tag, {200: ParticipantList}, query=ParticipantQuery),
            Operation("GET", one, self.one, tag, {200: ParticipantResource}, single=True),
            Operation("POST", one + "/refresh", self.refresh, tag, {202: ParticipantResource}),
            Operation("GET", "/avatars/{name}", self.avatar, tag, {200: "image/webp"}),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """A page of participants."""
        asked = query(request, ParticipantQuery)
        found, total = await self._profiles.page(
            account_id=asked.client_account_id, state=asked.profile_state, limit=asked.limit, offset=asked.offset
        )
        resources = [self._resource(participant) for participant in found]
        links = page_links(request, total=total, limit=asked.limit, offset=asked.offset)
        listed = ParticipantList(participants=resources, total=total, limit=asked.limit, offset=asked.offset)
        return answer(listed, headers=links)

    async def one(self, request: web.Request) -> web.Response:
        """One participant."""
        return answer(await self._find(request))

    async def refresh(self, request: web.Request) -> web.Response:
        """Fetch a participant's profile anew, as soon as the account's budget allows."""
        key = _key(request)
        if await self._profiles.refresh(key, self._clock.now_ms()):
            self._on_due([key])
        return answer(await self._find(request), status=HTTPStatus.ACCEPTED)

    async def avatar(self, request: web.Request) -> web.StreamResponse:
        """A participant's picture. Its address is the hash of what is in it, so it never changes."""
        name = request.match_info["name"]
        path = self._avatars.path(name)
        if path is None:
            raise not_found("avatar")
        headers = {**SAFE_HEADERS, "Cache-Control": _FOR_EVER, "ETag": f'"{name}"'}
        if any(known.value == name for known in request.if_none_match or ()):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.FileResponse(path, headers={**headers, "Content-Type": "image/webp"})

    async def _find(self, request: web.Request) -> ParticipantResource:
        found = await self._profiles.one(_key(request))
        if found is None:
            raise not_found("participant")
        return self._resource(found)

    def _resource(self, found: Participant) -> ParticipantResource:
        return ParticipantResource.of(
            found, self._outlook.of(found.key, found.state, found.reason, found.next_attempt_at)
        )


def _key(request: web.Request) -> ConversationKey:
    return ConversationKey(request.match_info["account"], request.match_info["participant"])
