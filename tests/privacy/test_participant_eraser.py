"""One person's data: handed to them, or erased everywhere."""

import base64
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from inboxd.privacy import participant_eraser
from inboxd.privacy.account_eraser import STEP
from inboxd.simulator.payloads import Conversationalist

from tests.privacy.receipts import take_receipts
from tests.support import ACCOUNT, ANA, BRUNO, T0, Client, eventually, strict

DOCS = Path(__file__).parent.parent.parent / "docs"
SECRET_WORDS = "zanzibar marmalade"


async def talk(client: Client, participant_id: str, *texts: str) -> None:
    person = Conversationalist(ACCOUNT, participant_id, T0)
    said = [person.says(text) for text in texts]
    await client.deliver(*said, person.reacts(said[0]), person.opens_link("from-the-poster"))
    await client.settled()


def traces(folder: Path, *texts: str) -> list[str]:
    """Files of the daemon in which one of `texts` still stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(text.encode() in path.read_bytes() for text in texts)]


async def test_a_person_gets_everything_that_is_kept_of_them(client: Client) -> None:
    await talk(client, ANA, "hola", SECRET_WORDS)

    async def named() -> bool:
        return bool((await client.get(f"/api/participants/{ACCOUNT}/{ANA}"))["avatar"])

    await eventually(named)
    person = await client.get(f"/api/participants/{ACCOUNT}/{ANA}/export")
    assert person["participantPlatformId"] == ANA
    assert person["participant"]["username"]
    assert person["conversation"]["platformConversationId"] == f"{ACCOUNT}_{ANA}"
    assert [message["content"] for message in person["messages"]] == ["hola", SECRET_WORDS]
    assert person["messages"][0]["reactions"][0]["reaction"] == "love"
    assert [event["payload"]["referral"]["ref"] for event in person["webhookEvents"]] == ["from-the-poster"]
    assert person["avatarWebp"]
    await client.get(f"/api/participants/{ACCOUNT}/{BRUNO}/export", status=404)


async def test_an_export_has_every_message(client: Client) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)
    words = [f"word {number}" for number in range(2 * STEP + 1)]
    await client.deliver(*(who.says(word) for word in words))
    await client.settled()
    person = await client.get(f"/api/participants/{ACCOUNT}/{ANA}/export")
    assert [message["content"] for message in person["messages"]] == words


async def test_a_person_is_forgotten_everywhere(client: Client) -> None:
    await talk(client, ANA, *[f"{number} {SECRET_WORDS}" for number in range(450)])
    await talk(client, BRUNO, "buenos dias")

    async def complete() -> bool:
        people = (await client.get("/api/participants"))["participants"]
        return len(people) == 2 and all(person["avatar"] for person in people)

    await eventually(complete)

    async def indexed() -> bool:
        return len((await client.get("/api/messaging/messages?q=zanzibar"))["results"]) > 0

    await eventually(indexed)
    name = (await client.get(f"/api/participants/{ACCOUNT}/{ANA}"))["username"]
    folder = client.database.parent
    assert traces(folder, "zanzibar", ANA)

    report = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    assert (report["messages"], report["conversations"], report["profiles"], report["webhookEvents"]) == (450, 1, 1, 1)
    assert (report["deliveries"], report["deliveriesWaiting"], report["avatars"]) == (1, 0, 1)
    assert report["journalEmptied"] is True

    assert take_receipts(client.database) == [ANA]
    assert traces(folder, "zanzibar", "marmalade", ANA, name) == []
    (left,) = await client.conversations()
    assert left["participantPlatformId"] == BRUNO
    assert (await client.get("/api/messaging/messages?q=zanzibar"))["results"] == []
    assert (await client.get("/api/messaging/messages?q=buenos"))["results"]
    await client.get(f"/api/participants/{ACCOUNT}/{ANA}", status=404)

    again = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    assert sum(value for value in again.values() if type(value) is int) == 0

    await talk(client, ANA, "hola otra vez")  # whoever writes again is somebody new
    assert json.dumps(await client.conversations("?hasUnread=true")).count(ANA) > 0


async def test_comments_and_unknown_events_of_a_person_are_theirs_too(client: Client) -> None:
    commenter = "7000000000000077"
    value = {
        "from": {"id": commenter, "username": "cara"},
        "comment_id": "18",
        "text": SECRET_WORDS,
        "media": {"id": "1"},
    }
    entry = {"id": ACCOUNT, "time": 1_790_000_000, "changes": [{"field": "comments", "value": value}]}
    strange = {"sender": {"id": commenter}, "recipient": {"id": ACCOUNT}, "timestamp": T0, "brand_new": SECRET_WORDS}
    other = {"id": ACCOUNT, "time": 1_790_000_000, "messaging": [strange]}
    await client.post(json.dumps({"object": "instagram", "entry": [entry, other]}).encode())
    await talk(client, BRUNO, "buenos dias")
    person = await client.get(f"/api/participants/{ACCOUNT}/{commenter}/export")
    assert len(person["webhookEvents"]) == 2
    assert json.dumps(person["webhookEvents"]).count(SECRET_WORDS) == 2
    report = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{commenter}")
    assert report["webhookEvents"] == 2
    assert take_receipts(client.database) == [commenter]
    assert traces(client.database.parent, commenter, SECRET_WORDS) == []
    assert (await client.get("/api/webhook-events"))["webhookEvents"]
    await client.get(f"/api/participants/{ACCOUNT}/{commenter}/export", status=404)


async def test_a_journal_that_somebody_reads_is_reported(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(participant_eraser, "ROUNDS", 3)
    await talk(client, ANA, SECRET_WORDS)
    with closing(sqlite3.connect(client.database)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchall()
        report = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
        assert report["journalEmptied"] is False
        assert traces(client.database.parent, SECRET_WORDS)
    report = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    assert report["journalEmptied"] is True
    assert traces(client.database.parent, SECRET_WORDS) == []


async def test_the_account_itself_is_nobody_to_forget(client: Client) -> None:
    await talk(client, ANA, "hola")
    problem = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ACCOUNT}", status=409)
    assert "the account itself" in problem["detail"]
    assert (await client.get("/api/deliveries"))["total"] == 1


async def test_an_id_that_is_part_of_others_takes_nothing_of_theirs(client: Client) -> None:
    await talk(client, ANA, "hola")
    report = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA[:2]}")
    assert report["deliveries"] == 0
    assert (await client.get("/api/deliveries"))["total"] == 1


def documented(heading: str) -> set[str]:
    """The names in a section of docs/api.md."""
    section = (DOCS / "api.md").read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"[`\"]([a-z][A-Za-z]*)[`\"]", section))


async def test_an_export_speaks_as_the_api_does(client: Client) -> None:
    await talk(client, ANA, "hola", SECRET_WORDS)
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0 + 60_000).comes_from_ad("how much?"))
    await client.settled()

    async def named() -> bool:
        return bool((await client.get(f"/api/participants/{ACCOUNT}/{ANA}"))["avatar"])

    await eventually(named)
    person = await client.get(f"/api/participants/{ACCOUNT}/{ANA}/export")

    (conversation,) = await client.conversations()
    assert set(conversation) <= documented("Conversations")
    following = {"canReply", "windowClosesAt", "humanAgentUntil"}  # from when they last wrote, and what time it is
    assert following < set(conversation)
    kept = dict(person["conversation"])
    assert kept.pop("customerWroteAt") == "2026-09-21T14:14:21.000Z"
    shown = {name: value for name, value in conversation.items() if name not in following}
    assert {**kept, "metadata": conversation["metadata"]} == shown

    assert person["messages"] == await client.messages(conversation)
    assert [one["referral"]["adId"] for one in person["messages"] if one["referral"]] == ["6000000001"]
    assert set(person["messages"][0]) <= documented("Messages")

    participant = await client.get(f"/api/participants/{ACCOUNT}/{ANA}")
    of_the_daemon = {"waitingFor", "waitingUntil"}  # not of the person
    assert person["participant"] == {name: value for name, value in participant.items() if name not in of_the_daemon}

    assert set(person) | set(person["webhookEvents"][0]) <= documented("Exports")
    assert all("_" not in name for part in ("participant", "conversation") for name in person[part])


@pytest.mark.parametrize(("levels", "kind"), [(49, dict), (50, str), (99, str)])
async def test_an_export_is_nested_no_deeper_than_strict_decoders_read(client: Client, levels: int, kind: type) -> None:
    """The item itself is one level more."""
    odd = b'{"sender":{"id":"%s"},"recipient":{"id":"%s"},"brand_new":%s}' % (
        ANA.encode(), ACCOUNT.encode(), b"[" * levels + b"]" * levels,
    )  # fmt: skip
    await client.post(b'{"object":"instagram","entry":[{"id":"%s","messaging":[%s]}]}' % (ACCOUNT.encode(), odd))
    await client.settled()
    person = await client.get(f"/api/participants/{ACCOUNT}/{ANA}/export")
    strict(json.dumps(person))
    assert isinstance(person["webhookEvents"][0]["payload"], kind)


async def test_what_is_no_utf8_or_no_json_is_exported_to_the_byte_and_erased(client: Client) -> None:
    odd = b'"brand_new":"caf\xff"'
    deep = b'"brand_new":' + b"[" * 300 + b"]" * 300
    parties = f'"sender":{{"id":"{ANA}"}},"recipient":{{"id":"{ACCOUNT}"}},"timestamp":{T0}'.encode()
    # filed under nobody, since a party is missing; found by the id alone
    unfiled = f'"sender":{{"id":"{ANA}"}},"timestamp":{T0}'.encode()
    payloads = [b"{" + whose + b"," + what + b"}" for whose in (parties, unfiled) for what in (odd, deep)]
    entries = b",".join(b'{"id":"%s","time":1,"messaging":[%s]}' % (ACCOUNT.encode(), one) for one in payloads)
    await client.post(b'{"object":"instagram","entry":[' + entries + b"]}")
    await client.settled()

    with closing(sqlite3.connect(client.database)) as connection:
        kept = sorted(bytes(row[0]) for row in connection.execute("SELECT payload FROM webhook_events"))
    assert any(b"\xff" in one for one in kept)
    person = await client.get(f"/api/participants/{ACCOUNT}/{ANA}/export")
    told = sorted(base64.b64decode(event["payloadBase64"]) for event in person["webhookEvents"])
    assert told == kept
    assert any("caf\N{REPLACEMENT CHARACTER}" in event["payload"] for event in person["webhookEvents"])

    report = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    assert (report["webhookEvents"], report["deliveries"]) == (len(kept), 1)
    assert take_receipts(client.database) == [ANA]
    assert traces(client.database.parent, ANA) == []
    await talk(client, BRUNO, "buenos dias")  # and everything goes on
    assert len(await client.conversations()) == 1
