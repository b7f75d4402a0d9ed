"""Fetches the files that are sent by their addresses, and refuses what Meta refuses."""

import asyncio
import hashlib
from typing import Final

import aiohttp

from inboxd.simulator.errors import RefusedError, refused
from inboxd.simulator.sent import FetchedMedia

_MIB: Final = 1024 * 1024
LARGEST: Final = {"image": 8 * _MIB, "audio": 25 * _MIB, "video": 25 * _MIB, "file": 25 * _MIB}
FORMATS: Final = {
    "image": ("image/png", "image/jpeg", "image/gif"),
    "audio": ("audio/aac", "audio/mp4", "audio/m4a", "audio/x-m4a", "audio/wav", "audio/x-wav", "video/mp4"),
    "video": ("video/mp4", "video/ogg", "video/x-msvideo", "video/quicktime", "video/webm"),
    "file": ("application/pdf",),
}
_CHUNK: Final = 65_536


async def fetched(session: aiohttp.ClientSession, kind: str, url: str, timeout_s: float) -> FetchedMedia:
    """The file at `url`, to be sent as `kind`. Raises RefusedError with Meta's code. Redirects are not followed."""
    try:
        async with asyncio.timeout(timeout_s), session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise _unfetched(f"the server answers {response.status}")
            content_type = response.content_type
            _check_format(kind, content_type)
            size, digest = 0, hashlib.sha256()
            async for chunk in response.content.iter_chunked(_CHUNK):
                size += len(chunk)
                digest.update(chunk)
                if size > LARGEST[kind]:
                    raise refused(100, "Attachment size exceeds allowable limit", subcode=2018109)
    except TimeoutError as error:
        if kind == "video":
            raise refused(100, "Timeout while fetching the video", subcode=2018294) from error
        raise _unfetched("it takes too long") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise _unfetched(type(error).__name__) from error
    if not size:
        raise _unfetched("it is empty")
    return FetchedMedia(kind, url, content_type, size, digest.hexdigest())


def _unfetched(why: str) -> RefusedError:
    return refused(100, f"Failed to fetch the file from the url: {why}", subcode=2018008)


def _check_format(kind: str, content_type: str) -> None:
    if content_type in FORMATS[kind]:
        return
    if content_type.split("/", maxsplit=1)[0] == kind:
        raise refused(100, f"The format {content_type} is not supported", subcode=2534080)
    raise refused(100, f"The url is no {kind} but {content_type}", subcode=2018047)
