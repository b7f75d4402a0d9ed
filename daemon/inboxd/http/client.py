"""The admin API of the running daemon, as the commands use it."""

from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
import msgspec

from inboxd.config.schema import Secrets, Settings
from inboxd.runtime.errors import EX_UNAVAILABLE, ConfigError, InboxdError

T = TypeVar("T")
TIMEOUT_S: Final = 90.0


class DaemonError(InboxdError):
    """The running daemon does not answer, or says no."""

    exit_code = EX_UNAVAILABLE


class RefusedTokenError(DaemonError):
    """The running daemon does not know this admin token."""


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


class AdminClient:
    """An async context manager: it owns its connections."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        if secrets.admin_token is None:
            msg = "a daemon is running with this database, so the command goes through it: give it the admin_token too"
            raise ConfigError(msg)
        host = settings.admin.host
        shown = f"[{host}]" if ":" in host else {"0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
        self._base = f"http://{shown}:{settings.admin.port}"
        self._headers = {"Authorization": f"Bearer {secrets.admin_token.reveal()}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self, method: str, path: str, kind: type[T], body: object = None, *, absent: type[InboxdError] | None = None
    ) -> T:
        """One request; the answer as a `kind`. Raises DaemonError, or `absent` when there is no such thing."""
        if self._session is None:
            msg = "AdminClient is used outside its context"
            raise RuntimeError(msg)
        data: Any = None if body is None else msgspec.json.encode(body)
        try:
            async with self._session.request(method, self._base + path, data=data) as response:
                answer, status = await response.read(), response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            msg = f"the daemon at {self._base} does not answer: {type(error).__name__}"
            raise DaemonError(msg) from error
        try:
            if status >= 400:
                problem = msgspec.json.decode(answer, type=_Problem)
                raise _refusal(status, absent)(problem.detail or problem.title)
            return msgspec.json.decode(answer or b"null", type=kind)
        except msgspec.DecodeError as error:
            msg = f"the daemon at {self._base} answers HTTP {status} in a way that this inboxd does not understand"
            raise DaemonError(msg) from error


def _refusal(status: int, absent: type[InboxdError] | None) -> type[InboxdError]:
    if status == HTTPStatus.NOT_FOUND and absent is not None:
        return absent
    return RefusedTokenError if status == HTTPStatus.UNAUTHORIZED else DaemonError
