"""How commands reach webhook endpoints: through the running daemon, or, to look at them, in the database."""

from collections.abc import Mapping
from typing import Protocol, TypeVar
from urllib.parse import quote, urlencode

from inboxd.forwarding.api import PATH
from inboxd.forwarding.endpoint import Endpoint
from inboxd.forwarding.resources import (
    AttemptList,
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
)
from inboxd.forwarding.service import EndpointService
from inboxd.http.client import AdminClient
from inboxd.runtime.errors import EX_USAGE, InboxdError

T = TypeVar("T")


class NoSuchEndpointError(InboxdError):
    """There is no such endpoint, or no such failure of it."""

    exit_code = EX_USAGE


class EndpointsView(Protocol):
    """What commands can see of endpoints, in either way."""

    async def all(self) -> EndpointList:
        """Every endpoint, the oldest first."""

    async def one(self, endpoint_id: str) -> EndpointResource:
        """One endpoint. Raises NoSuchEndpointError."""


class NoWorkers:
    """The workers of endpoints when no daemon runs: there are none."""

    def start(self, endpoint: Endpoint) -> None:
        """Nothing is pushed."""

    async def end(self, endpoint_id: str) -> None:
        """Nothing is pushed."""

    def reload(self, endpoint_id: str) -> None:
        """Nothing is pushed."""

    def cursor(self, endpoint_id: str) -> int | None:  # noqa: ARG002 - the protocol's
        """What is in the database is all."""
        return None


class LocalEndpoints:
    """The endpoints in a database that no daemon is using. Raises InboxdError."""

    def __init__(self, service: EndpointService) -> None:
        self._service = service

    async def all(self) -> EndpointList:
        """Every endpoint, the oldest first."""
        found = [await self._shown(one) for one in await self._service.all()]
        return EndpointList(endpoints=found, total=len(found))

    async def one(self, endpoint_id: str) -> EndpointResource:
        """One endpoint. Raises NoSuchEndpointError."""
        endpoint = await self._service.get(endpoint_id)
        if endpoint is None:
            msg = f"there is no webhook endpoint {endpoint_id}; 'inboxd endpoints list' shows which there are"
            raise NoSuchEndpointError(msg)
        return await self._shown(endpoint)

    async def _shown(self, endpoint: Endpoint) -> EndpointResource:
        return EndpointResource.of(endpoint, await self._service.standing(endpoint))


class RemoteEndpoints:
    """The endpoints of the running daemon. Raises InboxdError."""

    def __init__(self, remote: AdminClient) -> None:
        self._remote = remote

    async def all(self) -> EndpointList:
        """Every endpoint, the oldest first."""
        return await self._remote.call("GET", PATH, EndpointList)

    async def one(self, endpoint_id: str) -> EndpointResource:
        """One endpoint. Raises NoSuchEndpointError."""
        return await self._call("GET", _path(endpoint_id), EndpointResource)

    async def add(self, new: NewEndpoint) -> EndpointWithSecret:
        """Create an endpoint."""
        return await self._remote.call("POST", PATH, EndpointWithSecret, new)

    async def update(self, endpoint_id: str, change: EndpointChange) -> EndpointResource:
        """Change an endpoint. Raises NoSuchEndpointError."""
        return await self._call("PATCH", _path(endpoint_id), EndpointResource, change)

    async def remove(self, endpoint_id: str) -> None:
        """Remove an endpoint. Raises NoSuchEndpointError."""
        await self._call("DELETE", _path(endpoint_id), type(None))

    async def rotate(self, endpoint_id: str, keep_s: int) -> NewSecret:
        """A new secret; the one before signs too for `keep_s` seconds. Raises NoSuchEndpointError."""
        query = {"keepSeconds": str(keep_s)}
        return await self._call("POST", _path(endpoint_id, "rotate-secret", query=query), NewSecret)

    async def test(self, endpoint_id: str, kind: str | None) -> TestOutcome:
        """Send a sample. Raises NoSuchEndpointError."""
        query = {} if kind is None else {"type": kind}
        return await self._call("POST", _path(endpoint_id, "test", query=query), TestOutcome)

    async def replay(self, endpoint_id: str, start: Replay) -> EndpointResource:
        """Push again from `start`. Raises NoSuchEndpointError."""
        return await self._call("POST", _path(endpoint_id, "replay"), EndpointResource, start)

    async def attempts(self, endpoint_id: str, limit: int) -> AttemptList:
        """The latest attempts, the latest first. Raises NoSuchEndpointError."""
        return await self._call("GET", _path(endpoint_id, "attempts", query={"limit": str(limit)}), AttemptList)

    async def failures(self, endpoint_id: str, state: str | None, limit: int) -> FailureList:
        """What could not be delivered at first. Raises NoSuchEndpointError."""
        query = {"limit": str(limit)} if state is None else {"limit": str(limit), "state": state}
        return await self._call("GET", _path(endpoint_id, "failures", query=query), FailureList)

    async def retry(self, endpoint_id: str, event_id: str) -> FailureResource:
        """Try a failure again at once. Raises NoSuchEndpointError."""
        return await self._call("POST", _path(endpoint_id, "failures", event_id, "retry"), FailureResource)

    async def _call(self, method: str, path: str, kind: type[T], body: object = None) -> T:
        return await self._remote.call(method, path, kind, body, absent=NoSuchEndpointError)


def _path(*parts: str, query: Mapping[str, str] | None = None) -> str:
    path = "/".join([PATH, *(quote(part, safe="") for part in parts)])
    return f"{path}?{urlencode(query)}" if query else path
