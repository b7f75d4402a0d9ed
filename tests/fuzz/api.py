"""Every operation of the API with odd addresses, queries, headers and bodies, made from the OpenAPI document."""

import asyncio
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec
from inboxd.http.problems import Problem

from tests.fuzz.daemon import Daemon, running
from tests.fuzz.mutations import encoded, mutated, mutated_bytes, odd
from tests.fuzz.surface import CORPUS, Failure, Surface
from tests.fuzz.talk import deliver_from
from tests.support import ACCOUNT, ADMIN_TOKEN

SOUND_ACCOUNT: Final = "17841477777777777"
SOUND: Final = "8500000000000001"
"""Somebody whose conversation, of an account of which nothing else speaks, nothing here may touch."""
OTHERS: Final = [f"86000000000000{number:02d}" for number in range(8)]
VALUES: Final = [
    "1", "2", "5", "0", "-1", "9" * 18, "9" * 19, "1e3", "\u0661", ACCOUNT, *OTHERS[:3], "1.5", "-.3",
    "9" * 18 + "." + "9" * 18, "true", "open", "messages", "0" * 32, "", "x" * 300, "../..", "a b",
]  # fmt: skip
HEADERS: Final = (
    "Idempotency-Key", "If-None-Match", "Accept", "Accept-Encoding", "Content-Type", "Last-Event-ID",
    "Content-Encoding", "Expect", "Range", "Cookie", "X-CSRF-Token",
)  # fmt: skip
LARGEST: Final = 900_000


class Api(Surface):
    """Requests to the admin listener, with a token that may do everything."""

    name: ClassVar[str] = "api"
    per_round: ClassVar[int] = 250

    def __init__(self) -> None:
        self._operations: list[dict[str, Any]] = json.loads((CORPUS / "operations.json").read_text())
        self._bodies = [one["body"] for one in self._operations if "body" in one]

    def make(self, chance: random.Random) -> bytes:
        operation = chance.choice(self._operations)
        path = "/".join(self._value(chance) if part.startswith("{") else part for part in operation["path"].split("/"))
        names = [name for name in operation.get("query", []) if chance.random() < 0.5]
        names += ["unknown"] if chance.random() < 0.05 else []
        query = "&".join(f"{name}={self._value(chance)}" for name in names)
        headers = {chance.choice(HEADERS): self._value(chance)} if chance.random() < 0.2 else {}
        body = b""
        if "body" in operation:
            example = mutated(operation["body"], chance, self._bodies, most=2)
            body = encoded(operation["body"] if chance.random() < 0.05 else example)
            body = mutated_bytes(body, chance) if chance.random() < 0.15 else body
        target = f"{path}?{query}" if query else path
        if chance.random() < 0.1:
            target = "/" + mutated_bytes(target.encode("latin-1"), chance).decode("latin-1").lstrip("/")
        head = [operation["method"], target.replace(" ", "%20").replace("\r", "").replace("\n", ""), headers]
        return json.dumps(head).encode() + b"\n" + body[:LARGEST]

    def _value(self, chance: random.Random) -> str:
        if chance.random() < 0.8:
            return quote(chance.choice(VALUES), safe="")
        found = odd(chance)
        text = found if isinstance(found, str) else str(bytes(found) if isinstance(found, bytes) else found)[:2000]
        return quote(mutated_bytes(text.encode(errors="surrogatepass")[:1000], chance, most=1), safe="")

    async def run(self, folder: Path, inputs: Sequence[bytes]) -> None:
        async with running(folder) as daemon:
            await _still_as_documented(daemon)
            await deliver_from(daemon, OTHERS)
            await deliver_from(daemon, [SOUND], account_id=SOUND_ACCOUNT)
            await daemon.processed()
            for one in inputs:
                head, _, body = one.partition(b"\n")
                method, target, headers = _head(head)
                told = await _answer(daemon, method, target, headers, body)
                _judge(f"{method} {target[:300]} with {body[:300]!r}", told)
            shown = await daemon.look_over()
        people = [one["participantPlatformId"] for one in shown.lists["/api/messaging/conversations"]]
        if SOUND not in people:
            raise Failure("a conversation that nobody touched is gone")


def _head(text: bytes) -> tuple[str, str, dict[str, str]]:
    try:
        method, target, headers = json.loads(text)
        return str(method), str(target), dict(headers)
    except ValueError:  # an input that was made smaller
        return "GET", "/", {}


async def _answer(daemon: Daemon, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    """The whole answer, as it comes over the socket; of one that does not end, its beginning."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.process.admin)
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Authorization: Bearer {ADMIN_TOKEN}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}"] if body else []
    try:
        writer.write("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body)
        found = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        if b"text/event-stream" in found:
            return found
        return found + await asyncio.wait_for(reader.read(), 30)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except ConnectionError:
        return b""
    finally:
        writer.close()


def _judge(request: str, told: bytes) -> None:
    """Never an error of ours; and every error says what is wrong."""
    if re.match(rb"HTTP/1\.[01] \d{3} ", told) is None:
        raise Failure(f"{request}: answered {told[:300]!r}")
    status, (head, _, body) = int(told.split()[1]), told.partition(b"\r\n\r\n")
    if status >= 500:  # nothing refuses here, so that 502 and 503 are no answers either
        raise Failure(f"{request}: answered {status}, {body[:300]!r}")
    if b"application/problem+json" in head and b"content-encoding" not in head.lower() and body:
        try:
            msgspec.json.decode(body, type=Problem)
        except (ValueError, msgspec.DecodeError) as error:
            raise Failure(f"{request}: the problem is none: {body[:300]!r}") from error


async def _still_as_documented(daemon: Daemon) -> None:
    """The corpus has every operation of the document."""
    document = await daemon.get("/api/openapi.json")
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    known = {(one["method"], one["path"]) for one in Api()._operations}
    if documented - known:
        raise Failure(f"tests/fuzz/corpus/operations.json lacks {sorted(documented - known)}")
