"""Whoever asks again and again gets every conversation that was updated and every message that came."""

import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
from inboxd.conversations import message_store, store
from inboxd.conversations.store import WALK, ConversationFilter, ConversationStore
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Content, Direction, MessageChange, Reacted, Sent
from inboxd.domain.paging import Place
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.people import igsid
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, BRUNO, T0, Client, Json, eventually

LIST = "/api/messaging/conversations"
MESSAGES = "/api/messaging/messages"
OTHER = "17841400000000099"
LONG_AGO = "2020-01-01T00:00:00Z"


def people(found: Json) -> list[str]:
    return [one["participantPlatformId"] for one in found["conversations"]]


def texts(found: Json) -> list[str]:
    return [one["message"]["content"] for one in found["results"]]


async def talk(client: Client, *participants: str) -> None:
    for participant in participants:
        await client.deliver(Conversationalist(ACCOUNT, participant, T0).says(f"from {participant}"))
        await client.settled()

    async def quiet() -> bool:
        """Everybody has name and picture, which move `updatedAt`, and every message is found."""
        pictures = [one["participantAvatar"] for one in await client.conversations()]
        indexed = (await client.get(f"{MESSAGES}?q=from"))["results"]
        return None not in pictures and len(indexed) == len(participants)

    await eventually(quiet)


async def test_the_conversation_of_a_participant_is_asked_for_by_their_id(client: Client) -> None:
    await talk(client, ANA, BRUNO)
    await client.deliver(Conversationalist(OTHER, ANA, T0).says("hi"), account_id=OTHER)
    await client.settled()

    assert sorted(one["clientAccountId"] for one in await client.conversations(f"?participantPlatformId={ANA}")) == [
        ACCOUNT,
        OTHER,
    ]
    (one,) = await client.conversations(f"?participantPlatformId={ANA}&clientAccountId={ACCOUNT}&status=open&q=from")
    assert (one["participantPlatformId"], one["clientAccountId"]) == (ANA, ACCOUNT)
    nobody = await client.get(f"{LIST}?participantPlatformId=1")
    assert (nobody["conversations"], nobody["total"]) == ([], 0)


async def test_a_conversation_is_listed_again_when_the_picture_of_its_participant_is_there(client: Client) -> None:
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("hi"))
    cursor, avatars = "", [None]

    async def pictured() -> bool:
        nonlocal cursor
        page = await client.get(f"{LIST}?updatedSince={LONG_AGO}{cursor}")
        cursor = f"&cursor={page['nextCursor']}"
        avatars.extend(one["participantAvatar"] for one in page["conversations"])
        return avatars[-1] is not None

    await eventually(pictured)


async def test_updates_are_listed_in_their_order_and_the_cursor_goes_on_with_what_comes_later(client: Client) -> None:
    everybody = [igsid(number) for number in range(5)]
    await talk(client, *everybody)
    first = await client.get(f"{LIST}?updatedSince={LONG_AGO}&limit=200")
    updates = [one["updatedAt"] for one in first["conversations"]]
    assert updates == sorted(updates)
    assert sorted(people(first)) == sorted(everybody)
    assert first["total"] == 5

    pages: list[str] = []
    cursor = ""
    for _ in range(3):
        page = await client.get(f"{LIST}?updatedSince={LONG_AGO}&limit=2{cursor}")
        pages += people(page)
        cursor = f"&cursor={page['nextCursor']}"
    assert set(pages) == set(everybody)

    following = f"{LIST}?updatedSince={LONG_AGO}&cursor="
    end = (await client.get(following + first["nextCursor"]))["nextCursor"]
    closed = first["conversations"][0]
    await client.send("PATCH", f"{LIST}/{closed['id']}", {"status": "closed"})
    again = await client.get(following + end)
    assert closed["participantPlatformId"] in people(again)
    nothing = await client.get(following + again["nextCursor"] + "&status=archived")
    assert (nothing["conversations"], nothing["total"]) == ([], 0)
    assert nothing["nextCursor"] == again["nextCursor"]


async def test_only_what_was_updated_since_is_listed_with_every_other_filter(client: Client) -> None:
    await talk(client, ANA, BRUNO)
    latest = (await client.get(f"{LIST}?updatedSince={LONG_AGO}"))["conversations"][-1]
    moved = await client.send("PATCH", f"{LIST}/{latest['id']}", {"status": "closed"})
    since = quote(moved["updatedAt"])

    found = await client.get(f"{LIST}?updatedSince={since}")
    assert [one["id"] for one in found["conversations"]] == [moved["id"]]
    assert found["total"] == 1
    assert (await client.get(f"{LIST}?updatedSince={since}&status=open"))["conversations"] == []
    who = moved["participantPlatformId"]
    other = {ANA, BRUNO} - {who}
    both = f"&participantPlatformId={who}&clientAccountId={ACCOUNT}&q=from&status=closed&hasUnread=true"
    assert people(await client.get(f"{LIST}?updatedSince={LONG_AGO}{both}")) == [who]
    assert people(await client.get(f"{LIST}?updatedSince={LONG_AGO}&participantPlatformId={other.pop()}")) != [who]
    east = quote("2020-01-01T02:00:00+02:00")
    assert len(people(await client.get(f"{LIST}?updatedSince={east}"))) == 2


@pytest.mark.parametrize("odd", ["yesterday", "2026-09-21", "2026-09-21T14:13:26", "1790000000", ""])
async def test_a_time_without_a_zone_or_of_another_form_is_refused_with_a_reason(client: Client, odd: str) -> None:
    problem = await client.get(f"{LIST}?updatedSince={odd}", status=400)

    assert problem["detail"].startswith("'updatedSince': ")


async def updates(database: Database, after: Place | None = None) -> tuple[list[str], Place]:
    found, _, following = await ConversationStore(database.read).updated(
        ConversationFilter(), 0, after, limit=10, offset=0
    )
    return [one.key.participant_id for one in found], following


async def test_an_update_that_is_committed_late_or_after_the_clock_was_set_back_is_not_missed(
    database: Database,
) -> None:
    async def create(participant: str, at: int) -> None:
        keys = {ConversationKey(ACCOUNT, participant)}
        await database.write(lambda connection: message_store.apply_changes(connection, keys, [], at))

    await create("1", T0)
    await create("2", T0 + 500)
    _, following = await updates(database)
    await create("3", T0 + 100)
    await create("4", T0 + 100)
    await database.write(lambda connection: store.change(connection, 1, status=None, metadata={}, now=T0 - 30_000))
    assert (await updates(database, following))[0] == ["3", "4", "1"]


async def test_one_update_from_a_clock_that_was_wrong_does_not_carry_all_others_with_it(database: Database) -> None:
    year_2090 = 3_800_000_000_000
    for number, at in enumerate((year_2090, T0, T0)):
        keys = {ConversationKey(ACCOUNT, str(number))}
        await database.write(lambda connection, keys=keys, at=at: message_store.apply_changes(connection, keys, [], at))  # type: ignore[misc]

    found: dict[str, int] = dict(await database.read("SELECT participant_id, updated_at FROM conversations"))
    assert found == {"0": year_2090, "1": T0, "2": T0 + 1}


async def test_messages_come_in_the_order_in_which_they_were_stored_to_whoever_asks_for_those_after_a_place(
    client: Client,
) -> None:
    assert (await client.get(f"{MESSAGES}?after=latest"))["results"] == []
    late, early = Conversationalist(ACCOUNT, ANA, T0 + 5000), Conversationalist(ACCOUNT, BRUNO, T0)
    for item in (late.says("first stored"), early.says("sent before it"), late.answers("third")):
        await client.deliver(item)
        await client.settled()

    page = await client.get(f"{MESSAGES}?limit=2")
    assert texts(page) == ["first stored", "sent before it"]
    assert [one["conversation"]["participantPlatformId"] for one in page["results"]] == [ANA, BRUNO]
    rest = await client.get(f"{MESSAGES}?limit=2&after={page['nextCursor']}")
    assert texts(rest) == ["third"]
    end = await client.get(f"{MESSAGES}?after={rest['nextCursor']}")
    assert (end["results"], end["nextCursor"]) == ([], rest["nextCursor"])
    assert (await client.get(f"{MESSAGES}?after=latest"))["nextCursor"] == rest["nextCursor"]
    await client.deliver(early.says("fourth"))
    await client.settled()
    assert texts(await client.get(f"{MESSAGES}?after={rest['nextCursor']}")) == ["fourth"]
    assert texts(await client.get(f"{MESSAGES}?clientAccountId={OTHER}")) == []


@pytest.mark.parametrize("parameters", ["q=hi&after=latest", "cursor=1.1", "after=last", "after=1", "after=-.1x"])
async def test_parameters_that_do_not_go_together_are_refused(client: Client, parameters: str) -> None:
    assert "after" in (await client.get(f"{MESSAGES}?{parameters}", status=400))["detail"]


class Poller:
    """Asks for messages after the last place, as a script would."""

    def __init__(self, database: Database, account_id: str | None = None) -> None:
        self._store = ConversationStore(database.read)
        self._account_id = account_id
        self.place = Place(0, 0)

    async def ask(self, limit: int = 10) -> list[str]:
        found, self.place = await self._store.stored_after(self.place, account_id=self._account_id, limit=limit)
        return [stored.message.mid for stored, _ in found]


async def apply(database: Database, *changes: MessageChange, now: int) -> None:
    keys = {one.key for one in changes}
    await database.write(
        lambda connection: message_store.apply_changes(connection, keys, [(None, one) for one in changes], now)
    )


def sent(mid: str, account_id: str = ACCOUNT) -> Sent:
    key = ConversationKey(account_id, ANA)
    content = Content(type="text", text=mid)
    return Sent(key=key, mid=mid, at=T0, sender_id=ANA, direction=Direction.INBOUND, content=content, standby=False)


async def test_a_message_whose_reaction_came_first_is_not_passed_over(database: Database) -> None:
    poller = Poller(database)
    reaction = Reacted(key=ConversationKey(ACCOUNT, ANA), mid="b", at=T0, by=ACCOUNT, reaction="love", emoji=None)
    await apply(database, sent("a"), now=T0)
    await apply(database, reaction, now=T0 + 1)
    await apply(database, sent("c"), now=T0 + 2)
    assert await poller.ask() == ["a", "c"]
    await apply(database, sent("b"), now=T0 + 3)

    assert await poller.ask() == ["b"]
    rows: list[tuple[Any, ...]] = await database.read("SELECT count(*), max(reactions IS NOT NULL) FROM messages")
    assert rows == [(3, 1)]


async def test_a_message_that_got_the_id_of_a_removed_one_is_not_passed_over(database: Database) -> None:
    poller = Poller(database)
    await apply(database, sent("a"), sent("b"), sent("c"), now=T0)
    assert await poller.ask() == ["a", "b", "c"]
    await database.execute("DELETE FROM messages WHERE id >= 2")
    await apply(database, sent("d"), sent("e"), sent("f"), now=T0 + 1)

    assert await database.read("SELECT max(id) FROM messages") == [(4,)]
    assert await poller.ask() == ["d", "e", "f"]
    assert await poller.ask() == []


async def test_a_page_of_a_quiet_account_ends_before_all_others_were_looked_at(database: Database) -> None:
    poller = Poller(database, OTHER)
    await apply(database, *(sent(str(number)) for number in range(WALK)), now=T0)
    await apply(database, sent("x", OTHER), sent("y", OTHER), sent("z"), now=T0)

    assert await poller.ask() == []
    assert poller.place == Place(T0, WALK)
    assert await poller.ask(limit=1) == ["x"]
    assert poller.place == Place(T0, WALK + 1)
    assert await poller.ask() == ["y"]
    assert await poller.ask() == []


async def test_removed_messages_do_not_end_the_list(client: Client) -> None:
    await talk(client, ANA, BRUNO)
    with closing(sqlite3.connect(client.database)) as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (2,)
    place = (await client.get(f"{MESSAGES}?limit=1"))["nextCursor"]
    (conversation,) = await client.conversations(f"?participantPlatformId={ANA}")
    await client.send("DELETE", f"{LIST}/{conversation['id']}", status=204)

    assert texts(await client.get(f"{MESSAGES}?after={place}")) == [f"from {BRUNO}"]
