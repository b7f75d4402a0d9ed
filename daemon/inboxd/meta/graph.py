"""The Graph API, as far as inboxd asks it: participants' profiles.

"User Profile API" of the Instagram Platform. The token travels in the Authorization header, so that it is in no
URL, no log and no error.
"""

from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec

from inboxd.domain.profile import InvalidProfileError, Profile, validated_username
from inboxd.meta.graph_errors import GraphError, classified, transport

PROFILE_FIELDS: Final = (
    "name,username,profile_pic,follower_count,is_verified_user,is_user_follow_business,is_business_follow_user"
)
MAX_ANSWER_BYTES: Final = 1024 * 1024


class _ProfileAnswer(msgspec.Struct, frozen=True):
    username: str | None = None
    name: str | None = None
    profile_pic: str | None = None
    follower_count: int | None = None
    is_verified_user: bool | None = None
    is_user_follow_business: bool | None = None
    is_business_follow_user: bool | None = None
    error: "_Error | None" = None


class _Error(msgspec.Struct, frozen=True):
    code: int
    error_subcode: int | None = None


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: _Error


class GraphClient:
    """Calls one Graph API host. An async context manager: it owns its connections."""

    def __init__(self, base_url: str, version: str, *, timeout_s: float) -> None:
        self._root = f"{base_url.rstrip('/')}/{version}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": "inboxd"}
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def user_profile(self, igsid: str, token: str) -> Profile:
        """The profile of the participant `igsid`, as the account that `token` belongs to may see it.

        Raises GraphError, classified, for everything that is not a usable profile.
        """
        body = await self._get(igsid, {"fields": PROFILE_FIELDS}, token)
        try:
            answer = msgspec.json.decode(body, type=_ProfileAnswer)
            if answer.error is not None:  # an error envelope under status 200
                raise classified(answer.error.code, answer.error.error_subcode or None)
            return Profile(
                username=validated_username(answer.username),
                name=answer.name or None,
                profile_pic=answer.profile_pic or None,
                follower_count=answer.follower_count,
                is_verified_user=answer.is_verified_user,
                is_user_follow_business=answer.is_user_follow_business,
                is_business_follow_user=answer.is_business_follow_user,
            )
        except (msgspec.DecodeError, UnicodeDecodeError, InvalidProfileError) as error:
            msg = f"unusable profile: {error}"
            raise transport(msg) from error

    async def _get(self, path: str, query: dict[str, str], token: str) -> bytes:
        if self._session is None:
            msg = "GraphClient is used outside its context"
            raise RuntimeError(msg)
        try:
            async with self._session.get(
                f"{self._root}/{path}",
                params=query,
                headers={"Authorization": f"Bearer {token}"},
                allow_redirects=False,
            ) as response:
                body = await _read(response)
                status = response.status
        except TimeoutError as error:
            msg = "no answer in time"
            raise transport(msg) from error
        except aiohttp.ClientError as error:
            msg = f"no answer: {type(error).__name__}"
            raise transport(msg) from error
        if status == 200:
            return body
        raise _failure(status, body)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, unless it is larger than any honest answer."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            msg = f"the answer is larger than {MAX_ANSWER_BYTES} bytes"
            raise transport(msg)
        chunks.append(chunk)
    return b"".join(chunks)


def _failure(status: int, body: bytes) -> GraphError:
    try:
        error = msgspec.json.decode(body, type=_ErrorAnswer).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return transport(f"HTTP {status} without Meta's error envelope")
    return classified(error.code, error.error_subcode or None)
