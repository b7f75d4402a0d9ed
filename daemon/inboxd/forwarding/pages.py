"""`/forwarding`: pages on which people see, add, test, replay and remove what events are pushed to."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from inboxd.accounts.manager import AccountManager
from inboxd.feature import OverviewPart
from inboxd.forwarding.endpoint import Endpoint, EndpointKind
from inboxd.forwarding.overview import PATH, EndpointView
from inboxd.forwarding.progress_store import ProgressStore
from inboxd.forwarding.resources import NewEndpoint
from inboxd.forwarding.service import BadEndpointError, EndpointService
from inboxd.forwarding.store import TooManyEndpointsError
from inboxd.forwarding.target import BadUrlError
from inboxd.http.forms import fields_of
from inboxd.http.operations import not_found
from inboxd.http.problems import ProblemError
from inboxd.http.rendering import offset_of, page, see_other
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret

ATTEMPTS: Final = 25
FAILURES: Final = 50
KEEP_SECRET_S: Final = 86_400
REPLAYS: Final[Mapping[str, tuple[str, int | None]]] = {
    "hour": ("the last hour", 3600),
    "day": ("the last day", 86_400),
    "week": ("the last week", 7 * 86_400),
    "all": ("everything that is kept", None),
}
_EMPTY: Final = {"url": "", "description": "", "kind": EndpointKind.STANDARD.value, "types": "*", "account": ""}
_SEPARATED: Final = re.compile(r"[\s,]+")


class ForwardingPages:
    """The list of what events are handed to, and a page for each webhook endpoint.

    `consumers` show what else gets the event log. `types` are the names of all events.
    """

    def __init__(
        self,
        service: EndpointService,
        progress: ProgressStore,
        accounts: AccountManager,
        clock: Clock,
        *,
        types: Callable[[], Sequence[str]],
        consumers: Sequence[Callable[[], Awaitable[OverviewPart]]] = (),
    ) -> None:
        self._service = service
        self._progress = progress
        self._accounts = accounts
        self._clock = clock
        self._types = types
        self._consumers = consumers

    def add_routes(self, app: web.Application) -> None:
        """Put the pages on the admin application."""
        one = PATH + "/{id}"
        app.router.add_get(PATH, self.all, allow_head=False)
        app.router.add_post(PATH, self.add)
        app.router.add_get(one, self.one, allow_head=False)
        app.router.add_post(one + "/{how:enable|disable}", self.switch)
        app.router.add_post(one + "/test", self.test)
        app.router.add_post(one + "/rotate-secret", self.rotate)
        app.router.add_post(one + "/replay", self.replay)
        app.router.add_post(one + "/remove", self.remove)
        app.router.add_post(one + "/failures/{event_id}/retry", self.retry)

    async def all(self, request: web.Request) -> web.Response:
        """Every endpoint, with how far behind it is."""
        return await self._list(request)

    async def add(self, request: web.Request) -> web.Response:
        """Add an endpoint, and show its secret. What cannot be used is said beside the form."""
        form = await fields_of(request)
        try:
            wanted = _wanted(form)
            endpoint = await self._service.create(
                wanted.url,
                wanted.kind,
                event_types=wanted.event_types,
                account_ids=wanted.account_ids,
                description=wanted.description,
                timeout_s=wanted.timeout_seconds,
            )
        except (BadUrlError, BadEndpointError, TooManyEndpointsError) as error:
            return await self._list(request, form, str(error), status=HTTPStatus.UNPROCESSABLE_ENTITY)
        if endpoint.secret is None:
            return see_other(f"{PATH}/{endpoint.id}")
        return await self._one(request, endpoint, secret=endpoint.secret)

    async def one(self, request: web.Request) -> web.Response:
        """One endpoint, with its latest attempts and its failures."""
        return await self._one(request, await self._find(request))

    async def switch(self, request: web.Request) -> web.Response:
        """Push to an endpoint, from where it was; or push no more."""
        endpoint, enabled = await self._find(request), request.match_info["how"] == "enable"
        if endpoint.enabled != enabled:
            await self._service.change(endpoint, enabled=enabled)
        return see_other(f"{PATH}/{endpoint.id}")

    async def test(self, request: web.Request) -> web.Response:
        """Send a sample, and show what came of it."""
        endpoint = await self._find(request)
        try:
            sample = await self._service.test(endpoint, None)
        except BadEndpointError as error:
            return await self._one(request, endpoint, problem=str(error))
        return await self._one(request, endpoint, sample=sample)

    async def rotate(self, request: web.Request) -> web.Response:
        """Make a new secret, and show it."""
        endpoint = await self._find(request)
        try:
            secret, _ = await self._service.rotate(endpoint, KEEP_SECRET_S)
        except BadEndpointError as error:
            return await self._one(request, endpoint, problem=str(error))
        return await self._one(request, await self._find(request), secret=secret)

    async def replay(self, request: web.Request) -> web.Response:
        """Push again what happened in some time."""
        endpoint, form = await self._find(request), await fields_of(request)
        if form.get("since") not in REPLAYS:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"Choose from when: {', '.join(REPLAYS)}.")
        _, seconds = REPLAYS[form["since"]]
        if seconds is None:
            await self._service.replay(endpoint, after=0)
        else:
            await self._service.replay(endpoint, since=self._clock.now_ms() - seconds * 1000)
        return see_other(f"{PATH}/{endpoint.id}")

    async def remove(self, request: web.Request) -> web.Response:
        """Remove an endpoint."""
        await self._service.delete(await self._find(request))
        return see_other(PATH)

    async def retry(self, request: web.Request) -> web.Response:
        """Try a failed event again. When it was delivered meanwhile, there is nothing to do."""
        endpoint = await self._find(request)
        await self._service.retry(endpoint, request.match_info["event_id"])
        return see_other(f"{PATH}/{endpoint.id}")

    async def _list(
        self,
        request: web.Request,
        form: Mapping[str, str] | None = None,
        problem: str | None = None,
        *,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> web.Response:
        found = [EndpointView(one, await self._service.standing(one)) for one in await self._service.all()]
        served = [self._accounts.served[one].account for one in sorted(self._accounts.served)]
        context = {
            "views": found,
            "cards": [(await read()).card for read in self._consumers],
            "accounts": served,
            "kinds": [kind.value for kind in EndpointKind],
            "types": self._types(),
            "form": {**_EMPTY, **(form or {})},
            "problem": problem,
        }
        return page(request, "forwarding.html", context, status=status)

    async def _one(
        self, request: web.Request, endpoint: Endpoint, *, secret: Secret | None = None, **shown: object
    ) -> web.Response:
        """`shown`: a sample that was sent, or a problem."""
        offset = offset_of(request)
        attempts, kept = await self._progress.attempts(endpoint.id, limit=ATTEMPTS, offset=offset)
        failures, failed = await self._progress.failures(endpoint.id, None, limit=FAILURES, offset=0)
        context: dict[str, Any] = {
            "view": EndpointView(endpoint, await self._service.standing(endpoint)),
            "attempts": attempts,
            "following": offset + ATTEMPTS if offset + ATTEMPTS < kept else None,
            "failures": failures,
            "failed": failed,
            "replays": {name: text for name, (text, _) in REPLAYS.items()},
            "secret": None if secret is None else secret.reveal(),
            "sample": None,
            "problem": None,
        }
        return page(request, "endpoint.html", context | shown)

    async def _find(self, request: web.Request) -> Endpoint:
        endpoint = await self._service.get(request.match_info["id"])
        if endpoint is None:
            raise not_found("webhook endpoint")
        return endpoint


def _wanted(form: Mapping[str, str]) -> NewEndpoint:
    """The endpoint that the form describes. Raises BadEndpointError."""
    kind, account_id = form.get("kind", EndpointKind.STANDARD.value), form.get("account", "")
    types = [part for part in _SEPARATED.split(form.get("types", "")) if part]
    fields = {
        "url": form.get("url", "").strip(),
        "kind": kind,
        "eventTypes": types if types and kind == EndpointKind.STANDARD else None,
        "accountIds": [account_id] if account_id else [],
        "description": form.get("description", "").strip(),
    }
    try:
        return msgspec.convert(fields, NewEndpoint)
    except msgspec.ValidationError as error:
        raise BadEndpointError(f"This cannot be used: {error}.") from error
