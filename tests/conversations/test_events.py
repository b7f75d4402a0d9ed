"""The events of conversations, from Meta's webhooks to a reader: each once, complete, and in order."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import msgspec
import pytest
from inboxd.config.schema import Settings
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist, mid_of, without_parties
from inboxd.simulator.people import igsid

from tests.support import ACCOUNT, ANA, T0, Client, Json, eventually

Simulated = tuple[GraphServer, str]


@pytest.fixture(autouse=True)
def silent_meta(graph: Simulated) -> None:
    """No profile arrives unless a test wants one."""
    graph[0].behaviour = Behaviour(latency_ms=60_000)


@pytest.fixture
def ana() -> Conversationalist:
    return Conversationalist(ACCOUNT, ANA, T0)


async def log(client: Client, after: str = "0") -> list[Json]:
    """All events after a cursor, without what the daemon records of its accounts at its first start."""
    await client.settled()
    found: list[Json] = []
    more = True
    while more:
        page = await client.get(f"/api/events?after={after}")
        found += [event for event in page["events"] if event["type"] != "account.updated"]
        after, more = page["nextCursor"], page["hasMore"]
    return found


async def new(client: Client, *items: Any) -> list[Json]:
    """What the delivery of `items` adds."""
    await client.settled()
    after = (await client.get("/api/events?after=latest"))["nextCursor"]
    await client.deliver(*items)
    return await log(client, after)


def kinds(events: list[Json]) -> list[str]:
    return [event["type"] for event in events]


def shown(event: Json) -> str | None:
    text: str | None = event["data"]["message"]["content"]
    return text


async def test_a_message_that_is_received_is_told_with_all_that_a_reader_needs(
    client: Client, ana: Conversationalist
) -> None:
    said = ana.says("Do you have the green one?")
    created, received = await new(client, said)
    (conversation,) = await client.conversations()
    (message,) = await client.messages(conversation)
    assert (created["type"], received["type"]) == ("conversation.created", "message.received")
    assert received["accountId"] == ACCOUNT
    assert received["occurredAt"] == message["sentAt"]
    assert received["id"].startswith("evt_")
    data = received["data"]
    metadata = {**conversation["metadata"], "profileReason": None}  # what a profile waits for is of the moment
    assert data["conversation"] == {**conversation, "metadata": metadata}
    assert data["message"] | {"updatedAt": ""} == message | {"updatedAt": ""}
    assert (data["conversationId"], data["messageId"]) == (conversation["id"], message["id"])
    assert data["platformMessageId"] == mid_of(said)
    assert data["participant"]["participantPlatformId"] == data["participantPlatformId"] == ANA
    assert created["data"]["conversation"]["id"] == conversation["id"]


async def test_each_change_of_a_message_is_told_once(client: Client, ana: Conversationalist) -> None:
    said, answered = ana.says("one"), ana.answers("two")
    assert kinds(await new(client, said)) == ["conversation.created", "message.received"]
    sent, human = await new(client, answered)
    assert (sent["type"], shown(sent), sent["data"]["message"]["senderType"]) == ("message.sent", "two", "user")
    assert human["type"] == "conversation.human_replied", "it was not sent from here"
    (edited,) = await new(client, ana.edits(said, "one!"))
    assert (edited["type"], shown(edited)) == ("message.edited", "one!")
    assert edited["data"]["message"]["editedAt"] == edited["occurredAt"]
    (added,) = await new(client, ana.reacts(answered))
    assert (added["type"], shown(added)) == ("message.reaction_added", "two")
    assert (added["data"]["reaction"]["by"], added["data"]["reaction"]["reaction"]) == (ANA, "love")
    (removed,) = await new(client, ana.unreacts(answered))
    assert (removed["type"], removed["data"]["reaction"]["reaction"]) == ("message.reaction_removed", "love")
    assert removed["data"]["message"]["reactions"] == []
    (read,) = await new(client, ana.sees(answered))
    assert (read["type"], read["data"]["readBy"], shown(read)) == ("message.read", "participant", "two")
    (tapped,) = await new(client, ana.taps("Prices", "PRICES"))
    assert (tapped["type"], shown(tapped), tapped["data"]["message"]["messageType"]) == (
        "postback.received",
        "Prices",
        "postback",
    )
    (deleted,) = await new(client, ana.unsends(said))
    assert (deleted["type"], shown(deleted)) == ("message.deleted", None)
    assert deleted["data"]["message"]["deletedAt"] == deleted["occurredAt"]


async def test_a_more_complete_copy_is_told_as_an_update(client: Client, ana: Conversationalist) -> None:
    said = ana.says("all of it")
    partial = {**said, "message": {"mid": mid_of(said)}}
    await client.deliver(partial, field="standby")
    assert kinds(await log(client)) == ["conversation.created", "message.received"]
    (updated,) = await new(client, said)
    assert (updated["type"], shown(updated)) == ("message.updated", "all of it")


async def test_what_is_known_already_tells_nothing(client: Client, ana: Conversationalist) -> None:
    said, answered, tapped = ana.says("one"), ana.answers("two"), ana.taps("Prices", "PRICES", with_mid=False)
    changes = [ana.edits(said, "one!"), ana.reacts(answered), ana.sees(answered)]
    everything = [said, answered, tapped, *changes]
    assert len(await new(client, *everything)) == 8
    assert await new(client, *everything) == [], "redelivered"
    assert await new(client, *reversed(everything)) == []
    assert await new(client, answered) == [], "a known echo"
    assert await new(client, ana.companion(said)) == [], "the edit that is none"
    assert await new(client, ana.companion(answered)) == []
    for one in changes:
        assert await new(client, without_parties(one)) == [], "the same change without its parties"
    await client.post(b"{}")
    await client.settled()


async def test_an_unsend_takes_the_text_out_of_earlier_events(client: Client, ana: Conversationalist) -> None:
    said, kept = ana.says("my secret words"), ana.says("something else")
    await client.deliver(said, kept, ana.edits(said, "my other secret"), ana.reacts(said))
    await client.deliver(ana.unsends(said))
    events = await log(client)
    assert kinds(events) == [
        "conversation.created",
        "message.received",
        "message.received",
        "message.edited",
        "message.reaction_added",
        "message.deleted",
    ]
    assert "secret" not in json.dumps(events)
    assert [shown(event) for event in events[1:]] == [None, "something else", None, None, None]
    with closing(sqlite3.connect(client.database)) as file:
        assert file.execute("SELECT count(*) FROM events WHERE data LIKE '%secret%'").fetchall() == [(0,)]


async def test_changes_without_parties_are_told_when_their_message_is_there(
    client: Client, ana: Conversationalist
) -> None:
    said = ana.says("one")
    assert await new(client, without_parties(ana.edits(said, "one!"))) == [], "nobody knows whose it is"
    found = await new(client, said)
    assert kinds(found) == ["conversation.created", "message.received", "message.edited"]
    assert [shown(event) for event in found[1:]] == ["one", "one!"]


async def test_events_of_a_conversation_are_in_the_order_of_arrival(client: Client) -> None:
    """Whatever the sizes of batches: three people write over each other."""
    people = [Conversationalist(ACCOUNT, igsid(number), T0) for number in range(3)]
    expected: dict[str, list[tuple[str, str]]] = {who.participant_id: [] for who in people}
    for round_ in range(15):
        items = []
        for who in people:
            said = who.says(f"{round_}")
            items += [said, who.edits(said, f"{round_}!"), who.sees(said)]
            expected[who.participant_id] += [
                ("message.received", f"{round_}"),
                ("message.edited", f"{round_}!"),
                ("message.read", f"{round_}!"),
            ]
        await client.deliver(*items)
    events = await log(client)
    for who in people:
        own = [event for event in events if event["data"]["participantPlatformId"] == who.participant_id]
        assert own[0]["type"] == "conversation.created"
        assert [(event["type"], shown(event)) for event in own[1:]] == expected[who.participant_id]
    assert len({event["id"] for event in events}) == len(events)


async def test_what_users_change_about_a_conversation_is_told(client: Client, ana: Conversationalist) -> None:
    await client.deliver(ana.says("one"))
    await client.settled()
    (conversation,) = await client.conversations()
    path, after = f"/api/messaging/conversations/{conversation['id']}", "3"

    async def told() -> list[Json]:
        nonlocal after
        found = await log(client, after)
        after = (await client.get("/api/events?after=latest"))["nextCursor"]
        return found

    await client.send("PATCH", path, {"status": "closed", "metadata": {"ticket": 7}})
    (updated,) = await told()
    assert updated["type"] == "conversation.updated"
    assert updated["data"]["conversation"]["status"] == "closed"
    assert updated["data"]["conversation"]["metadata"]["ticket"] == 7
    await client.send("PATCH", path, {"status": "closed"})
    assert await told() == [], "it was closed before"
    await client.send("PATCH", path + "/read")
    (read,) = await told()
    assert (read["type"], read["data"]["conversation"]["unreadCount"]) == ("conversation.updated", 0)
    await client.send("PATCH", path, {"metadata": {"large": "x" * 5000}})
    (large,) = await told()
    assert "large" not in large["data"]["conversation"]["metadata"], "left out of events"
    await client.send("DELETE", path, status=204)
    (deleted,) = await told()
    assert (deleted["type"], deleted["data"]) == (
        "conversation.deleted",
        {"conversationId": conversation["id"], "participantPlatformId": ANA},
    )
    await client.send("DELETE", path, status=404)
    assert await told() == []


async def test_a_conversation_that_is_imported_is_told_as_created(client: Client) -> None:
    body = {"clientAccountId": ACCOUNT, "participantPlatformId": ANA, "participantUsername": "ana"}
    await client.send("POST", "/api/messaging/conversations", body, status=201)
    (created,) = await log(client)
    assert (created["type"], created["data"]["participant"]["username"]) == ("conversation.created", "ana")
    await client.send("POST", "/api/messaging/conversations", body, status=409)
    assert len(await log(client)) == 1


async def test_a_name_that_arrives_and_changes_is_told(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=1)
    who = Conversationalist(ACCOUNT, ANA, T0)
    await client.deliver(who.says("one"))

    async def told() -> list[Json]:
        return [event for event in await log(client) if event["type"].startswith(("profile.", "participant."))]

    async def complete() -> bool:
        return bool(await told())

    await eventually(complete)
    (completed,) = await told()
    assert (completed["type"], completed["data"]["participantPlatformId"]) == ("profile.completed", ANA)
    participant = completed["data"]["participant"]
    assert participant["username"]
    assert participant["profileState"] == "complete"
    (received,) = await new(client, who.says("two"))
    assert received["data"]["participant"]["username"] == participant["username"]
    assert received["data"]["conversation"]["participantUsername"] == participant["username"]
    await client.send("POST", f"/api/participants/{ACCOUNT}/{ANA}/refresh", status=202)
    with closing(sqlite3.connect(client.database, timeout=20)) as file, file:
        file.execute("UPDATE participants SET username = 'somebody.else'")
    await client.send("POST", f"/api/participants/{ACCOUNT}/{ANA}/refresh", status=202)

    async def renamed() -> bool:
        return kinds(await told())[-1] == "participant.updated"

    await eventually(renamed)
    updated = (await told())[-1]
    assert updated["data"]["previousUsername"] == "somebody.else"
    assert updated["data"]["participant"]["username"] == participant["username"]
    assert kinds(await told()) == ["profile.completed", "participant.updated"]


async def test_a_delivery_that_cannot_be_processed_is_told(client: Client) -> None:
    await client.post(b"not json")
    (failed,) = await log(client)
    assert (failed["type"], failed["accountId"]) == ("delivery.failed", None)
    assert failed["data"]["deliveryId"] == "1"
    assert failed["data"]["error"]


class TestIdsOnly:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, events=msgspec.structs.replace(settings.events, ids_only=True))

    async def test_no_text_and_no_name_is_kept(self, client: Client, graph: Simulated) -> None:
        graph[0].behaviour = Behaviour(latency_ms=1)
        who = Conversationalist(ACCOUNT, ANA, T0)
        said, answered = who.says("secret words"), who.answers("secret answer")
        await client.deliver(
            said,
            answered,
            who.edits(said, "secret edit"),
            who.reacts(answered, "secret_reaction", "secret_emoji"),
            who.unreacts(answered),
            who.sees(answered),
            who.taps("secret button", "secret payload"),
            who.comes_from_ad("secret words"),
            who.unsends(said),
        )
        await client.post(b'{"secret words"')
        body = {"clientAccountId": ACCOUNT, "participantPlatformId": igsid(5), "participantUsername": "secret.name"}
        await client.send("POST", "/api/messaging/conversations", body, status=201)
        await client.settled()
        (other,) = [one for one in await client.conversations() if one["participantPlatformId"] == igsid(5)]
        path = f"/api/messaging/conversations/{other['id']}"
        await client.send("PATCH", path, {"metadata": {"note": "secret note"}})
        await client.send("DELETE", path, status=204)

        async def complete() -> bool:
            return "profile.completed" in kinds(await log(client))

        await eventually(complete)
        events = await log(client)
        assert {
            "conversation.created",
            "conversation.updated",
            "conversation.deleted",
            "message.received",
            "message.sent",
            "message.edited",
            "message.reaction_added",
            "message.reaction_removed",
            "message.read",
            "message.deleted",
            "postback.received",
            "profile.completed",
            "delivery.failed",
        } <= set(kinds(events))
        with closing(sqlite3.connect(client.database)) as file:
            rows = file.execute("SELECT * FROM events").fetchall()
            names = file.execute("SELECT username, name FROM participants WHERE username IS NOT NULL").fetchall()
        whole = json.dumps(rows, ensure_ascii=False)
        assert names
        assert [text for text in ("secret", *names[0], "love", "https:") if text in whole] == []
        received = next(event for event in events if event["type"] == "message.received")
        assert received["data"] == {
            "conversationId": received["data"]["conversationId"],
            "participantPlatformId": ANA,
            "messageId": received["data"]["messageId"],
            "platformMessageId": mid_of(said),
        }
        assert "message" not in json.dumps([event["data"] for event in events if event["type"] == "delivery.failed"])
