"""The way to a receiver: which URLs may be set, and one POST to one of them."""

import asyncio
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address
from types import SimpleNamespace, TracebackType
from typing import Final, NamedTuple, Self

import aiohttp
from yarl import URL

from inboxd import __version__
from inboxd.domain.addresses import IpAddress, IpNetwork, is_receiver
from inboxd.domain.forwarding import Unreached
from inboxd.runtime.clock import Clock
from inboxd.runtime.connections import OutboundConnector
from inboxd.runtime.errors import InboxdError
from inboxd.runtime.sockets import CheckedSockets, is_forbidden

MAX_URL: Final = 2048
MAX_HOST: Final = 253
MAX_LABEL: Final = 63
KEPT_BYTES: Final = 1024
"""Bytes of an answer that are kept."""
DRAINED_BYTES: Final = 64 * 1024
"""Bytes of an answer that are read, so that the connection can be used again. It is closed when there are more."""
ANSWER_S: Final = 2.0
"""How long the body of an answer may take. The status alone decides."""
CONNECT_S: Final = 10.0
KEEPALIVE_S: Final = 4.0
RESOLVE_S: Final = 3.0
FORBIDDEN: Final = "inboxd does not connect to the address of this host"
_NO_NAME: Final = re.compile(r"[0-9.]+|(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*\.?")
"""Numbers that the resolver takes for an IPv4 address, and that aiohttp refuses."""
_CERTIFICATE: Final = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed, and not trusted on this machine",
    19: "is of an authority that is not trusted on this machine",
    20: "is of an authority that is not trusted on this machine, or the server does not send the one in between",
    21: "is of an authority that is not trusted on this machine, or the server does not send the one in between",
    62: "is not for this host",
    64: "is not for this IP address",
}
"""OpenSSL's reasons for refusing a certificate (openssl-verification-options(1)), as far as users can do something."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")


class BadUrlError(InboxdError):
    """The URL of an endpoint cannot be used. The message says why, and what to do."""


class PushAnswer(NamedTuple):
    """What came of one POST."""

    outcome: int | Unreached
    """The HTTP status, or why there is none."""
    latency_ms: int
    error: str | None = None
    """What went wrong, without anything of the URL. None: it was delivered."""
    text: str | None = None
    """The beginning of the answer."""
    retry_after_s: float | None = None
    """When to come again, where the answer says so."""

    @property
    def status(self) -> int | None:
        """The HTTP status, if there was an answer."""
        return None if isinstance(self.outcome, Unreached) else self.outcome


class TargetClient:
    """Sends to receivers. An async context manager that owns its connections.

    `networks` is asked for each connection: when it is not empty, receivers may only be in these networks.
    """

    def __init__(self, clock: Clock, networks: Callable[[], Sequence[IpNetwork]]) -> None:
        self._clock = clock
        self._networks = networks
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # No limit of connections: a receiver that hangs must take none from others. Each worker has few lanes.
            connector=OutboundConnector(
                limit=0, keepalive_timeout=KEEPALIVE_S, socket_factory=CheckedSockets(self._may_connect)
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"inboxd/{__version__}", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            trace_configs=[_noting_reuse()],
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(self, url: str) -> None:
        """Check a URL that somebody sets. Raises BadUrlError."""
        host = checked(url).host or ""
        for address in await _addresses(host):
            if not self._may_connect(address):
                raise BadUrlError(_refusal(is_literal=_is_literal(host), narrowed=bool(self._networks())))

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> PushAnswer:
        """Send `body` once. No error of the receiver or the network is raised: it is in the answer."""
        started = self._clock.monotonic()
        way = _Way()
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._post(url, headers, body, started, way)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    if not way.is_reused:
                        raise
                    # The receiver may have closed an idle connection in the moment in which it was used again.
                    return await self._post(url, headers, body, started, _Way())
        except TimeoutError:
            return PushAnswer(Unreached.TIMEOUT, self._since(started), f"no answer within {timeout_s:g} s")
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            return PushAnswer(*_unreached(error, self._since(started)))

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes, started: float, way: "_Way") -> PushAnswer:
        if self._session is None:
            msg = "TargetClient is used outside its context"
            raise RuntimeError(msg)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        async with self._session.post(
            URL(url), data=body, headers=headers, allow_redirects=False, timeout=timeout, trace_request_ctx=way
        ) as response:
            latency_ms = self._since(started)
            text = await _beginning(response)
            retry_after_s = self._retry_after_s(response.headers.get("Retry-After"))
            status = response.status
        error = None if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES else _said(status)
        return PushAnswer(status, latency_ms, error, text, retry_after_s)

    def _may_connect(self, address: IpAddress) -> bool:
        return is_receiver(address, self._networks())

    def _since(self, started: float) -> int:
        return round((self._clock.monotonic() - started) * 1000)

    def _retry_after_s(self, text: str | None) -> float | None:
        """Seconds, from a number of seconds or a date; None for anything else."""
        if text is None:
            return None
        if re.fullmatch(r"[0-9]{1,9}", text.strip()):
            return float(text)
        try:
            return parsedate_to_datetime(text).timestamp() - self._clock.now_ms() / 1000
        except (ValueError, TypeError, OverflowError):
            return None


def checked(text: str) -> URL:
    """The URL of an endpoint. Raises BadUrlError when it is none; addresses are not looked at."""
    if len(text) > MAX_URL:
        msg = f"The URL is longer than {MAX_URL} characters."
        raise BadUrlError(msg)
    try:
        url = URL(text)
        port = url.port
    except ValueError as error:
        msg = "This is not a URL. Give one such as https://crm.example.com/hooks/inboxd."
        raise BadUrlError(msg) from error
    if _CONTROL.search(text) or " " in text or url.scheme not in {"http", "https"} or not url.host or not port:
        msg = "This is not a URL that can be pushed to. Give one that begins with https:// or http:// and has a host."
        raise BadUrlError(msg)
    if not _is_usable(url.raw_host or ""):
        msg = "The host of this URL is neither a name nor an IP address. Write an IP address in full, as 127.0.0.1."
        raise BadUrlError(msg)
    if url.user is not None or url.password is not None or "@" in url.raw_authority:
        msg = "A URL with a user name or a password is not taken. The receiver can check the signature instead."
        raise BadUrlError(msg)
    return url


def _is_usable(host: str) -> bool:
    """Whether a host is an IP address or can be looked up. Short forms of addresses, such as 127.1, cannot."""
    if _is_literal(host.partition("%")[0] if ":" in host else host):
        return True
    labels = host.removesuffix(".").split(".")
    return (
        len(host) <= MAX_HOST
        and all(0 < len(label) <= MAX_LABEL for label in labels)
        and not _NO_NAME.fullmatch(host)
        and "%" not in host
    )


def host_of(text: str) -> str:
    """The host and port of a URL: what may be logged of it."""
    try:
        return URL(text).raw_authority.rpartition("@")[2]
    except ValueError:
        return ""


class _Way:
    """How one request went."""

    is_reused = False
    """Whether it used a connection that was open before."""


def _noting_reuse() -> aiohttp.TraceConfig:
    async def note(_session: object, context: SimpleNamespace, _about: object) -> None:
        context.trace_request_ctx.is_reused = True

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(note)
    return config


async def _addresses(host: str) -> list[IpAddress]:
    """The addresses of a host; none when its name is not known just now."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return []
    return [ip_address(str(target[0]).partition("%")[0]) for *_, target in found]


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refusal(*, is_literal: bool, narrowed: bool) -> str:
    subject = "This address" if is_literal else "The name of this host leads to an address that"
    if narrowed:
        return (
            f"{subject} is not in the networks of forward.allow_networks. Add its network there, or use another host."
        )
    return (
        f"{subject} is link-local, of a metadata service, or no address of one machine. Use the receiver's own address."
    )


async def _beginning(response: aiohttp.ClientResponse) -> str | None:
    """The first KiB of the body as text. A body that is long or late is left."""
    kept, size = b"", 0
    try:
        async with asyncio.timeout(ANSWER_S):
            async for chunk in response.content.iter_any():
                kept += chunk[: KEPT_BYTES - len(kept)]
                size += len(chunk)
                if size > DRAINED_BYTES:
                    response.close()
                    break
    except (TimeoutError, aiohttp.ClientError, OSError):
        response.close()
    return tamed(kept.decode("utf-8", "replace")) or None


def tamed(text: str) -> str:
    """Text from outside without control characters."""
    return _CONTROL.sub(" ", text).strip()


def _said(status: int) -> str:
    try:
        said = f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        said = f"HTTP {status}"
    return f"{said}: redirects are not followed; set the URL that it leads to" if status in _REDIRECTS else said


def _unreached(error: Exception, latency_ms: int) -> tuple[Unreached, int, str]:
    """The beginning of an answer, without anything of the URL."""
    if isinstance(error, aiohttp.ClientConnectorDNSError | aiohttp.InvalidURL | UnicodeError):
        return Unreached.REFUSED, latency_ms, "the name of the host is not known"
    if isinstance(error, aiohttp.ClientSSLError):
        return Unreached.REFUSED, latency_ms, _tls_reason(error)
    if is_forbidden(error):
        return Unreached.FORBIDDEN, latency_ms, FORBIDDEN
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unreached.REFUSED, latency_ms, f"no connection: {_reason(error)}"
    if isinstance(error, aiohttp.ClientResponseError):
        return Unreached.RESET, latency_ms, "the answer is not HTTP as it must be; perhaps another port, or https://"
    return Unreached.RESET, latency_ms, f"the connection broke: {type(error).__name__}"


def _tls_reason(error: aiohttp.ClientSSLError) -> str:
    if not isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "TLS failed; perhaps the port is another, or http:// is meant"
    code = getattr(error.certificate_error, "verify_code", 0)
    return f"the certificate of the host {_CERTIFICATE.get(code, 'is not valid')}"


def _reason(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    return cause.strerror or type(cause).__name__
