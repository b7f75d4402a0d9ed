"""Fetches pictures from URLs that came from outside, and only from allowed hosts.

Only https, only Meta's hosts, and only public IP addresses are allowed. The check of the IP address is made on the
address that is really connected to: after DNS, and for every redirect. Size, time and redirects are limited.
"""

import ipaddress
import socket
from collections.abc import Collection, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import aiohttp
from yarl import URL

from inboxd.meta.response_body import read_at_most
from inboxd.runtime.errors import InboxdError

MAX_BYTES: Final = 5 * 1024 * 1024
TIMEOUT_S: Final = 10.0
MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({403, 404, 410})
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


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


class _ForbiddenAddressError(OSError):
    """The host's IP address is not public."""


class PictureClient:
    """Fetches pictures by the rules. An async context manager that owns its connections."""

    def __init__(self, rules: PictureRules) -> None:
        self._rules = rules
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=self._socket, limit=4),
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
            if _is_forbidden(error):
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

    def _socket(self, address: AddrInfo) -> socket.socket:
        """The socket for one connection. aiohttp calls this with the exact address that it is about to connect to."""
        family, kind, protocol, _, target = address
        if not is_allowed(ipaddress.ip_address(str(target[0]).partition("%")[0]), self._rules.allow_networks):
            raise _ForbiddenAddressError(str(target[0]))
        return socket.socket(family, kind, protocol)


def is_allowed(address: IpAddress, networks: Collection[IpNetwork]) -> bool:
    """Whether `address` is public or in one of `networks`. An address that wraps another is judged by that."""
    if any(address.version == network.version and address in network for network in networks):
        return True
    inner = _wrapped(address)
    if inner is not None:
        return is_allowed(inner, networks)
    return address.is_global and not address.is_multicast


def _wrapped(address: IpAddress) -> IpAddress | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _is_forbidden(error: BaseException | None) -> bool:
    """Whether we refused an address. aiohttp may put our error anywhere in the chain of causes."""
    while error is not None:
        if isinstance(error, _ForbiddenAddressError):
            return True
        error = error.__cause__ or error.__context__
    return False


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
