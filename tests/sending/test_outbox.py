"""The outbox over the API of a running daemon. Its account has no token, so what is accepted waits."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from inboxd.config.schema import AccountSettings, SendingSettings, Settings
from inboxd.config.secrets import NamedToken, Secrets
from inboxd.runtime.secret import Secret
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.people import igsid

from tests.http.test_access import Later, running
from tests.support import ACCOUNT, ADMIN_TOKEN, Client, Json, eventually

READER, WRITER, SENDER = "the-reader's-token", "the-writer's-token", "the-sender's-token"
OUTBOUND = "/api/messaging/outbound"
DIRECT = "/api/messaging/messages"
DAY_MS = 86_400_000
ANA = igsid(0)


@pytest.fixture
def secrets(secrets: Secrets) -> Secrets:
    named = tuple(
        NamedToken(scope, (scope,), Secret(token))
        for scope, token in {"read": READER, "write": WRITER, "send": SENDER}.items()
    )
    return msgspec.structs.replace(secrets, named_tokens=named, account_tokens={})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, sending=SendingSettings(max_waiting=1500))


@pytest.fixture
def clock() -> Later:
    return Later()


@pytest.fixture
async def client(settings: Settings, secrets: Secrets, tmp_path: Path, clock: Later) -> AsyncIterator[Client]:
    async with running(settings, secrets, tmp_path, clock) as found:
        yield found


async def written(client: Client, number: int = 0, *, ago_ms: int = 1000) -> tuple[Json, Conversationalist]:
    """A conversation in which somebody wrote a while ago."""
    who = Conversationalist(ACCOUNT, igsid(number), int(time.time() * 1000) - ago_ms)
    await client.deliver(who.says("do you have it in blue?"))
    await client.settled()
    (found,) = await client.conversations(f"?participantPlatformId={igsid(number)}")
    return found, who


def to(conversation: Json) -> str:
    return f"/api/messaging/conversations/{conversation['id']}/messages"


async def post(
    client: Client, path: str, body: object, *, key: str | None = None, token: str = ADMIN_TOKEN
) -> tuple[int, Json, str | None]:
    headers = {"Authorization": f"Bearer {token}"} | ({} if key is None else {"Idempotency-Key": key})
    async with client.session.post(client.admin_url + path, json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None), response.headers.get("Location")


async def outbox_events(client: Client) -> list[Json]:
    return [one for one in (await client.get("/api/events?limit=500"))["events"] if one["type"].startswith("outbound.")]


async def test_a_message_is_in_the_outbox_before_the_answer(client: Client) -> None:
    conversation, _ = await written(client)
    (asked,) = await client.messages(conversation)
    body = {
        "text": "Yes.",
        "attachments": [{"type": "image", "url": "https://x.example/blue.jpg"}],
        "replyTo": asked["id"],
        "sentBy": "human",
    }
    status, accepted, location = await post(client, to(conversation), body)
    assert status == 202, accepted
    assert location == f"{OUTBOUND}/{accepted['id']}"
    assert accepted == accepted | {
        "accountId": ACCOUNT,
        "conversationId": conversation["id"],
        "participantPlatformId": ANA,
        "kind": "message",
        "sentBy": "human",
        "requestedBy": "admin",
        "text": "Yes.",
        "attachments": [{"type": "image", "url": "https://x.example/blue.jpg"}],
        "replyTo": asked["id"],
        "expiresAt": conversation["windowClosesAt"],
        "settledAt": None,
    }
    assert [part["state"] for part in accepted["parts"]] == ["queued", "queued"]
    with sqlite3.connect(client.database) as database:
        contents = database.execute("SELECT content FROM outbound_parts ORDER BY position").fetchall()
    assert [msgspec.json.decode(one) for (one,) in contents] == [
        {"text": "Yes.", "replyToMid": asked["platformMessageId"]},
        {"attachments": [{"type": "image", "url": "https://x.example/blue.jpg"}]},
    ]
    (event,) = await outbox_events(client)
    assert event["type"] == "outbound.queued"
    assert event["data"]["outboundId"] == accepted["id"]
    assert event["data"]["outbound"]["text"] == "Yes."
    assert event["data"]["conversation"]["id"] == conversation["id"]
    assert (await client.get(location))["text"] == "Yes."


async def test_the_messages_of_one_conversation_wait_for_each_other_and_not_for_others(client: Client) -> None:
    (ana, _), (bruno, _) = await written(client, 0), await written(client, 1)
    first, second, third = [(await post(client, to(ana), {"text": text}))[1] for text in ("1", "2", "3")]
    other = (await post(client, to(bruno), {"text": "1"}))[1]
    assert [one["waitsFor"] for one in (first, second, third, other)] == [None, first["id"], first["id"], None]
    assert (second["reasonCode"], first["id"] in second["reason"]) == ("behind", True)

    canceled = await client.send("POST", f"{OUTBOUND}/{first['id']}/cancel")
    assert (canceled["state"], canceled["parts"][0]["state"]) == ("canceled", "canceled")
    assert [one[1:] for one in due(client)] == [(False, False), (True, True), (False, True), (True, True)]
    shown = [await client.get(f"{OUTBOUND}/{one['id']}") for one in (second, third)]
    assert [one["waitsFor"] for one in shown] == [None, second["id"]]
    assert (await client.send("POST", f"{OUTBOUND}/{first['id']}/cancel"))["state"] == "canceled", "twice is harmless"
    problem = await client.send("POST", f"{OUTBOUND}/{first['id']}/retry", status=409)
    assert "canceled" in problem["detail"]
    assert [one["type"] for one in await outbox_events(client)] == ["outbound.queued"] * 4 + ["outbound.canceled"]


def due(client: Client) -> list[tuple[int, bool, bool]]:
    with sqlite3.connect(client.database) as database:
        return database.execute("SELECT id, due_at IS NOT NULL, holds FROM outbound_messages ORDER BY id").fetchall()


def become(client: Client, outbound_id: str, state: str, *, holds: bool = True) -> None:
    """What the worker does when a call ended so."""
    with sqlite3.connect(client.database) as database:
        database.execute(
            "UPDATE outbound_messages SET state = ?, due_at = NULL, holds = ?, reason = 'as it is' WHERE id = ?",
            (state, holds, outbound_id),
        )
        database.execute("UPDATE outbound_parts SET state = ? WHERE outbound_id = ?", (state, outbound_id))


async def test_a_failed_message_is_retried_before_those_behind_it(client: Client) -> None:
    conversation, _ = await written(client)
    ids = [(await post(client, to(conversation), {"text": text}))[1]["id"] for text in "abc"]
    become(client, ids[0], "failed")
    assert [one[1:] for one in due(client)] == [(False, True)] * 3
    retried = await client.send("POST", f"{OUTBOUND}/{ids[0]}/retry")
    assert (retried["state"], retried["reason"], retried["parts"][0]["state"]) == ("queued", None, "queued")
    assert [one[1] for one in due(client)] == [True, False, False]

    become(client, ids[0], "failed", holds=False)  # as with after_failure = "continue"
    with sqlite3.connect(client.database) as database:
        database.execute("UPDATE outbound_messages SET due_at = 1 WHERE id = ?", (ids[1],))
    await client.send("POST", f"{OUTBOUND}/{ids[0]}/retry")
    assert [one[1] for one in due(client)] == [True, False, False], "in order again"

    become(client, ids[0], "failed", holds=False)
    become(client, ids[1], "sending")
    retried = await client.send("POST", f"{OUTBOUND}/{ids[0]}/retry")
    assert retried["waitsFor"] == ids[1], "what is being sent cannot be called back"
    assert not any(one[1] for one in due(client))


async def test_what_is_being_sent_or_unknown_is_treated_with_care(client: Client) -> None:
    conversation, _ = await written(client)
    one, behind = [(await post(client, to(conversation), {"text": text}))[1]["id"] for text in "ab"]
    become(client, one, "sending")
    assert "at this moment" in (await client.send("POST", f"{OUTBOUND}/{one}/cancel", status=409))["detail"]
    become(client, one, "sent", holds=False)
    assert "sent already" in (await client.send("POST", f"{OUTBOUND}/{one}/cancel", status=409))["detail"]
    become(client, one, "unknown")
    told = await client.send("POST", f"{OUTBOUND}/{one}/retry", status=409)
    assert "may have been sent" in told["detail"]
    assert (await client.send("POST", f"{OUTBOUND}/{one}/retry?force=true"))["state"] == "queued"
    become(client, one, "unknown")
    assert (await client.send("POST", f"{OUTBOUND}/{one}/cancel"))["state"] == "canceled"
    assert (await client.get(f"{OUTBOUND}/{behind}"))["waitsFor"] is None


async def test_a_message_that_is_sent_in_part_goes_on_where_it_ended(client: Client) -> None:
    conversation, _ = await written(client)
    body = {"text": "a", "attachments": [{"type": "like_heart"}]}
    one = (await post(client, to(conversation), body))[1]["id"]
    become(client, one, "failed")
    with sqlite3.connect(client.database) as database:
        database.execute("UPDATE outbound_parts SET state = 'sent' WHERE position = 0")
    retried = await client.send("POST", f"{OUTBOUND}/{one}/retry")
    assert (retried["state"], [part["state"] for part in retried["parts"]]) == ("sending", ["sent", "queued"])
    assert due(client) == [(int(one), True, True)]
    canceled = await client.send("POST", f"{OUTBOUND}/{one}/cancel")
    assert (canceled["state"], [part["state"] for part in canceled["parts"]]) == ("canceled", ["sent", "canceled"])


async def test_twenty_requests_with_one_key_are_one_message(client: Client) -> None:
    conversation, _ = await written(client)
    answers = await asyncio.gather(
        *(post(client, to(conversation), {"text": "Yes."}, key="order-7") for _ in range(20))
    )
    assert {status for status, _, _ in answers} == {202}
    assert len({one["id"] for _, one, _ in answers}) == 1
    assert len((await client.get(OUTBOUND))["outbound"]) == 1
    assert len(await outbox_events(client)) == 1

    status, problem, _ = await post(client, to(conversation), {"text": "No."}, key="order-7")
    assert (status, "another request" in problem["detail"]) == (409, True)
    status, again, _ = await post(client, to(conversation), {"sentBy": "automation", "text": "Yes."}, key="order-7")
    assert (status, again["id"]) == (202, answers[0][1]["id"]), "the same request, written otherwise"
    status, other, _ = await post(client, to(conversation), {"text": "Yes."}, key="order-7", token=SENDER)
    assert (status, other["requestedBy"]) == (202, "send")
    assert other["id"] != again["id"], "keys belong to who gave them"
    status, other, _ = await post(client, to(conversation), {"text": "Yes."})
    assert other["id"] != again["id"]


async def test_a_key_brings_its_answer_whatever_has_happened_since(client: Client, clock: Later) -> None:
    conversation, who = await written(client)
    (asked,) = await client.messages(conversation)
    body = {"text": "Yes.", "replyTo": asked["id"]}
    _, first, _ = await post(client, to(conversation), body, key="k")
    await client.deliver({**who.says("x"), "message": {"mid": asked["platformMessageId"], "is_deleted": True}})
    await client.settled()
    clock.later_ms = 2 * DAY_MS
    status, again, _ = await post(client, to(conversation), body, key="k")
    assert (status, again["id"]) == (202, first["id"])
    status, problem, _ = await post(client, to(conversation), body, key="another")
    assert (status, "taken back" in problem["detail"]) == (422, True)


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ñ", "\t"])
async def test_a_key_that_is_none_is_refused(client: Client, key: str) -> None:
    conversation, _ = await written(client)
    status, problem, _ = await post(client, to(conversation), {"text": "a"}, key=key)
    assert (status, "Idempotency-Key" in problem["detail"]) == (400, True)


async def test_a_closed_window_is_said_with_its_time(client: Client, clock: Later) -> None:
    conversation, _ = await written(client)
    assert (conversation["canReply"], conversation["humanAgentUntil"]) == (True, None)
    clock.later_ms = DAY_MS
    (closed,) = await client.conversations()
    assert closed["canReply"] is False
    assert closed["windowClosesAt"] == conversation["windowClosesAt"]
    status, problem, _ = await post(client, to(conversation), {"text": "late", "sentBy": "human"})
    assert status == 409
    assert conversation["windowClosesAt"][:10] in problem["detail"]
    status, problem, _ = await post(
        client, DIRECT, {"accountId": ACCOUNT, "participantPlatformId": igsid(9), "text": "first"}
    )
    assert (status, "nobody write first" in problem["detail"]) == (409, True)


async def test_a_human_may_answer_for_seven_days_where_the_account_has_the_feature(
    settings: Settings, secrets: Secrets, tmp_path: Path
) -> None:
    clock = Later()
    accounts = (AccountSettings(id=ACCOUNT, human_agent=True),)
    async with running(msgspec.structs.replace(settings, accounts=accounts), secrets, tmp_path, clock) as client:
        conversation, _ = await written(client)
        assert conversation["humanAgentUntil"] > conversation["windowClosesAt"]
        clock.later_ms = 3 * DAY_MS
        (later,) = await client.conversations()
        assert later["canReply"] is True
        status, problem, _ = await post(client, to(conversation), {"text": "I am a bot"})
        assert (status, "Only a human" in problem["detail"]) == (409, True)
        status, accepted, _ = await post(client, to(conversation), {"text": "late", "sentBy": "human"})
        assert (status, accepted["expiresAt"]) == (202, conversation["humanAgentUntil"])


async def test_what_waits_until_the_window_closes_fails_and_what_was_answered_meanwhile_does_not(
    settings: Settings, secrets: Secrets, tmp_path: Path
) -> None:
    clock = Later()
    async with running(settings, secrets, tmp_path, clock) as client:
        (silent, _), (talking, _) = await written(client, 0), await written(client, 1)
        ids = [(await post(client, to(one), {"text": text}))[1]["id"] for one in (silent, talking) for text in "ab"]
        clock.later_ms = DAY_MS - 60_000
        await client.deliver(Conversationalist(ACCOUNT, igsid(1), clock.now_ms()).says("still there?"))
        await client.settled()
    clock.later_ms = DAY_MS
    async with running(settings, secrets, tmp_path, clock) as client:

        async def expired() -> bool:
            return len((await client.get(f"{OUTBOUND}?state=failed"))["outbound"]) == 2

        await eventually(expired)
        found = [await client.get(f"{OUTBOUND}/{one}") for one in ids]
        assert [one["state"] for one in found] == ["failed", "failed", "queued", "queued"]
        assert {one["reasonCode"] for one in found[:2]} == {"window_closed"}
        assert all(silent["windowClosesAt"][:10] in one["reason"] for one in found[:2])
        assert found[2]["expiresAt"] > silent["windowClosesAt"]
        assert [one["type"] for one in await outbox_events(client)][-2:] == ["outbound.failed"] * 2
        problem = await client.send("POST", f"{OUTBOUND}/{ids[0]}/retry", status=409)
        assert "reply window closed" in problem["detail"]


async def test_who_may_send(client: Client) -> None:
    conversation, _ = await written(client)
    for token in (READER, WRITER):
        status, problem, _ = await post(client, to(conversation), {"text": "a"}, token=token)
        assert (status, problem["detail"].endswith("has no scope 'send'.")) == (403, True)
    status, accepted, location = await post(client, to(conversation), {"text": "a"}, token=SENDER)
    assert (status, accepted["requestedBy"]) == (202, "send")
    for method, path in (("POST", f"{location}/cancel"), ("POST", f"{location}/retry")):
        await client.send(method, path, token=WRITER, status=403)
    await client.get(str(location), token=SENDER, status=403)
    await client.get(str(location), token=READER)
    await client.send("POST", f"{location}/cancel", token=SENDER)
    await client.send("PATCH", f"/api/messaging/conversations/{conversation['id']}/read", token=SENDER, status=403)


async def test_the_list_goes_page_by_page_and_by_what_is_asked(client: Client) -> None:
    (ana, _), (bruno, _) = await written(client, 0), await written(client, 1)
    ids = [(await post(client, to(one), {"text": "x"}))[1]["id"] for one in (ana, bruno, ana, bruno, ana)]
    await client.send("POST", f"{OUTBOUND}/{ids[4]}/cancel")
    seen, cursor = [], ""
    while True:
        page = await client.get(f"{OUTBOUND}?limit=2{cursor}")
        seen += [one["id"] for one in page["outbound"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert seen == ids[::-1]

    async def listed(query: str) -> list[str]:
        return [one["id"] for one in (await client.get(f"{OUTBOUND}?{query}"))["outbound"]]

    assert await listed("state=canceled") == [ids[4]]
    assert await listed(f"conversationId={ana['id']}") == [ids[4], ids[2], ids[0]]
    assert await listed(f"conversationId={ana['id']}&state=queued") == [ids[2], ids[0]]
    assert await listed(f"accountId={ACCOUNT}&limit=1") == [ids[4]]
    assert await listed("accountId=1") == await listed("conversationId=999") == []
    await client.get(f"{OUTBOUND}?state=gone", status=400)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ([], 422),
        ({"text": 5}, 422),
        ({"text": "a", "txt": "b"}, 422),
        ({"text": "x" * 1001}, 422),
        ({"text": "x" * 20_001, "split": True}, 422),
        ({"text": "a", "sentBy": "cat"}, 422),
        ({"text": "a", "replyTo": "99"}, 422),
        ({"text": "a", "replyTo": "-1"}, 422),
        ({"text": "a", "replyTo": 1}, 422),
        ({"attachments": [{"type": "image", "url": "http://x.example/a.jpg"}]}, 422),
        ({"attachments": [{"type": "image", "url": "https://x.example/" + "a" * 2040}]}, 422),
        ({"attachments": [{"type": "gif", "url": "https://x.example/a.gif"}]}, 422),
        ({"attachments": [{"type": "like_heart"}] * 21}, 422),
        ({"text": "a", "quickReplies": [{"title": "x" * 21}]}, 422),
        ({"text": "a", "quickReplies": [{"title": "x", "payload": "p" * 1001}]}, 422),
        ({"template": {"type": "generic", "elements": [{"title": "x" * 81, "subtitle": "y"}]}}, 422),
        ({"template": {"type": "button", "text": "x" * 641, "buttons": [{"title": "a", "payload": "b"}]}}, 422),
        ({"template": {"type": "button", "text": "x", "buttons": [{"title": "a", "payload": "b"}] * 4}}, 422),
    ],
)
async def test_a_body_that_is_none_is_refused_and_leaves_nothing(client: Client, body: object, status: int) -> None:
    conversation, _ = await written(client)
    answered, problem, _ = await post(client, to(conversation), body)
    assert (answered, bool(problem["detail"])) == (status, True)
    assert (await client.get(OUTBOUND))["outbound"] == []


async def test_what_is_not_there_is_said(client: Client) -> None:
    for method, path in (
        ("POST", "/api/messaging/conversations/99/messages"),
        ("GET", f"{OUTBOUND}/99"),
        ("GET", f"{OUTBOUND}/x"),
        ("POST", f"{OUTBOUND}/99/cancel"),
        ("POST", f"{OUTBOUND}/99/retry"),
    ):
        await client.send(method, path, {"text": "a"} if "conversations" in path else None, status=404)
    status, problem, _ = await post(client, DIRECT, {"accountId": "1", "participantPlatformId": "2", "text": "a"})
    assert (status, "not served" in problem["detail"]) == (409, True)
    status, _, _ = await post(client, DIRECT, {"accountId": ACCOUNT, "text": "a"})
    assert status == 422
    status, problem, _ = await post(client, DIRECT, {"accountId": ACCOUNT, "commentId": "18", "text": "a"})
    assert (status, "no comment" in problem["detail"]) == (404, True)


async def test_a_message_of_another_conversation_cannot_be_answered(client: Client) -> None:
    (ana, _), (bruno, _) = await written(client, 0), await written(client, 1)
    (of_bruno,) = await client.messages(bruno)
    status, problem, _ = await post(client, to(ana), {"text": "a", "replyTo": of_bruno["id"]})
    assert (status, problem["detail"].startswith("replyTo:")) == (422, True)


async def test_the_outbox_takes_no_more_than_it_may_hold(client: Client) -> None:
    conversation, _ = await written(client)

    async def fill() -> list[int]:
        return [(await post(client, to(conversation), {"text": "a"}))[0] for _ in range(110)]

    statuses = [status for several in await asyncio.gather(*(fill() for _ in range(10))) for status in several]
    assert (statuses.count(202), statuses.count(429)) == (1000, 100), "so many wait in one conversation at most"
    (other, _) = await written(client, 1)
    statuses = [(await post(client, to(other), {"text": "a"}))[0] for _ in range(520)]
    assert 429 in statuses
    assert 480 <= statuses.count(202) <= 500, "and in all"


@pytest.mark.parametrize(
    ("body", "known"),
    [
        (
            {"txt": "hola"},
            "unknown field `txt`; known are: attachments, attachmentsFirst, quickReplies, replyTo",
        ),
        ({"text": "hola", "sentBy": "bot"}, "'sentBy': Expected 'human' or 'automation', got 'bot'."),
        (
            {"attachments": [{"type": "gif"}]},
            "'attachments[0].type': Expected 'image' or 'video' or 'audio' or 'file' or 'like_heart' or",
        ),
        (
            {"template": {"type": "button", "button": []}},
            "'template': Object contains unknown field `button`; known are: buttons, elements, text, type.",
        ),
    ],
)
async def test_a_wrong_name_is_answered_with_those_that_are_known(client: Client, body: Json, known: str) -> None:
    (ana, _) = await written(client, 0)
    status, answer, _ = await post(client, to(ana), body)
    assert status == 422
    assert known in answer["detail"]
    listed = await client.get(f"{OUTBOUND}?state=sendng", status=400)
    assert listed["detail"].startswith("'state': Expected 'queued' or 'sending' or 'unknown' or 'sent'")


async def test_everything_of_a_person_is_erased_and_exported(client: Client) -> None:
    (ana, _), (bruno, _) = await written(client, 0), await written(client, 1)
    body = {"text": "for ana alone", "attachments": [{"type": "like_heart"}]}
    _, kept, _ = await post(client, to(bruno), {"text": "for bruno"})
    _, gone, _ = await post(client, to(ana), body, key="k")
    become(client, gone["id"], "unknown")
    with sqlite3.connect(client.database) as database:
        database.execute("INSERT INTO outbound_attempts (part_id, began_at) SELECT id, 1 FROM outbound_parts")
    person = f"/api/participants/{ACCOUNT}/{ANA}"
    (exported,) = (await client.get(f"{person}/export"))["outboundMessages"]
    assert (exported["text"], exported["attachments"]) == ("for ana alone", [{"type": "like_heart"}])
    assert [part["state"] for part in exported["parts"]] == ["unknown", "unknown"]

    erased = await client.send("DELETE", person)
    assert erased["outboundMessages"] == 1
    assert [one["id"] for one in (await client.get(OUTBOUND))["outbound"]] == [kept["id"]]
    with sqlite3.connect(client.database) as database:
        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("outbound_messages", "outbound_parts", "outbound_attempts")
        ]
    assert counts == [1, 1, 1]
    assert b"for ana alone" not in client.database.read_bytes()
    told = msgspec.json.encode(await outbox_events(client))
    assert (b"for ana alone" in told, b"for bruno" in told) == (False, True)


async def test_a_log_of_ids_only_has_no_text_of_what_is_sent(
    settings: Settings, secrets: Secrets, tmp_path: Path
) -> None:
    discreet = msgspec.structs.replace(settings, events=msgspec.structs.replace(settings.events, ids_only=True))
    async with running(discreet, secrets, tmp_path, Later()) as client:
        conversation, _ = await written(client)
        _, one, _ = await post(client, to(conversation), {"text": "a secret"})
        (event,) = await outbox_events(client)
    assert event["data"] == {
        "outboundId": one["id"],
        "conversationId": conversation["id"],
        "participantPlatformId": ANA,
        "state": "queued",
        "reasonCode": None,
    }
