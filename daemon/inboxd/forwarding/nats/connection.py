"""One connection to a NATS server with JetStream. The only module that uses the library `nats`.

The library can reconnect by itself. That is turned off: events that were in flight are published again from the cursor,
on a new connection, in their order.
"""

import asyncio
import itertools
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import AuthorizationError, NoServersError, SecureConnWantedError, UnexpectedEOF
from nats.errors import Error as NatsError
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from inboxd.forwarding.nats.nkey import Signer
from inboxd.forwarding.nats.server import Server
from inboxd.forwarding.nats.subject import SubjectTemplate, covers
from inboxd.runtime.errors import ConfigError, InboxdError

CONNECT_TIMEOUT_S: Final = 5
REQUEST_TIMEOUT_S: Final = 5
CLOSE_TIMEOUT_S: Final = 1.0
ACK_TIMEOUT_S: Final = 10.0
PING_S: Final = 20
SLICE: Final = 50
"""Messages that are sent before the event loop serves others."""
DUPLICATE_WINDOW_S: Final = 3600
"""For how long a stream that we make recognizes an event that it already has."""
SHORT_WINDOW_S: Final = 60
"""A shorter window is said: it may be over before a connection comes back."""
MAX_AGE_S: Final = 30 * 86_400
"""For how long a stream that we make keeps events."""
MAX_REASON: Final = 300
_ID: Final = "Nats-Msg-Id"
_STREAM: Final = "Nats-Expected-Stream"
_AFTER: Final = "Nats-Expected-Last-Msg-Id"
_TOO_LARGE: Final = 10054
_OUT_OF_ORDER: Final = frozenset({10070, 10158})
"""The message before it is not the last one of the stream; an earlier try of it is still being stored."""
_NO_RESPONDERS: Final = "503"
_FORBIDDEN: Final = "permissions violation for publish"


class NatsUnavailableError(InboxdError):
    """NATS does not take events now. The message says why, for whoever runs inboxd."""


class OutgoingMessage(NamedTuple):
    """An event to publish."""

    subject: str
    id: str
    body: bytes


class PublishOutcome(StrEnum):
    """What became of a message."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    """The stream had it already."""
    TOO_LARGE = "too_large"
    """It will never be taken."""
    OUT_OF_ORDER = "out_of_order"
    """One before it was not stored, so it was not either."""
    REFUSED = "refused"
    LOST = "lost"
    """There was no answer; it may be stored."""
    NO_STREAM = "no_stream"


class PublishResult(NamedTuple):
    """What became of a message, and why."""

    outcome: PublishOutcome
    reason: str = ""


class _Error(msgspec.Struct):
    description: str = ""
    err_code: int = 0


class _Ack(msgspec.Struct):
    error: _Error | None = None
    duplicate: bool = False


class _Client(Client):
    """The library's client, with what it lacks."""

    def __init__(self, *, needs_tls: bool, public_key: str | None) -> None:
        super().__init__()
        self._needs_tls = needs_tls
        self._public_nkey = public_key  # else only the library's own reading of seeds sets it

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 - the library's
        """Called before anything secret is sent. The library would go on without TLS when the server offers none."""
        if initial_connection and self._needs_tls:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise SecureConnWantedError
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)


class JetStream:
    """A connection. `on_lost` is called once when it ends without `close`."""

    def __init__(self, client: Client, stream: str, subjects: SubjectTemplate, on_lost: Callable[[], None]) -> None:
        self._client = client
        self._stream = stream
        self._subjects = subjects
        self._on_lost = on_lost
        self._inbox = client.new_inbox()
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[PublishResult]] = {}
        self._closing = False
        self.lost: str | None = None
        """Why the connection ended."""
        self._last_error = ""

    @classmethod
    async def open(cls, server: Server, stream: str, subjects: SubjectTemplate, on_lost: Callable[[], None]) -> Self:
        """Connect and sign in. Raises NatsUnavailableError."""
        try:
            signer, context = server.signer(), server.tls_context()
        except ConfigError as error:
            raise NatsUnavailableError(str(error)) from error
        client = _Client(needs_tls=server.needs_tls, public_key=signer and signer.public_key)
        opened = cls(client, stream, subjects, on_lost)
        try:
            await opened._connect(server, signer, context)
        except BaseException:
            await opened.close()
            raise
        return opened

    async def _connect(self, server: Server, signer: Signer | None, context: ssl.SSLContext) -> None:
        try:
            await self._client.connect(
                list(server.urls),
                name="inboxd",
                error_cb=self._note,
                closed_cb=self._closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIMEOUT_S,
                ping_interval=PING_S,
                tls=context,
                user=server.user or None,
                password=None if server.password is None else server.password.reveal(),
                token=None if server.token is None else server.token.reveal(),
                signature_cb=None if signer is None else signer.sign,
                user_jwt_cb=None if signer is None or signer.jwt is None else signer.jwt.encode,
            )
            await self._client.subscribe(f"{self._inbox}.*", cb=self._answered)
            self._last_error = ""  # of other servers, which may be away
        except Exception as error:
            reason = self._last_error if isinstance(error, NoServersError) and self._last_error else _described(error)
            raise NatsUnavailableError(f"cannot connect: {reason}") from error

    async def close(self) -> None:
        """Close the connection. Never raises."""
        self._closing = True
        with suppress(Exception):  # after a TLS handshake that failed, the library waits for ever
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._client.close()
        self._fail_waiting(PublishResult(PublishOutcome.LOST, "the connection was closed"))

    @property
    def address(self) -> str:
        """The server's host and port."""
        url = self._client.connected_url
        return url.netloc.rpartition("@")[2] if url else ""

    async def ensure_stream(self) -> tuple[bool, str | None]:
        """Make the stream if there is none. Whether it was made, and what is wrong with one that was there.

        Raises NatsUnavailableError.
        """
        manager = self._client.jetstream(timeout=REQUEST_TIMEOUT_S)
        try:
            return False, self._unfit(await manager.stream_info(self._stream))
        except NotFoundError:
            pass
        except Exception as error:
            raise NatsUnavailableError(f"cannot look at the stream {self._stream}: {self._explained(error)}") from error
        wanted = StreamConfig(
            name=self._stream,
            description="Events of inboxd",
            subjects=[self._subjects.everything],
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            storage=StorageType.FILE,
            max_age=MAX_AGE_S,
            duplicate_window=DUPLICATE_WINDOW_S,
        )
        try:
            await manager.add_stream(wanted)
        except Exception as error:
            raise NatsUnavailableError(f"cannot make the stream {self._stream}: {self._explained(error)}") from error
        return True, None

    def _unfit(self, info: StreamInfo) -> str | None:
        """What is wrong with the stream. Events are published all the same: the server decides."""
        config, wanted = info.config, self._subjects.pattern
        if not any(covers(subject, wanted) for subject in config.subjects or []):
            return (
                f"the stream {self._stream} does not take the subjects {wanted}: add {self._subjects.everything} to it"
            )
        if config.no_ack:
            return f"the stream {self._stream} acknowledges nothing (no_ack): set it to false"
        if config.duplicate_window < SHORT_WINDOW_S:
            window = f"for only {config.duplicate_window:g} s"
            return f"the stream {self._stream} recognizes duplicates {window}: set its duplicate window to 2m or more"
        return None

    async def last_id(self) -> str | None:
        """The id of the last event of ours in the stream. None if there is none, or we may not look."""
        manager = self._client.jetstream(timeout=REQUEST_TIMEOUT_S)
        try:
            found = await manager.get_last_msg(self._stream, self._subjects.everything)
        except (NatsError, TimeoutError):
            return None
        return (found.headers or {}).get(_ID)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[PublishResult]:
        """Publish `messages` in this order, all in flight at a time. Returns what became of each one.

        Each one says which one is before it: the server stores none whose predecessor it has not stored.
        """
        self._last_error = ""
        answers = [self._refusal(message) for message in messages]
        futures: list[asyncio.Future[PublishResult]] = []
        before: str | None = None
        try:
            for number, message in enumerate(messages):
                if answers[number] is None:
                    futures.append(await self._send(message, before))
                    before = message.id
                if number % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
            if futures:
                await asyncio.wait(futures, timeout=ACK_TIMEOUT_S)
        except (NatsError, OSError) as error:
            self._fail_waiting(PublishResult(PublishOutcome.LOST, _described(error)))
        finally:
            self._waiting.clear()
        settled = iter([self._settled(future) for future in futures])
        unsent = PublishResult(PublishOutcome.LOST, self.lost or "the connection ended")
        return [answer or next(settled, unsent) for answer in answers]

    async def _send(self, message: OutgoingMessage, before: str | None) -> "asyncio.Future[PublishResult]":
        token = str(next(self._numbers))
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        headers = self._headers(message.id, before)
        await self._client.publish(message.subject, message.body, reply=f"{self._inbox}.{token}", headers=headers)
        return future

    def _headers(self, message_id: str, before: str | None) -> dict[str, str]:
        headers = {_ID: message_id, _STREAM: self._stream}
        return headers if before is None else headers | {_AFTER: before}

    def _refusal(self, message: OutgoingMessage) -> PublishResult | None:
        """The server ends a connection on which something larger than its limit comes: headers count too."""
        headers = self._headers(message.id, message.id)
        size = len(message.body) + sum(len(name) + len(value) + 4 for name, value in headers.items()) + 12
        limit = self._client.max_payload
        if size <= limit:
            return None
        return PublishResult(PublishOutcome.TOO_LARGE, f"{size} bytes, and the server's max_payload is {limit}")

    def _settled(self, future: "asyncio.Future[PublishResult]") -> PublishResult:
        if future.done():
            return future.result()
        hint = f"; the server said: {self._last_error}" if self._last_error else ""
        return PublishResult(PublishOutcome.LOST, f"no acknowledgement within {ACK_TIMEOUT_S:g} s{hint}")

    async def _answered(self, message: Msg) -> None:
        """The answer to a message, on its own subject."""
        future = self._waiting.get(message.subject.rpartition(".")[2])
        if future is not None and not future.done():
            future.set_result(self._answer(message))

    def _answer(self, message: Msg) -> PublishResult:
        if (message.headers or {}).get("Status") == _NO_RESPONDERS:
            reason = f"no stream takes the subject, or its leader is away (stream {self._stream})"
            return PublishResult(PublishOutcome.NO_STREAM, reason)
        try:
            ack = msgspec.json.decode(message.data, type=_Ack)
        except msgspec.DecodeError:
            return PublishResult(PublishOutcome.REFUSED, "the answer is no acknowledgement of JetStream")
        if ack.error is None:
            return PublishResult(PublishOutcome.DUPLICATE if ack.duplicate else PublishOutcome.STORED)
        if ack.error.err_code in _OUT_OF_ORDER:
            return PublishResult(PublishOutcome.OUT_OF_ORDER)
        outcome = PublishOutcome.TOO_LARGE if ack.error.err_code == _TOO_LARGE else PublishOutcome.REFUSED
        return PublishResult(outcome, f"the stream {self._stream} answers: {ack.error.description[:MAX_REASON]}")

    async def _note(self, error: Exception) -> None:
        """The library's report of an error that belongs to no call."""
        self._last_error = _described(error)
        if _FORBIDDEN in self._last_error:  # there is no other answer
            self._fail_waiting(PublishResult(PublishOutcome.REFUSED, self._last_error))

    async def _closed(self) -> None:
        if self._closing:
            return
        self.lost = self._last_error or "the server ended the connection"
        self._fail_waiting(PublishResult(PublishOutcome.LOST, self.lost))
        self._on_lost()

    def _fail_waiting(self, answer: PublishResult) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_result(answer)

    def _explained(self, error: Exception) -> str:
        """Why a request to JetStream failed. After a timeout, the server may have said more on the side."""
        if isinstance(error, ServiceUnavailableError) and error.err_code is None:
            return "the server has no JetStream, or not for this user: start it with -js"
        if isinstance(error, TimeoutError) and self._last_error:
            return f"no answer; the server said: {self._last_error}"
        return _described(error)


def _described(error: Exception) -> str:
    """What went wrong, in words for whoever runs inboxd."""
    text = str(error).removeprefix("nats: ").strip("'")
    if isinstance(error, AuthorizationError) or "authorization violation" in text.lower():
        text = "the server refuses our user, password, token or key (authorization violation)"
    elif isinstance(error, SecureConnWantedError):
        text = "the server offers no TLS, and tls:// or a certificate is configured"
    elif isinstance(error, ssl.SSLCertVerificationError):
        text = f"the server's certificate is not trusted: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        text = f"TLS failed: {error.reason or text}"
    elif isinstance(error, APIError):
        text = f"{error.description} (JetStream error {error.err_code})"
    elif isinstance(error, UnexpectedEOF):
        text = "the server ended the connection"
    elif isinstance(error, TimeoutError):
        text = f"no answer within {CONNECT_TIMEOUT_S} s"
    return (text or type(error).__name__)[:MAX_REASON]
