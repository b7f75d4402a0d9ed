"""What a receiver may answer that is no answer: it costs the daemon little, and says what is wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from inboxd.domain.forwarding import Unreached
from inboxd.forwarding.target import BadUrlError, PushAnswer, TargetClient, checked
from inboxd.runtime.clock import Clock

Respond = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(respond: Respond) -> AsyncIterator[str]:
    """A server that reads a request and then does as it likes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await respond(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def post(url: str, *, timeout_s: float = 5.0) -> PushAnswer:
    async with TargetClient(Clock(), lambda: ()) as target:
        return await target.post(url, {}, b"{}", timeout_s=timeout_s)


async def test_a_receiver_that_continues_for_ever_is_left_at_once() -> None:
    sent = 0

    async def respond(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 400)
            sent += 400
            await writer.drain()

    async with answering(respond) as url:
        answer = await post(url)
    assert answer.outcome is Unreached.RESET, "not a timeout: until then it would be read as fast as it comes"
    assert sent < 1_000_000


async def test_a_few_interim_answers_are_none() -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 50 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with answering(respond) as url:
        answer = await post(url)
    assert (answer.outcome, answer.text) == (200, "ok")


async def test_interim_answers_count_anew_for_each_request() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(2)
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 50 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, TargetClient(Clock(), lambda: ()) as target:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        answers = [await target.post(url, {}, b"{}", timeout_s=5) for _ in range(4)]
    assert [answer.outcome for answer in answers] == [200] * 4


async def test_what_is_no_http_is_said_in_words() -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x15\x03\x03\x00\x02\x02\x46")  # a TLS alert: http:// was given for https://
        await writer.drain()

    async with answering(respond) as url:
        answer = await post(url)
    assert answer.outcome is Unreached.RESET
    assert answer.error is not None
    assert "https://" in answer.error


HOSTS_THAT_ARE_NONE = ["a..b", "....", "a" * 64 + ".example", "127.1", "169.254.169.254.", "0x7f.1", "localhost%00.com"]


@pytest.mark.parametrize("host", HOSTS_THAT_ARE_NONE)
async def test_a_host_that_cannot_be_looked_up_is_refused_and_is_no_defect_of_ours(host: str) -> None:
    with pytest.raises(BadUrlError, match="host"):
        checked(f"http://{host}:9/")
    answer = await post(f"http://{host}:9/")  # it may be stored already
    assert answer.outcome is Unreached.REFUSED


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost.", "bücher.example", "3com.com", "127.0.0.1", "[::1]", "a_b.internal", "0xbad.example"],
)
def test_every_usual_host_is_taken(host: str) -> None:
    assert checked(f"http://{host}:9/")
