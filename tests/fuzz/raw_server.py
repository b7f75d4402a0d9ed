"""A server that answers each path with the bytes that were put there, whatever they are."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


class RawServer:
    """`answers` are whole HTTP responses, or what should be one, by the path's last part; `usual` makes the others."""

    def __init__(self, usual: Callable[[str, str], bytes]) -> None:
        self.answers: dict[str, bytes] = {}
        self.url = ""
        self._usual = usual

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            method, target, _ = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ", 2)
            last = target.partition("?")[0].rpartition("/")[2]
            found = self.answers.get(last)
            writer.write(self._usual(method, last) if found is None else found)
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def listening(usual: Callable[[str, str], bytes]) -> AsyncIterator[RawServer]:
    """A RawServer on a free port."""
    raw = RawServer(usual)
    server = await asyncio.start_server(raw.answer, "127.0.0.1", 0)
    raw.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        server.close()


def response(body: bytes, *, status: str = "200 OK", headers: bytes = b"Content-Type: application/json\r\n") -> bytes:
    """A whole HTTP response."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n".encode()
    return head + headers + b"\r\n" + body
