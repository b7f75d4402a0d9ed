"""The client of the admin API, for commands that work through the running daemon."""

from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import IO, Final, Self, TypeVar

import aiohttp
import msgspec

from inboxd.runtime.errors import EX_UNAVAILABLE, InboxdError
from inboxd.runtime.secret import Secret

T = TypeVar("T")
TIMEOUT_S: Final = 90.0


class DaemonError(InboxdError):
    """The running daemon does not answer, or refuses the request."""

    exit_code = EX_UNAVAILABLE

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status of the answer. None when there was none that could be understood."""


class UnreachableError(DaemonError):
    """The daemon does not answer: it does not run, or cannot serve anybody just now."""


class RefusedTokenError(DaemonError):
    """The running daemon does not accept this admin token."""


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


class AdminClient:
    """A client of the admin API at `url`. It is an async context manager, since it owns its connections."""

    def __init__(self, url: str, token: Secret) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token.reveal()}"}
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
        self,
        method: str,
        path: str,
        kind: type[T],
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        absent: type[InboxdError] | None = None,
    ) -> T:
        """Send one request and decode the JSON answer as a `kind`.

        Raises DaemonError; for the status 404 it raises `absent` instead, where that is given.
        """
        data = None if body is None else msgspec.json.encode(body)
        return await self._exchange(method, path, kind, data, headers=headers, absent=absent)

    async def upload(self, path: str, kind: type[T], file: IO[bytes], more: Mapping[str, str]) -> T:
        """Send the bytes of `file` as they are and decode the JSON answer as a `kind`. Raises DaemonError.

        `more` are further headers.
        """
        headers = {"Content-Type": "application/octet-stream", **more}
        return await self._exchange("POST", path, kind, file, headers=headers, absent=None)

    async def _exchange(
        self,
        method: str,
        path: str,
        kind: type[T],
        data: bytes | IO[bytes] | None,
        *,
        headers: Mapping[str, str] | None,
        absent: type[InboxdError] | None,
    ) -> T:
        if self._session is None:
            msg = "AdminClient is used outside its context"
            raise RuntimeError(msg)
        try:
            async with self._session.request(method, self._url + path, data=data, headers=headers) as response:
                answer, status = await response.read(), response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            msg = f"the daemon at {self._url} does not answer: {type(error).__name__}"
            raise UnreachableError(msg) from error
        try:
            if status >= 400:
                problem = msgspec.json.decode(answer, type=_Problem)
                raise _refusal(status, problem.detail or problem.title, absent)
            return msgspec.json.decode(answer or b"null", type=kind)
        except msgspec.DecodeError as error:
            msg = f"the daemon at {self._url} answers HTTP {status} in a way that this inboxd does not understand"
            raise DaemonError(msg) from error


def _refusal(status: int, words: str, absent: type[InboxdError] | None) -> InboxdError:
    if status == HTTPStatus.NOT_FOUND and absent is not None:
        return absent(words)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return UnreachableError(words, status=status)
    kind = RefusedTokenError if status == HTTPStatus.UNAUTHORIZED else DaemonError
    return kind(words, status=status)
