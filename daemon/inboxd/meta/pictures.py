"""Fetches pictures from URLs that came from outside, and only from allowed hosts.

Only https, only Meta's hosts, and only public IP addresses are allowed. The check of the IP address is made on the
address that is really connected to: after DNS, and for every redirect. Size, time and redirects are limited.
"""

from collections.abc import Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Final, NamedTuple, Self

import aiohttp
from yarl import URL

from inboxd.domain.addresses import IpAddress, IpNetwork, is_allowed
from inboxd.meta.response_body import read_at_most
from inboxd.runtime.connections import OutboundConnector
from inboxd.runtime.errors import InboxdError
from inboxd.runtime.sockets import CheckedSockets, is_forbidden

MAX_BYTES: Final = 5 * 1024 * 1024
TIMEOUT_S: Final = 10.0
MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({403, 404, 410})


class PictureRules(NamedTuple):
    """The hosts and networks that pictures may come from."""

    hosts: Sequence[str]
    """Host names. Their subdomains are allowed too."""
    allow_http: bool = False
    allow_networks: Sequence[IpNetwork] = ()
    """Networks that are allowed although they are not public."""


class PictureError(InboxdError):
    """A picture could not be fetched now. A later try may succeed."""


class PictureHostError(PictureError):
    """The host does not answer, or reports that it cannot. This says nothing about the picture."""


class PictureGoneError(PictureError):
    """The URL no longer works: Meta's URLs expire after days."""


class PictureRefusedError(PictureError):
    """The URL is not allowed, or the content is too large or not a usable picture. Another try cannot succeed."""


class PictureClient:
    """Fetches pictures by the rules. An async context manager that owns its connections."""

    def __init__(self, rules: PictureRules) -> None:
        self._rules = rules
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=OutboundConnector(socket_factory=CheckedSockets(self._may_connect), limit=4),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "inboxd", "Accept": "image/*"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, address: str) -> bytes:
        """The bytes at `address`.

        Raises PictureGoneError, PictureRefusedError, PictureHostError when the host of `address` does not answer, or
        PictureError for other temporary errors.
        """
        for hop in range(MAX_REDIRECTS + 1):
            try:
                found = await self._hop(self._checked(address))
            except PictureHostError as error:
                if hop:
                    raise PictureError(str(error)) from error  # the first host did answer: with a redirect to this one
                raise
            if isinstance(found, bytes):
                return found
            address = found
        msg = f"more than {MAX_REDIRECTS} redirects"
        raise PictureRefusedError(msg)

    async def _hop(self, url: URL) -> bytes | str:
        """The bytes at `url`, or the URL that it redirects to."""
        if self._session is None:
            msg = "PictureClient is used outside its context"
            raise RuntimeError(msg)
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status in _REDIRECTS:
                    return str(url.join(URL(response.headers.get("Location", ""))))
                if response.status != HTTPStatus.OK:
                    raise _failure(response.status)
                return await _read(response)
        except TimeoutError as error:
            msg = "no answer in time"
            raise PictureHostError(msg) from error
        except aiohttp.ClientConnectorError as error:
            if is_forbidden(error):
                raise PictureRefusedError(f"{url.host} has no public address") from error
            raise PictureHostError(f"no answer: {type(error).__name__}") from error
        except aiohttp.ClientError as error:
            raise PictureHostError(f"no answer: {type(error).__name__}") from error
        except ValueError as error:
            msg = "a redirect to what is no address"
            raise PictureRefusedError(msg) from error

    def _checked(self, address: str) -> URL:
        try:
            url = URL(address)
        except ValueError as error:
            msg = "not an address"
            raise PictureRefusedError(msg) from error
        if url.scheme != "https" and not (url.scheme == "http" and self._rules.allow_http):
            raise PictureRefusedError(f"{url.scheme or 'no scheme'} is not https")
        if url.user is not None or url.password is not None:
            msg = "an address with a user name"
            raise PictureRefusedError(msg)
        host = (url.host or "").rstrip(".").lower()
        if not any(host == allowed or host.endswith("." + allowed) for allowed in self._rules.hosts):
            raise PictureRefusedError(f"{host or 'no host'} is not one of the allowed hosts")
        return url

    def _may_connect(self, address: IpAddress) -> bool:
        return is_allowed(address, self._rules.allow_networks)


def _failure(status: int) -> PictureError:
    said = f"HTTP {status}"
    if status in _GONE:
        return PictureGoneError(said)
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return PictureHostError(said)
    return PictureError(said)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = await read_at_most(response, MAX_BYTES)
    if body is None:
        raise PictureRefusedError(f"larger than {MAX_BYTES} bytes")
    return body
