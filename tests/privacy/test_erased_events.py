"""What an erasure leaves of the event log, and what an unsend leaves of a text."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from inboxd.config.schema import EventSettings, Settings
from inboxd.privacy.erasure_store import ErasureStore
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.simulator.payloads import Conversationalist

from tests.privacy.test_erasure import left
from tests.support import ACCOUNT, ANA, BRUNO, T0, Client, Json, eventually


async def events(client: Client, query: str = "") -> list[Json]:
    found: list[Json] = (await client.get(f"/api/events?limit=500{query}"))["events"]
    return found


async def talk(client: Client) -> None:
    for who, word in ((ANA, "zanzibar"), (BRUNO, "buenos")):
        person = Conversationalist(ACCOUNT, who, T0)
        said = person.says(word)
        await client.deliver(said, person.reacts(said), person.opens_link(f"from-{word}"))
    await client.settled()


async def test_an_erasure_is_the_last_event_and_others_keep_theirs(client: Client) -> None:
    await talk(client)

    async def named() -> bool:
        return len(await events(client, "&types=profile.completed")) == 2

    await eventually(named)
    of_bruno = [event for event in await events(client) if BRUNO in json.dumps(event)]
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    *others, last = await events(client)
    assert (last["type"], last["accountId"]) == ("participant.erased", ACCOUNT)
    assert last["data"] == {"participantPlatformId": ANA}
    assert ANA not in json.dumps(others)
    assert [event for event in others if BRUNO in json.dumps(event)] == of_bruno


async def test_an_erasure_that_is_cut_off_is_told_when_it_is_made_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before the last transaction, however little that has left to erase."""
    await talk(client)
    finish = ErasureStore.finish
    cut: list[int] = []

    async def cut_off(self: ErasureStore, *arguments: Any, **options: Any) -> Any:
        if not cut:
            cut.append(1)
            raise StorageUnavailableError("cut off")
        return await finish(self, *arguments, **options)

    monkeypatch.setattr(ErasureStore, "finish", cut_off)
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}", status=503)
    assert await events(client, "&types=participant.erased") == []
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    *others, last = await events(client)
    assert last["type"] == "participant.erased"
    assert ANA not in json.dumps(others)


async def test_who_is_not_known_is_not_told_as_erased(client: Client) -> None:
    await talk(client)
    for _ in range(2):
        await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/7000000000000099")
    assert len(await events(client, "&types=participant.erased")) == 1
    report = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    assert report["events"] == 0


async def test_the_events_of_a_comment_go_with_its_author(client: Client) -> None:
    value = {"id": "18", "text": "zanzibar", "from": {"id": ANA, "username": "ana_x"}}
    entry = {"id": ACCOUNT, "time": T0 // 1000, "changes": [{"field": "comments", "value": value}]}
    await client.post(json.dumps({"object": "instagram", "entry": [entry]}).encode())
    await client.settled()
    assert len(await events(client, "&types=comment.received")) == 1
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    assert await events(client, "&types=comment.received") == []
    assert len(await events(client, "&types=participant.erased")) == 1
    assert left(client.database.parent, "zanzibar", "ana_x") == []


async def test_an_export_has_the_events_of_a_person_and_of_nobody_else(client: Client) -> None:
    await talk(client)
    exported = (await client.get(f"/api/participants/{ACCOUNT}/{ANA}/export"))["events"]
    types = {"conversation.created", "message.received", "message.reaction_added", "referral.received"}
    assert types <= {event["type"] for event in exported}
    assert exported[0]["occurredAt"].endswith("Z")
    assert "zanzibar" in json.dumps(exported)
    assert BRUNO not in json.dumps(exported)


async def test_events_go_with_their_account(client: Client) -> None:
    await talk(client)
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    await client.send("POST", "/api/deletions", {"accountId": ACCOUNT}, status=202)

    async def gone() -> bool:
        return await events(client, f"&accountId={ACCOUNT}") == []

    await eventually(gone, within_s=40)
    with closing(sqlite3.connect(client.database)) as connection:
        found = connection.execute("SELECT count(*) FROM events WHERE account_id = ?", (ACCOUNT,)).fetchall()
    assert found == [(0,)]


def in_file(database: Path, *texts: str) -> list[str]:
    """Which of `texts` stand in the file, when everything that was written is in it."""
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            pass
    content = database.read_bytes()
    return [text for text in texts if text.encode() in content]


@pytest.mark.parametrize("edited", [False, True])
async def test_nothing_of_a_text_that_was_taken_back_is_left_in_the_log(client: Client, *, edited: bool) -> None:
    person = Conversationalist(ACCOUNT, ANA, T0)
    said = person.says("zanzibar")
    await client.deliver(said, person.reacts(said), person.says("it stays"))
    if edited:
        edit = {**said, "message_edit": {"mid": said["message"]["mid"], "num_edit": 1, "text": "marmalade"}}
        del edit["message"]
        await client.deliver(edit)
    await client.settled()
    assert "zanzibar" in json.dumps(await events(client))
    as_the_log_has_it = ('"text":"zanzibar"', '"text":"marmalade"')  # deliveries have a space before the text
    assert in_file(client.database, *as_the_log_has_it)
    await client.deliver(person.unsends(said))
    await client.settled()
    text = json.dumps(await events(client))
    assert not [word for word in ("zanzibar", "marmalade") if word in text]
    assert "it stays" in text
    assert in_file(client.database, *as_the_log_has_it) == []


async def test_an_unsend_leaves_the_events_of_an_earlier_message_with_the_same_id(client: Client) -> None:
    """The id of a removed message is given again. Who writes next must not appear in the events of who wrote before."""
    ana, bruno = Conversationalist(ACCOUNT, ANA, T0), Conversationalist(ACCOUNT, BRUNO, T0)
    await client.deliver(ana.says("zanzibar"))
    await client.settled()
    (conversation,) = await client.conversations()
    await client.send("DELETE", f"/api/messaging/conversations/{conversation['id']}", status=204)
    said = bruno.says("buenos")
    await client.deliver(said)
    await client.settled()
    first, second = await events(client, "&types=message.received")
    assert first["data"]["messageId"] == second["data"]["messageId"], "the case that this is about"
    await client.deliver(bruno.unsends(said))
    await client.settled()
    again, second = await events(client, "&types=message.received")
    assert again == first
    assert second["data"]["message"]["content"] is None


class TestIdsOnly:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, events=EventSettings(ids_only=True))

    async def test_events_without_names_are_erased_too(self, client: Client) -> None:
        """Nothing but a column says whose they are."""
        await talk(client)
        of_bruno = [event for event in await events(client) if BRUNO in json.dumps(event)]
        await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
        *others, last = await events(client)
        assert last["type"] == "participant.erased"
        assert ANA not in json.dumps(others)
        assert [event for event in others if BRUNO in json.dumps(event)][: len(of_bruno)] == of_bruno
