"""Lists of conversations and messages with odd items: what comes of them is a page that can be stored, or an error."""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
from inboxd.domain.account import LoginType
from inboxd.domain.mailbox import ListedConversation, ListedMessage, Page
from inboxd.meta import answers
from inboxd.meta.conversations_client import ConversationsClient
from inboxd.meta.graph import MAX_ANSWER_BYTES
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.mailbox_decoding import EARLIEST_MS, LATEST_MS, node_id
from inboxd.storage.database import Database

from tests.fuzz.daemon import usual
from tests.fuzz.graph import HastyClock
from tests.fuzz.mutations import encoded, is_one_element, mutated
from tests.fuzz.raw_server import listening, response
from tests.fuzz.surface import Failure, Surface
from tests.support import meta

PARTIES: Final = [{"id": "17841400000000001", "username": "shop"}, {"id": "7000000000000001", "username": "ana_x"}]
CONVERSATION: Final = {
    "id": "aWdfZAG06MTpJR01lc3NhZA2VUaHJlYWQ6A",
    "updated_time": "2026-10-01T10:00:00+0000",
    "participants": {"data": PARTIES},
}
MESSAGE: Final = {
    "id": "aWdfZAG1fA",
    "created_time": "2026-10-01T10:00:00+0000",
    "from": PARTIES[1],
    "to": {"data": PARTIES[:1]},
    "message": "hola",
    "attachments": {
        "data": [
            {"id": "1", "mime_type": "image/jpeg", "image_data": {"url": "https://a.example/1", "width": 1}},
            {"id": "2", "mime_type": "audio/mp4", "name": "a.mp4", "size": 3, "file_url": "https://a.example/2"},
            {"generic_template": {"title": "Update the app", "cta": {"title": "Open"}}},
        ]
    },
    "shares": {"data": [{"link": "https://www.instagram.com/p/C1/"}]},
    "story": {"mention": {"link": "https://a.example/story", "id": "18000000000000001"}},
    "reactions": {"data": [{"reaction": "\u2764\ufe0f", "users": PARTIES[1:]}]},
    "is_unsupported": True,
}  # fmt: skip
PAGING: Final = {"cursors": {"before": "B", "after": "A"}, "next": "https://graph.instagram.com/x?after=A"}
OTHERS: Final[list[Any]] = [CONVERSATION, MESSAGE, {"data": PARTIES, "paging": PAGING}]


class Mailbox(Surface):
    """Pages of conversations (C) and of messages (M) with one odd item between sound ones, or odd as a whole (W)."""

    name: ClassVar[str] = "mailbox"
    per_round: ClassVar[int] = 150

    def make(self, chance: random.Random) -> bytes:
        letter, item = chance.choice([(b"C", CONVERSATION), (b"M", MESSAGE), (b"M", MESSAGE)])
        if chance.random() < 0.3:
            whole: Any = {"data": [item, item], "paging": PAGING}
            whole = whole if chance.random() < 0.5 else {"id": CONVERSATION["id"], "messages": whole}
            return b"W" + encoded(mutated(whole, chance, OTHERS))
        while not is_one_element(odd := encoded(mutated(item, chance, OTHERS, most=4))):
            pass
        items = b",".join((encoded(item), odd, encoded(item)))
        return letter + b'{"data":[' + items + b'],"paging":' + encoded(PAGING) + b"}"

    async def run(self, folder: Path, inputs: Sequence[bytes]) -> None:
        async with Database(folder / "inboxd.sqlite3") as database, listening(usual) as server:
            for one in inputs:
                for last in ("conversations", "messages", CONVERSATION["id"], MESSAGE["id"]):
                    server.answers[str(last)] = response(one[1:])
                async with meta(server.url, database, HastyClock()) as at:
                    client = ConversationsClient(await at.account(), LoginType.INSTAGRAM)
                    await _judge(client, one)


async def _judge(client: ConversationsClient, one: bytes) -> None:
    body = one[1:]
    try:
        answers.parsed(body)
        readable = len(body) <= MAX_ANSWER_BYTES
    except answers.NotJsonError:
        readable = False
    calls: list[Coroutine[Any, Any, Any]] = [
        client.conversations(),
        client.messages(str(CONVERSATION["id"])),
        client.message(str(MESSAGE["id"])),
    ]
    for letter, call in zip(b"CM-", calls, strict=True):
        try:
            found = await asyncio.wait_for(call, 30)
        except GraphError as error:
            if readable and one[0] == letter:
                raise Failure(f"sound items are lost from {body[:500]!r}: {error}") from error
            continue
        except Exception as error:
            raise Failure(f"{type(error).__name__}: {error} from {body[:500]!r}") from error
        _check(found, body, whole=one[0] == letter)


def _check(found: Page[ListedConversation] | Page[ListedMessage] | ListedMessage, body: bytes, *, whole: bool) -> None:
    """Whether all of it can be stored, and the sound items are there."""
    items: list[Any] = list(found) if isinstance(found, Page) else [found]
    try:
        told = msgspec.json.encode(found)
    except (UnicodeEncodeError, OverflowError) as error:
        raise Failure(f"what came of {body[:500]!r} cannot be stored: {error}") from error
    if len(told) > 2 * MAX_ANSWER_BYTES:
        raise Failure(f"what came of {body[:500]!r} has {len(told)} bytes")
    for item in items:
        at = item.created_time if isinstance(item, ListedMessage) else item.updated_time
        if node_id(item.id) is None or not (at is None or EARLIEST_MS <= at < LATEST_MS):
            raise Failure(f"{item} came of {body[:500]!r}")
    if isinstance(found, Page) and whole:
        if len(items) + found.set_aside != 3 or items[0] != items[-1] or found.after != "A":
            raise Failure(f"{found} came of {body[:500]!r}")
        if isinstance(items[0], ListedMessage) and items[0].text != "hola":
            raise Failure(f"{items[0]} came of a sound item")
