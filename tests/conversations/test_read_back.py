"""Storing what the Conversations API shows, beside what webhooks bring, in a daemon that runs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from inboxd import app
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.read_back import ReadBackService, Sides, read_conversation, sides_of
from inboxd.conversations.read_back_store import Joined
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.mailbox import (
    Detail,
    ListedAttachment,
    ListedConversation,
    ListedMessage,
    ListedReaction,
    ListedStory,
    Party,
    StoryKind,
)
from inboxd.domain.message import Direction, ReadBack, Source
from inboxd.domain.own_identity import OwnIdentity
from inboxd.feature import Core, Feature
from inboxd.runtime.clock import Clock
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist, Item, mid_of

from tests.support import ACCOUNT, ANA, BRUNO, T0, Client, Json, event_log, told

SHOP, SCOPED = Party(ACCOUNT, "the.shop"), Party("9" + ACCOUNT, "the.shop")
WRITER = Party(ANA, "ana")
OWN = OwnIdentity(frozenset({ACCOUNT}), "the.shop")
ALIASES = {ACCOUNT: ACCOUNT}
SECOND = T0 // 1000 * 1000
LATER = T0 + 600_000
KEY = ConversationKey(ACCOUNT, ANA)


class Daemon(NamedTuple):
    """A running daemon, and the service in it."""

    client: Client
    service: ReadBackService
    core: Core

    async def read(self, *messages: ListedMessage, emit: bool = True, source: Source = Source.RECONCILED) -> Joined:
        read = read_conversation(SIDES, messages, ALIASES, source=source, read_at=LATER)
        return await self.service.store(read, emit=emit)

    async def shown(self) -> list[Json]:
        """The messages of the only conversation, oldest first."""
        await self.client.settled()
        (conversation,) = await self.client.conversations()
        return await self.client.messages(conversation)


def sides(*participants: Party, own: OwnIdentity = OWN) -> Sides:
    found = sides_of(ListedConversation("aWc", None, participants), ACCOUNT, own, ALIASES)
    assert found is not None
    return found


SIDES = sides(SCOPED, WRITER)


@pytest.fixture
async def daemon(
    settings: Settings, secrets: Secrets, tmp_path: Path, graph: tuple[GraphServer, str]
) -> AsyncIterator[Daemon]:
    graph[0].behaviour = Behaviour(latency_ms=60_000)  # no profile arrives
    cores: list[Core] = []

    def build(core: Core) -> Feature:
        cores.append(core)
        return Feature(name="reader")

    path = tmp_path / "inboxd.sqlite3"
    async with (
        app.run_daemon(settings, secrets, path, on_give_up=lambda: None, more=(build,)) as running,
        aiohttp.ClientSession() as session,
    ):
        client = Client(session, running.public_url, running.admin_url, path)
        clock = Clock()
        yield Daemon(client, ReadBackService(cores[0].database, event_log(clock), clock), cores[0])


@pytest.fixture
def ana() -> Conversationalist:
    return Conversationalist(ACCOUNT, ANA, T0 + 250)


def listed(mid: str, text: str | None = "hola", *, sender: Party = WRITER, **more: Any) -> ListedMessage:
    to = (SCOPED,) if sender is WRITER else (WRITER,)
    known = {"created_time": SECOND, "detail": Detail.READABLE, "recipients": to, **more}
    return ListedMessage(id=mid, text=text, sender=sender, **known)


def as_listed(item: Item, mid: str | None = None) -> ListedMessage:
    """How the API shows what a webhook brought: to the second, and perhaps under another id."""
    sender = WRITER if item["sender"]["id"] == ANA else SCOPED
    at = item["timestamp"] // 1000 * 1000
    return listed(mid or mid_of(item), item["message"]["text"], sender=sender, created_time=at)


async def kinds(daemon: Daemon) -> list[str]:
    return [kind for kind, _ in await told(daemon.core.database) if kind.startswith(("message", "conversation"))]


@pytest.mark.parametrize("other_id", [None, "another-id"])
async def test_a_message_that_both_bring_is_there_once(
    daemon: Daemon, ana: Conversationalist, other_id: str | None
) -> None:
    first, second = ana.says("one"), ana.answers("two")
    ids = (None, None) if other_id is None else (other_id, other_id + "2")
    await daemon.client.deliver(first)  # the webhook first
    await daemon.client.settled()
    joined = await daemon.read(as_listed(second, ids[1]), as_listed(first, ids[0]))  # the API first, for the second
    assert [one.message.text for one in joined.added] == ["two"]
    assert [one.message.text for one in joined.confirmed] == ["one"]
    await daemon.client.deliver(second)
    shown = await daemon.shown()
    assert [(one["content"], one["platformMessageId"]) for one in shown] == [
        ("one", mid_of(first)),
        ("two", mid_of(second)),
    ]
    again = await daemon.read(as_listed(second, ids[1]), as_listed(first, ids[0]))
    assert (again.added, again.changed) == ([], [])
    assert (await kinds(daemon)).count("message.received") == 1
    assert (await kinds(daemon)).count("message.sent") == 1


@pytest.mark.parametrize("other_id", [False, True])
async def test_what_both_bring_at_the_same_time_is_there_once(
    daemon: Daemon, ana: Conversationalist, *, other_id: bool
) -> None:
    said = [ana.says(f"number {number}") for number in range(30)]
    shown = [as_listed(item, f"other-{number}" if other_id else None) for number, item in enumerate(said)]
    await asyncio.gather(
        *(daemon.client.deliver(item) for item in said), *(daemon.read(*shown[start::3]) for start in range(3))
    )
    assert [one["content"] for one in await daemon.shown()] == [f"number {number}" for number in range(30)]
    assert {one["platformMessageId"] for one in await daemon.shown()} == {mid_of(item) for item in said}
    assert (await kinds(daemon)).count("message.received") == 30


async def test_who_wrote_twice_the_same_in_one_second_wrote_twice(daemon: Daemon) -> None:
    await daemon.read(listed("a", "ok"), listed("b", "ok"))
    assert [one["content"] for one in await daemon.shown()] == ["ok", "ok"]


async def test_of_who_was_erased_only_what_is_certainly_later_comes_back(
    daemon: Daemon, ana: Conversationalist
) -> None:
    await daemon.client.deliver(ana.says("forget me"))
    await daemon.client.settled()
    await daemon.client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    now = Clock().now_ms()
    reaction = ListedReaction("❤", (SHOP,))
    messages = [
        listed("earlier", created_time=now - 60_000, reactions=(reaction,)),
        listed("no time", created_time=None),
        listed("later", created_time=now + 60_000),
    ]
    read = read_conversation(SIDES, messages, ALIASES, source=Source.RECONCILED, read_at=now + 600_000)
    await daemon.service.store(read, emit=True)
    assert [one["platformMessageId"] for one in await daemon.shown()] == ["later"]
    rows = await daemon.core.database.read("SELECT mid FROM messages")
    assert rows == [("later",)]


async def test_of_two_that_say_the_same_in_one_second_the_one_that_was_missed_is_added(
    daemon: Daemon, ana: Conversationalist
) -> None:
    came = ana.says("ok")
    await daemon.client.deliver(came)
    await daemon.client.settled()
    joined = await daemon.read(as_listed(came), as_listed(came, "missed"))
    assert [one.message.mid for one in joined.added] == ["missed"]
    assert len(await daemon.shown()) == 2


async def test_of_two_that_say_the_same_in_one_second_the_first_webhook_hides_none(
    daemon: Daemon, ana: Conversationalist
) -> None:
    late = ana.says("ok")
    await daemon.read(as_listed(late, "missed"))
    await daemon.client.deliver(late)
    await daemon.client.settled()
    await daemon.read(as_listed(late), as_listed(late, "missed"))
    assert {one["platformMessageId"] for one in await daemon.shown()} == {mid_of(late), "missed"}


async def test_an_answer_is_not_the_question_that_it_repeats(daemon: Daemon, ana: Conversationalist) -> None:
    said = ana.says("ok?")
    await daemon.client.deliver(said)
    await daemon.client.settled()
    at = said["timestamp"] // 1000 * 1000
    joined = await daemon.read(listed("another-id", "ok?", sender=SCOPED, created_time=at))
    assert [one.message.mid for one in joined.added] == ["another-id"]
    assert [one["senderType"] for one in await daemon.shown()] in (["customer", "user"], ["user", "customer"])


async def test_a_message_without_details_is_a_stub_until_the_webhook_brings_it(
    daemon: Daemon, ana: Conversationalist
) -> None:
    said = ana.says("hola")
    joined = await daemon.read(ListedMessage(mid_of(said), SECOND, Detail.UNAVAILABLE))
    assert joined.added == []
    assert (await kinds(daemon)) == ["conversation.created"]
    await daemon.client.deliver(said)
    (shown,) = await daemon.shown()
    assert shown["content"] == "hola"


async def test_a_message_that_is_said_to_be_gone_stays(daemon: Daemon, ana: Conversationalist) -> None:
    said = ana.says("hola")
    await daemon.client.deliver(said)
    await daemon.client.settled()
    await daemon.read(ListedMessage(mid_of(said), SECOND, Detail.UNAVAILABLE))
    (shown,) = await daemon.shown()
    assert (shown["content"], shown["messageType"]) == ("hola", "text")


async def test_reactions_are_taken_over_and_a_webhook_knows_better(daemon: Daemon, ana: Conversationalist) -> None:
    said, answer = ana.says("hola"), ana.answers("buenas")
    heart = ListedReaction("❤️", (WRITER,))
    by_us = ListedReaction("👍", (SCOPED,))
    await daemon.client.deliver(said, answer, ana.reacts(answer), ana.unreacts(answer))
    await daemon.client.settled()
    with_reactions = [
        listed(mid_of(said), created_time=said["timestamp"] // 1000 * 1000, reactions=(by_us,)),
        listed(mid_of(answer), "buenas", sender=SCOPED, reactions=(heart,)),
    ]
    await daemon.read(*with_reactions)
    first, second = await daemon.shown()
    assert [(one["by"], one["emoji"]) for one in first["reactions"]] == [(ACCOUNT, "👍")]
    assert second["reactions"] == [], "it was taken back later"


async def test_attachments_shares_and_stories_are_named_as_webhooks_name_them(daemon: Daemon) -> None:
    picture = ListedAttachment("image", "https://cdn.example/a.jpg", mime_type="image/jpeg", width=10)
    await daemon.read(
        listed("m1", None, attachments=(picture,)),
        listed("m2", None, shares=("https://instagram.com/p/1",), created_time=SECOND + 1000),
        listed("m3", "nice", story=ListedStory(StoryKind.REPLY, "17900", None), created_time=SECOND + 2000),
        listed("m4", None, story=ListedStory(StoryKind.MENTION, "17900", "https://s"), created_time=SECOND + 3000),
        listed("m5", None, is_unsupported=True, created_time=SECOND + 4000),
    )
    shown = await daemon.shown()
    assert [one["messageType"] for one in shown] == ["image", "share", "text", "story_mention", "unsupported"]
    assert [one["mediaUrl"] for one in shown[:2]] == ["https://cdn.example/a.jpg", "https://instagram.com/p/1"]
    assert shown[2]["metadata"]["reply_to"] == {"story": {"id": "17900"}}


async def test_attachments_that_the_api_leaves_out_do_not_replace_those_of_the_webhook(
    daemon: Daemon, ana: Conversationalist
) -> None:
    sent = ana.sends("image")
    poor = listed(mid_of(sent), None, created_time=sent["timestamp"] // 1000 * 1000, attachments=None)
    await daemon.read(poor)
    await daemon.client.deliver(sent)
    await daemon.client.settled()
    await daemon.read(poor)
    (shown,) = await daemon.shown()
    assert (shown["messageType"], shown["mediaUrl"]) == ("image", sent["message"]["attachments"][0]["payload"]["url"])


async def test_imported_messages_are_silent_and_not_unread_and_the_participant_has_a_name(daemon: Daemon) -> None:
    await daemon.read(listed("m1"), emit=False, source=Source.HISTORY)
    assert await kinds(daemon) == []
    (conversation,) = await daemon.client.conversations()
    assert (conversation["unreadCount"], conversation["participantUsername"]) == (0, "ana")
    await daemon.read(listed("m2", "otra", created_time=SECOND + 5000))
    (conversation,) = await daemon.client.conversations()
    assert conversation["unreadCount"] == 1, "what Meta did not deliver is unread"


async def test_a_participant_whose_profile_is_still_due_gets_the_name(daemon: Daemon, ana: Conversationalist) -> None:
    await daemon.client.deliver(ana.says("hola"))
    await daemon.client.settled()
    await daemon.read()
    (conversation,) = await daemon.client.conversations()
    assert conversation["participantUsername"] == "ana"


async def test_what_is_stored_beside_it_is_stored_with_it_or_not_at_all(daemon: Daemon) -> None:
    def refuse(*_: object) -> None:
        msg = "no"
        raise ValueError(msg)

    read = read_conversation(SIDES, [listed("m1")], ALIASES, source=Source.HISTORY, read_at=LATER)
    with pytest.raises(ValueError, match="no"):
        await daemon.service.store(read, emit=True, also=refuse)
    assert await daemon.client.conversations() == []


def messages(read_from: Sides, given: Sequence[ListedMessage]) -> Sequence[ReadBack]:
    read = read_conversation(read_from, given, ALIASES, source=Source.HISTORY, read_at=LATER, undated_at=T0)
    return read.messages


@pytest.mark.parametrize(
    ("own", "me"),
    [
        (OWN, SHOP),
        (OWN, SCOPED),
        (OwnIdentity(frozenset({ACCOUNT, "9" + ACCOUNT}), None), Party("9" + ACCOUNT)),
        (OwnIdentity(frozenset({ACCOUNT, "100200"}), None), Party("100200", "The Page")),
    ],
)
def test_the_account_is_known_by_each_of_its_ids_and_by_its_name(own: OwnIdentity, me: Party) -> None:
    found = sides(WRITER, me, own=own)
    assert (found.key, found.username) == (KEY, "ana")
    given = [
        listed("a", sender=WRITER),
        listed("b", sender=Party(me.id)),
        ListedMessage("c", SECOND, Detail.READABLE, recipients=(WRITER,)),
        ListedMessage("d", SECOND, Detail.READABLE, recipients=(me,)),
        listed("e", sender=Party("1", "somebody")),
    ]
    inbound, outbound = Direction.INBOUND, Direction.OUTBOUND
    read = {one.mid: (one.direction, one.sender_id) for one in messages(found, given)}
    assert read == {
        "a": (inbound, ANA), "b": (outbound, ACCOUNT), "c": (outbound, ACCOUNT), "d": (inbound, ANA), "e": (None, None),
    }  # fmt: skip


def test_the_conversation_with_oneself_has_only_sent_messages() -> None:
    found = sides(SHOP)
    assert found.key == ConversationKey(ACCOUNT, ACCOUNT)
    (message,) = messages(found, [listed("a", sender=SHOP)])
    assert (message.direction, message.sender_id) == (Direction.OUTBOUND, ACCOUNT)
    assert message.content is not None
    assert message.content.details == {"is_self": True}


def test_sides_that_cannot_be_told_are_not_guessed() -> None:
    for participants in ((), (WRITER,), (SHOP, WRITER, Party(BRUNO))):
        assert sides_of(ListedConversation("aWc", None, participants), ACCOUNT, OWN, ALIASES) is None


def test_another_account_that_is_served_is_known_by_its_main_id() -> None:
    aliases = {**ALIASES, "555": BRUNO}
    found = sides_of(ListedConversation("aWc", None, (SHOP, Party("555"))), ACCOUNT, OWN, aliases)
    assert found is not None
    assert found.key == ConversationKey(ACCOUNT, BRUNO)
    read = read_conversation(found, [listed("a", sender=Party("555"))], aliases, source=Source.HISTORY, read_at=LATER)
    assert read.messages[0].sender_id == BRUNO


@pytest.mark.parametrize("created_time", [None, LATER + 200_000_000])
def test_a_time_that_is_missing_or_absurd_is_replaced(created_time: int | None) -> None:
    (message,) = messages(SIDES, [listed("a", created_time=created_time)])
    assert message.at == T0
