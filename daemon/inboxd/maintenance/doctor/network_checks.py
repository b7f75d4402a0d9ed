"""Checks of the way to Meta, of the clock, and of the public address."""

import socket
import ssl
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from inboxd.config.schema import Settings
from inboxd.domain.account import LoginType
from inboxd.maintenance.doctor.diagnosis import Diagnosis, Severity
from inboxd.receiving.webhooks import PATH

TIMEOUT_S: Final = 10.0
MAX_SKEW_S: Final = 60


async def check_graph(settings: Settings, flavours: Collection[str]) -> AsyncIterator[Diagnosis]:
    """DNS, TLS and an HTTP answer of any status from each Graph API, and our clock against theirs."""
    urls = {settings.instagram.graph_url}
    if LoginType.FACEBOOK in {*flavours, *(account.login_type for account in settings.accounts)}:
        urls.add(settings.instagram.facebook_graph_url)
    for url in sorted(urls):
        try:
            date = await _date_of(url)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            yield Diagnosis("graph", Severity.WRONG, f"{url}: {_reason(error)}", _remedy(url, error))
            continue
        yield Diagnosis("graph", Severity.OK, f"{url} answers")
        if date is not None:
            yield _check_clock(date)


async def _date_of(url: str) -> datetime | None:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, allow_redirects=False) as response:
        text = response.headers.get("Date")
    try:
        return None if text is None else parsedate_to_datetime(text)
    except ValueError:
        return None


def _check_clock(theirs: datetime) -> Diagnosis:
    skew_s = round((datetime.now(UTC) - theirs).total_seconds())
    if abs(skew_s) <= MAX_SKEW_S:
        return Diagnosis("clock", Severity.OK, f"{abs(skew_s)} s from Meta's")
    return Diagnosis("clock", Severity.WRONG, f"{abs(skew_s)} s from Meta's", "timedatectl set-ntp true")


async def check_public_address(base_url: str) -> Diagnosis:
    """Whether the public address leads to an inboxd: it refuses a handshake with a wrong token in its own way."""
    url = f"{base_url}{PATH}?hub.mode=subscribe&hub.challenge=doctor&hub.verify_token=doctor"
    remedy = "See 'TLS in front' in docs/deploy.md; the proxy must pass /webhooks/instagram on as it is."
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            status, kind = response.status, response.content_type
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return Diagnosis("public address", Severity.WRONG, f"{base_url}: {_reason(error)}", remedy)
    if (status, kind) == (403, "application/problem+json"):
        return Diagnosis("public address", Severity.OK, f"{base_url} leads here")
    return Diagnosis("public address", Severity.WRONG, f"{base_url} answers HTTP {status}, which is not inboxd", remedy)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    return str(error) or type(error).__name__


def _remedy(url: str, error: Exception) -> str:
    host = urlsplit(url).hostname
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"The name cannot be resolved: check /etc/resolv.conf with  getent hosts {host}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "The certificate is not accepted: install ca-certificates, and check the clock."
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "TLS fails: something between here and Meta interferes; check proxies."
    return f"Let this machine connect to {host} on port {urlsplit(url).port or socket.getservbyname('https')}."
