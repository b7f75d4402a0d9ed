"""Compression of responses, when the client accepts it: zstd (RFC 8878) or gzip."""

import asyncio
import sys
from typing import Final

from aiohttp import web

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS_FROM: Final = 1024
"""Bytes. Smaller responses are sent uncompressed."""
IN_THREAD_FROM: Final = 65_536
"""Bytes. Larger responses are compressed in a thread, so that the event loop is not blocked."""


async def compressed(request: web.Request, response: web.Response) -> web.Response:
    """The response, compressed with an encoding that the client accepts (RFC 9110, 12.5.3)."""
    if not isinstance(response.body, bytes) or len(response.body) < COMPRESS_FROM:
        return response
    response.headers["Vary"] = "Accept-Encoding"
    if _accepts(request, "zstd"):
        large = len(response.body) >= IN_THREAD_FROM
        response.body = await asyncio.to_thread(zstd.compress, response.body) if large else zstd.compress(response.body)
        response.headers["Content-Encoding"] = "zstd"
    elif _accepts(request, "gzip"):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def _accepts(request: web.Request, encoding: str) -> bool:
    for part in request.headers.get("Accept-Encoding", "").split(","):
        name, _, quality = part.partition(";")
        if name.strip().lower() == encoding:
            return quality.replace(" ", "").lower() not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
