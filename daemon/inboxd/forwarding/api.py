"""`/api/webhook-endpoints`: where events are pushed, and how that goes."""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta

from inboxd.forwarding.endpoint import Endpoint
from inboxd.forwarding.progress_store import ProgressStore, RetryState
from inboxd.forwarding.resources import (
    AttemptList,
    AttemptResource,
    EndpointChange,
    EndpointList,
    EndpointResource,
    EndpointWithSecret,
    FailureList,
    FailureResource,
    NewEndpoint,
    NewSecret,
    Replay,
    TestOutcome,
    fields_of,
    revealed,
)
from inboxd.forwarding.service import BadEndpointError, EndpointService
from inboxd.forwarding.store import TooManyEndpointsError
from inboxd.forwarding.target import BadUrlError
from inboxd.http.operations import Operation, Page, Query, answer, body, not_found, page_links, query
from inboxd.http.problems import ProblemError
from inboxd.http.resource import iso

T = TypeVar("T")
PATH: Final = "/api/webhook-endpoints"
DAY_S: Final = 86_400
_EXAMPLE: Final[Mapping[str, Any]] = {
    "id": "we_5f0c2ad1f1d84e3fb0a1c2d3",
    "kind": "standard",
    "url": "https://crm.example.com/hooks/inboxd",
    "eventTypes": ["message.*"],
    "accountIds": [],
    "description": "CRM",
    "enabled": True,
    "state": "ok",
    "disabledReason": None,
    "rateLimit": 0.0,
    "timeoutSeconds": 15.0,
    "cursor": "4711",
    "behindBy": 0,
    "lagSeconds": 0.0,
    "retries": 0,
    "failures": 0,
    "lost": 0,
    "failingSince": None,
    "lastSuccessAt": "2026-11-30T08:00:01.200Z",
    "lastAttemptAt": "2026-11-30T08:00:01.200Z",
    "lastError": None,
    "previousSecretValidUntil": None,
    "createdAt": "2026-11-01T09:30:00.000Z",
    "updatedAt": "2026-11-01T09:30:00.000Z",
}
_NEW: Final = {"url": "https://crm.example.com/hooks/inboxd", "eventTypes": ["message.*"], "description": "CRM"}
_SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwWc3Yq1N5Hj0="  # noqa: S105 - an example
_ATTEMPT: Final = {
    "eventId": "evt_0199c1d2e3f40000000000001267",
    "type": "message.received",
    "accountId": "17841400000000001",
    "attempt": 1,
    "at": "2026-11-30T08:00:01.200Z",
    "latencyMs": 12,
    "delivered": True,
    "status": 200,
    "error": None,
    "response": "ok",
}
_FAILURE: Final = {
    "eventId": "evt_0199c1d2e3f40000000000001267",
    "type": "message.received",
    "state": "retrying",
    "attempts": 2,
    "nextAttemptAt": "2026-11-30T08:00:36.000Z",
    "recordedAt": "2026-11-30T08:00:01.100Z",
    "firstFailedAt": "2026-11-30T08:00:01.200Z",
    "error": "HTTP 500 Internal Server Error",
}
_TESTED: Final = {
    "delivered": True,
    "eventId": "evt_test_5f0c2ad1f1d84e3fb0a1c2d3",
    "type": "message.received",
    "status": 200,
    "latencyMs": 12,
    "error": None,
    "response": "ok",
}


class RotationQuery(Query, frozen=True):
    """How to rotate a secret."""

    keep_seconds: Annotated[int, Meta(ge=0, le=30 * DAY_S, description="How long the secret before also signs.")] = (
        DAY_S
    )


class TestQuery(Query, frozen=True):
    """Which sample to send."""

    type: Annotated[str, Meta(max_length=64, description="The type of the event.")] | None = None


class FailuresQuery(Page, frozen=True):
    """Which failures."""

    state: RetryState | None = None


class EndpointsApi:
    """The operations on webhook endpoints."""

    def __init__(self, service: EndpointService, progress: ProgressStore) -> None:
        self._service = service
        self._progress = progress

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        one, tag = PATH + "/{id}", "forwarding"
        created = {"body": _NEW, "answer": {**_EXAMPLE, "secret": _SECRET}}
        shown = {"answer": _EXAMPLE}
        listed = {"answer": {"endpoints": [_EXAMPLE], "total": 1}}
        page = {"total": 1, "limit": 50, "offset": 0}
        rotated = {"id": _EXAMPLE["id"], "secret": _SECRET, "previousSecretValidUntil": "2026-12-01T08:00:00.000Z"}
        return [
            Operation(
                "POST", PATH, self.create, tag, {201: EndpointWithSecret}, body=NewEndpoint, problems=(409,),
                examples=created,
            ),
            Operation("GET", PATH, self.all, tag, {200: EndpointList}, examples=listed),
            Operation("GET", one, self.one, tag, {200: EndpointResource}, examples=shown),
            Operation(
                "PATCH", one, self.change, tag, {200: EndpointResource}, body=EndpointChange,
                examples={"body": {"eventTypes": ["message.*", "conversation.*"]}, **shown},
            ),
            Operation("DELETE", one, self.delete, tag, {204: None}),
            Operation(
                "POST", one + "/rotate-secret", self.rotate, tag, {200: NewSecret}, query=RotationQuery,
                problems=(422,), examples={"answer": rotated},
            ),
            Operation(
                "POST", one + "/test", self.test, tag, {200: TestOutcome}, query=TestQuery, problems=(422,),
                examples={"answer": _TESTED},
            ),
            Operation(
                "POST", one + "/replay", self.replay, tag, {200: EndpointResource}, body=Replay,
                examples={"body": {"since": "2026-11-30T08:00:00Z"}, **shown},
            ),
            Operation(
                "GET", one + "/attempts", self.attempts, tag, {200: AttemptList}, query=Page,
                examples={"answer": {"attempts": [_ATTEMPT], **page}},
            ),
            Operation(
                "GET", one + "/failures", self.failures, tag, {200: FailureList}, query=FailuresQuery,
                examples={"answer": {"failures": [_FAILURE], **page}},
            ),
            Operation(
                "POST", one + "/failures/{eventId}/retry", self.retry, tag, {202: FailureResource},
                examples={"answer": _FAILURE},
            ),
        ]  # fmt: skip

    async def create(self, request: web.Request) -> web.Response:
        """Create a webhook endpoint.

        What happens from now on is pushed to its URL. The answer has the secret of its signatures, which is shown only
        here. The kind `standard` gets events; `meta` gets Meta's deliveries byte for byte, with Meta's signature.
        """
        wanted = body(request, NewEndpoint)
        endpoint = await _accepted(
            self._service.create(
                wanted.url,
                wanted.kind,
                event_types=wanted.event_types,
                account_ids=wanted.account_ids,
                description=wanted.description,
                enabled=wanted.enabled,
                rate_limit=wanted.rate_limit,
                timeout_s=wanted.timeout_seconds,
            )
        )
        standing = await self._service.standing(endpoint)
        resource = EndpointWithSecret(**fields_of(endpoint, standing), secret=revealed(endpoint.secret))
        return answer(resource, status=HTTPStatus.CREATED, headers={"Location": f"{PATH}/{endpoint.id}"})

    async def all(self, _request: web.Request) -> web.Response:
        """All webhook endpoints, with how far behind each is. There are at most 100."""
        endpoints = await self._service.all()
        found = [EndpointResource.of(one, await self._service.standing(one)) for one in endpoints]
        return answer(EndpointList(endpoints=found, total=len(found)))

    async def one(self, request: web.Request) -> web.Response:
        """One webhook endpoint: what it gets, how far behind it is, its last success and its last error."""
        return await self._answer(await self._find(request))

    async def change(self, request: web.Request) -> web.Response:
        """Change a webhook endpoint. Enabling it goes on from where it was."""
        wanted = body(request, EndpointChange)
        names = {"timeout_seconds": "timeout_s"}
        new: dict[str, Any] = {}
        for name, value in msgspec.structs.asdict(wanted).items():
            if value is not None:
                new[names.get(name, name)] = (
                    tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
                )
        return await self._answer(await _accepted(self._service.change(await self._find(request), **new)))

    async def delete(self, request: web.Request) -> web.Response:
        """Remove a webhook endpoint, with its attempts and failures."""
        await self._service.delete(await self._find(request))
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def rotate(self, request: web.Request) -> web.Response:
        """Make a new secret.

        It is shown only here. For `keepSeconds` every request is signed with both secrets, so that the receiver can
        be changed meanwhile.
        """
        keep_s = query(request, RotationQuery).keep_seconds
        endpoint = await self._find(request)
        secret, until = await _accepted(self._service.rotate(endpoint, keep_s))
        return answer(NewSecret(id=endpoint.id, secret=secret.reveal(), previous_secret_valid_until=iso(until) or ""))

    async def test(self, request: web.Request) -> web.Response:
        """Send a sample at once, and say what came of it. It counts as no attempt."""
        sample = await _accepted(self._service.test(await self._find(request), query(request, TestQuery).type))
        return answer(TestOutcome.of(*sample))

    async def replay(self, request: web.Request) -> web.Response:
        """Push again what was pushed before.

        From a cursor of the event log (`after`), or since a time (`since`). Events keep their ids, so a receiver
        recognizes those that it has. What is no longer kept cannot be pushed.
        """
        wanted = body(request, Replay)
        if (wanted.after is None) == (wanted.since is None):
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "Give either 'after' or 'since'.")
        since = _ms(wanted.since) if wanted.since is not None else None
        cursor = int(wanted.after) if wanted.after is not None else None
        endpoint = await self._find(request)
        return await self._answer(await _accepted(self._service.replay(endpoint, after=cursor, since=since)))

    async def attempts(self, request: web.Request) -> web.Response:
        """The latest attempts at an endpoint, the latest first.

        The last 1,000 of the last 7 days are kept; of an endpoint that gets very many, all failures and a part of the
        successes.
        """
        asked, endpoint = query(request, Page), await self._find(request)
        found, total = await self._progress.attempts(endpoint.id, limit=asked.limit, offset=asked.offset)
        listed = AttemptList(
            attempts=[AttemptResource.of(one) for one in found], total=total, limit=asked.limit, offset=asked.offset
        )
        return answer(listed, headers=page_links(request, total=total, limit=asked.limit, offset=asked.offset))

    async def failures(self, request: web.Request) -> web.Response:
        """What could not be delivered at first, and what waits behind it; the oldest first."""
        asked, endpoint = query(request, FailuresQuery), await self._find(request)
        found, total = await self._progress.failures(endpoint.id, asked.state, limit=asked.limit, offset=asked.offset)
        listed = FailureList(
            failures=[FailureResource.of(one) for one in found], total=total, limit=asked.limit, offset=asked.offset
        )
        return answer(listed, headers=page_links(request, total=total, limit=asked.limit, offset=asked.offset))

    async def retry(self, request: web.Request) -> web.Response:
        """Try one failure again at once, with its whole schedule."""
        endpoint, item_id = await self._find(request), request.match_info["eventId"]
        found = await self._progress.failure(endpoint.id, item_id)
        if found is None or not await self._service.retry(endpoint, item_id):
            raise not_found("failure of this endpoint")
        now = await self._progress.failure(endpoint.id, item_id)  # it may be delivered already
        return answer(FailureResource.of(now or found), status=HTTPStatus.ACCEPTED)

    async def _find(self, request: web.Request) -> Endpoint:
        endpoint = await self._service.get(request.match_info["id"])
        if endpoint is None:
            raise not_found("webhook endpoint")
        return endpoint

    async def _answer(self, endpoint: Endpoint) -> web.Response:
        return answer(EndpointResource.of(endpoint, await self._service.standing(endpoint)))


async def _accepted(doing: Awaitable[T]) -> T:
    """The result of a service's method. Raises ProblemError for what it refuses."""
    try:
        return await doing
    except TooManyEndpointsError as error:
        raise ProblemError(HTTPStatus.CONFLICT, str(error)) from error
    except (BadUrlError, BadEndpointError) as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


def _ms(text: str) -> int:
    """A time as milliseconds since the epoch. Raises ProblemError when it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        detail = "'since' must be a time with its zone, such as 2026-11-30T08:00:00Z."
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    return int(moment.timestamp() * 1000)
