"""HTTP connections to servers of others, which may answer anything."""

import asyncio
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

MAX_INTERIM: Final = 100
"""Interim answers (1xx) before an answer. A server that works for a minute may send one per second."""
SLICE: Final = 16 * 1024
"""Bytes that are parsed at once: they may hold hundreds of interim answers."""


class OutboundConnector(aiohttp.TCPConnector):
    """A connector for servers of others. A server that sends interim answers without end is disconnected.

    aiohttp skips any number of them, keeps all that it has not skipped yet, and serves nothing else meanwhile.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(**options)
        protocol: type[ResponseHandler] = _Responses
        self._factory = partial(protocol, loop=self._loop)


class _Responses(ResponseHandler):
    """The protocol of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._interim = 0

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401 - aiohttp's
        """A request begins."""
        self._interim = 0
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        for start in range(0, len(data) or 1, SLICE):
            super().data_received(data[start : start + SLICE])
            if self._interim > MAX_INTERIM:
                if self.transport is not None:
                    self.transport.abort()
                break

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Queue an answer."""
        if 100 <= data[0].code < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self.set_exception(HttpProcessingError(code=400, message="too many interim answers"))
                return
        super().feed_data(data, size)
