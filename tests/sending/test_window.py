"""The reply window as webhooks and the Conversations API move it, in whichever order they come."""

import random
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from inboxd.conversations import read_back_store, reply_window_store
from inboxd.conversations.read_back_store import ReadConversation
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Content, Direction, ReadBack, Source
from inboxd.domain.reply_window import Opening, Tag
from inboxd.simulator.payloads import Conversationalist, without_parties
from inboxd.simulator.people import igsid
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, T0, Client

KEY = ConversationKey(ACCOUNT, ANA)
DAY_MS = 86_400_000
Item = dict[str, Any]


async def wrote_at(client: Client) -> dict[str, tuple[int | None, int | None]]:
    """When each participant last wrote, and clicked an ad, as the database has it."""
    await client.settled()
    with sqlite3.connect(client.database) as database:
        rows = database.execute("SELECT participant_id, customer_wrote_at, ad_clicked_at FROM conversations")
        return {row[0]: (row[1], row[2]) for row in rows}


CASES: list[tuple[str, Callable[[Conversationalist, Item, Item], Item], bool]] = [
    ("a message", lambda who, _mine, _theirs: who.says("hi"), True),
    ("an image", lambda who, _mine, _theirs: who.sends("image"), True),
    ("something unsupported", lambda who, _mine, _theirs: who.sends_unsupported(), True),
    ("a reply to a story", lambda who, _mine, _theirs: who.replies_to_story("hi"), True),
    ("a tap", lambda who, _mine, _theirs: who.taps("Yes", "YES"), True),
    ("a tap without mid", lambda who, _mine, _theirs: who.taps("Yes", "YES", with_mid=False), True),
    ("a link", lambda who, _mine, _theirs: who.opens_link("spring"), True),
    ("a reaction", lambda who, _mine, theirs: who.reacts(theirs), True),
    ("a reaction without parties", lambda who, _mine, theirs: without_parties(who.reacts(theirs)), True),
    ("a reaction that was taken back", lambda who, _mine, theirs: who.unreacts(theirs), False),
    ("an unsend", lambda who, mine, _theirs: who.unsends(mine), False),
    ("an unsend without parties", lambda who, mine, _theirs: without_parties(who.unsends(mine)), False),
    ("an edit", lambda who, mine, _theirs: who.edits(mine, "hello"), False),
    ("a companion", lambda who, mine, _theirs: who.companion(mine), False),
    ("a read", lambda who, _mine, theirs: who.sees(theirs), False),
    ("a read without parties", lambda who, _mine, theirs: without_parties(who.sees(theirs)), False),
    ("an echo", lambda who, _mine, _theirs: who.answers("hello"), False),
    ("an opt-in", lambda who, _mine, _theirs: who.opts_in(), False),
    ("a handover", lambda who, _mine, _theirs: who.hands_over(), False),
]


async def test_what_opens_the_window_and_what_does_not(client: Client) -> None:
    expected = {}
    for number, (_, later, opens) in enumerate(CASES):
        who = Conversationalist(ACCOUNT, igsid(number), T0)
        mine, theirs = who.says("hi"), who.answers("hello")
        await client.deliver(mine, theirs)
        who.now += 3_600_000
        item = later(who, mine, theirs)
        await client.deliver(item)
        expected[igsid(number)] = (item["timestamp"] if opens else mine["timestamp"], None)
    found = await wrote_at(client)
    assert {name: found[igsid(number)] for number, (name, _, _) in enumerate(CASES)} == {
        name: expected[igsid(number)] for number, (name, _, _) in enumerate(CASES)
    }


async def test_bare_notices_of_messages_that_never_came_open_nothing(client: Client) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)
    unseen = who.says("never delivered")
    await client.deliver(who.unsends(unseen), who.edits(who.says("nor this"), "x"), who.answers("hello?"))
    assert await wrote_at(client) == {ANA: (None, None)}
    (conversation,) = await client.conversations()
    assert (conversation["canReply"], conversation["windowClosesAt"]) == (False, None)


async def test_a_message_that_arrives_after_its_unsend_counts_all_the_same(client: Client) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)
    said = who.says("oh no")
    await client.deliver(who.unsends(said))
    await client.deliver(said)
    assert await wrote_at(client) == {ANA: (said["timestamp"], None)}


async def test_notes_to_self_open_nothing(client: Client) -> None:
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0).notes_to_self("buy milk"))
    assert await wrote_at(client) == {ACCOUNT: (None, None)}


def story_of(number: int, mixed: random.Random) -> tuple[list[Item], tuple[int | None, int | None]]:
    """What happens in one conversation, and what the window is after all of it."""
    who = Conversationalist(ACCOUNT, igsid(number), T0)
    mine, theirs = who.says("hi"), who.answers("hello")
    items, opened, clicked = [mine, theirs], [mine["timestamp"]], []
    for _ in range(mixed.randint(1, 6)):
        name, later, opens = mixed.choice(CASES)
        who.now += mixed.randint(0, 100_000)
        item = who.comes_from_ad("the blue one") if name == "a message" else later(who, mine, theirs)
        items.append(item)
        opened += [item["timestamp"]] if opens else []
        clicked += [item["timestamp"]] if name == "a message" else []
    return items, (max(opened), max(clicked, default=None))


async def test_the_order_of_arrival_and_copies_do_not_matter(client: Client) -> None:
    mixed = random.Random(17)
    expected, everything = {}, []
    for number in range(40):
        items, window = story_of(number, mixed)
        expected[igsid(number)] = window
        everything += items + mixed.choices(items, k=2)
    mixed.shuffle(everything)
    while everything:
        size = mixed.randint(1, 25)
        await client.deliver(*everything[:size])
        del everything[:size]
    found = await wrote_at(client)
    assert {who: found[who] for who in expected} == expected


def read(at: int, direction: Direction | None, mid: str) -> ReadBack:
    content = None if direction is None else Content(type="text", text=mid)
    sender = None if direction is None else KEY[direction is Direction.INBOUND]
    return ReadBack(
        key=KEY, mid=mid, at=at, source=Source.HISTORY, read_at=at, sender_id=sender, direction=direction,
        content=content,
    )  # fmt: skip


async def test_what_the_conversations_api_shows_opens_the_window_too(database: Database) -> None:
    shown = [
        read(T0, Direction.INBOUND, "a"),
        read(T0 + 2000, Direction.OUTBOUND, "b"),
        read(T0 + 3000, None, "c"),
    ]
    await database.write(lambda it: read_back_store.join(it, ReadConversation(KEY, "ana", shown[::-1]), T0))
    assert await database.read("SELECT customer_wrote_at FROM conversations") == [(T0,)]
    await database.write(
        lambda it: read_back_store.join(it, ReadConversation(KEY, "ana", [read(T0 - 9000, Direction.INBOUND, "z")]), T0)
    )
    assert await database.read("SELECT customer_wrote_at FROM conversations") == [(T0,)], "never back"


async def test_the_times_of_the_window_only_grow_and_move_the_update(database: Database) -> None:
    await database.write(lambda it: read_back_store.join(it, ReadConversation(KEY, "ana", []), T0))

    async def state() -> tuple[Any, ...]:
        names = "customer_wrote_at, ad_clicked_at, window_refused_at, tag_refused_at, automation_paused_until"
        (row,) = await database.read(f"SELECT {names}, updated_at FROM conversations")
        return row

    def opened(*opening: int) -> Callable[[sqlite3.Connection], None]:
        return lambda it: reply_window_store.opened(it, {KEY: Opening(*opening)}, T0)

    before = await state()
    await database.write(opened(T0, T0 - 5))
    after = await state()
    assert after[:2] == (T0, T0 - 5)
    assert after[-1] > before[-1]
    for known in ((T0,), (T0 - 1,), (T0, T0 - 5), (T0 - 9, T0 - 9)):
        await database.write(opened(*known))
        assert await state() == after, "nothing new moves nothing"
    await database.write(opened(T0 - 9, T0 + 1))
    assert (await state())[:2] == (T0, T0 + 1)

    for tag, at in ((Tag.RESPONSE, T0 + 7), (Tag.HUMAN_AGENT, T0 + 8), (Tag.RESPONSE, T0 + 6)):
        await database.write(lambda it, tag=tag, at=at: reply_window_store.refused(it, KEY, tag, at))  # type: ignore[misc]
    paused = [
        await database.write(lambda it, until=until: reply_window_store.pause_automation(it, KEY, until, T0))  # type: ignore[misc]
        for until in (T0 + 60, T0 + 50, T0 + 70)
    ]
    assert [one is not None for one in paused] == [True, False, True]
    assert (await state())[2:5] == (T0 + 7, T0 + 8, T0 + 70)


async def test_every_conversation_and_its_events_say_until_when(client: Client) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)
    await client.deliver(who.says("hi"))
    await client.settled()
    (listed,) = await client.conversations()
    one = await client.get(f"/api/messaging/conversations/{listed['id']}")
    changed = await client.send("PATCH", f"/api/messaging/conversations/{listed['id']}", {"status": "closed"})
    found = await client.get("/api/messaging/messages")
    events = (await client.get("/api/events?types=message.received,conversation.updated"))["events"]
    told = [event["data"]["conversation"] for event in events]
    assert len(told) == 2
    for shown in (listed, one, changed, found["results"][0]["conversation"], *told):
        assert shown["windowClosesAt"] == "2026-09-22T14:13:21.000Z"
        assert (shown["humanAgentUntil"], shown["automationPausedUntil"]) == (None, None)
        assert shown["canReply"] is False, "by the clock of the daemon it closed long ago"


@pytest.mark.parametrize("name", ["customer_wrote_at", "automation_paused_until"])
async def test_the_view_has_the_window(database: Database, name: str) -> None:
    await database.write(lambda it: read_back_store.join(it, ReadConversation(KEY, "ana", []), T0))
    await database.write(lambda it: reply_window_store.opened(it, {KEY: Opening(T0)}, T0))
    await database.write(lambda it: reply_window_store.pause_automation(it, KEY, T0, T0))
    assert await database.read(f"SELECT {name} FROM v1_conversations") == [("2026-09-21T14:13:20.000Z",)]
