"""Comments, mentions, thread control and referrals in the event log: told once, with what could be read."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest
from inboxd import app
from inboxd.config.schema import EventSettings, Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.webhook_event_types import WEBHOOK_EVENT_TYPES
from inboxd.runtime.clock import iso_utc

from tests.support import ACCOUNT, ANA, T0, Client, Json

PAYLOADS: Final = Path(__file__).parent.parent / "payloads"
TYPES: Final = ",".join(one.name for one in WEBHOOK_EVENT_TYPES)
DATA: Final = {one.name: one.data for one in WEBHOOK_EVENT_TYPES}


@pytest.fixture
async def thin(settings: Settings, secrets: Secrets, tmp_path: Path) -> AsyncIterator[Client]:
    """A daemon whose log holds ids only."""
    thinner = msgspec.structs.replace(settings, events=EventSettings(ids_only=True))
    path = tmp_path / "thin.sqlite3"
    async with (
        app.run_daemon(thinner, secrets, path, on_give_up=pytest.fail) as daemon,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, daemon.public_url, daemon.admin_url, path)


async def logged(client: Client) -> list[Json]:
    """The events of these types, each of which its type can read."""
    await client.settled()
    found: list[Json] = (await client.get(f"/api/events?types={TYPES}"))["events"]
    for event in found:
        msgspec.convert(event["data"], DATA[event["type"]])
    return found


async def post(client: Client, *names: str) -> None:
    for name in names:
        status, answer, _ = await client.post((PAYLOADS / f"{name}.json").read_bytes())
        assert status == 200, answer


async def comment(client: Client, value: Any, time_s: int = T0 // 1000) -> None:
    change = {"field": "comments", "value": value}
    entry = {"id": ACCOUNT, "time": time_s, "changes": [change]}
    status, answer, _ = await client.post(json.dumps({"object": "instagram", "entry": [entry]}).encode())
    assert status == 200, answer


async def test_a_comment_is_told_in_both_envelopes(client: Client) -> None:
    await post(client, "comment_facebook_login", "comment_instagram_login_without_changes", "live_comment")
    first, second, live = await logged(client)
    assert (first["type"], first["accountId"]) == ("comment.received", ACCOUNT)
    assert first["occurredAt"].startswith("2026-09-21T")
    assert first["data"] == {
        "commentId": "18000000000000001",
        "parentId": None,
        "text": "precio?",
        "from": {"id": ANA, "username": "ana_x"},
        "media": {"id": "1", "productType": "FEED", "originalId": None, "adId": None, "adTitle": None},
        "isLive": False,
        "isOwn": False,
        "selfIgScopedId": None,
    }
    assert (second["data"]["commentId"], second["data"]["media"]) == ("18000000000000001", None)
    assert (live["data"]["text"], live["data"]["isLive"]) == ("hi", True)


async def test_all_that_meta_says_of_a_comment_is_told(client: Client) -> None:
    media = {
        "id": "17900000000000001",
        "media_product_type": "REELS",
        "ad_id": 1200000000000001,
        "ad_title": "Summer",
        "original_media_id": "17900000000000002",
    }
    author = {"id": "1784", "username": "shop", "self_ig_scoped_id": "7000000000000042"}
    await comment(client, {"id": "181", "parent_id": "180", "text": "ours", "from": author, "media": media})
    (event,) = await logged(client)
    data = event["data"]
    assert (data["parentId"], data["isOwn"], data["selfIgScopedId"]) == ("180", True, "7000000000000042")
    assert data["media"] == {
        "id": "17900000000000001",
        "productType": "REELS",
        "originalId": "17900000000000002",
        "adId": "1200000000000001",
        "adTitle": "Summer",
    }


async def test_a_comment_happened_when_meta_says_although_our_clock_is_behind(client: Client) -> None:
    """As a message of the same time does."""
    ahead_s = int(time.time()) + 30 * 86_400
    await comment(client, {"id": "1", "text": "hi", "from": {"id": ANA}}, ahead_s)
    (event,) = await logged(client)
    assert event["occurredAt"] == iso_utc(ahead_s * 1000)
    ages_s = ahead_s + 3000 * 86_400
    await comment(client, {"id": "2", "text": "hi", "from": {"id": ANA}}, ages_s)
    (_, event) = await logged(client)
    assert event["occurredAt"] < iso_utc(ahead_s * 1000), "nobody is that far behind"


async def test_a_comment_by_the_id_of_the_account_is_its_own(client: Client) -> None:
    await comment(client, {"id": "181", "text": "ours", "from": {"id": ACCOUNT}})
    (event,) = await logged(client)
    assert event["data"]["isOwn"] is True


async def test_a_repeated_delivery_tells_nothing_new(client: Client) -> None:
    for _ in range(3):
        await post(client, "comment_facebook_login", "mention", "handover_take", "referral")
        await client.settled()
    change = {"field": "comments", "value": {"id": "99", "text": "twice in one delivery"}}
    entry = {"id": ACCOUNT, "time": T0 // 1000, "changes": [change, change]}
    await client.post(json.dumps({"object": "instagram", "entry": [entry, entry]}).encode())
    found = await logged(client)
    types = ["comment.received", "mention.received", "handover.changed", "referral.received", "comment.received"]
    assert [event["type"] for event in found] == types


async def test_a_mention_is_told_and_a_mention_in_a_story_is_a_message(client: Client) -> None:
    await post(client, "mention")
    story = {"type": "story_mention", "payload": {"url": "https://example.com/story"}}
    message = {"mid": "a-story", "attachments": [story]}
    await client.deliver({"sender": {"id": ANA}, "recipient": {"id": ACCOUNT}, "timestamp": T0, "message": message})
    (event,) = await logged(client)
    assert (event["type"], event["data"]) == ("mention.received", {"mediaId": "1", "commentId": "2"})
    assert len((await client.get("/api/events?types=message.received"))["events"]) == 1


async def test_each_kind_of_thread_control_is_told(client: Client) -> None:
    sender = {"sender": {"id": ANA}, "recipient": {"id": ACCOUNT}, "timestamp": T0}
    await client.deliver({**sender, "message": {"mid": "first", "text": "hola"}})
    await client.settled()
    await post(client, "handover_pass", "handover_take", "handover_request", "handover_app_roles")
    await post(client, "handovers_plural_in_changes")
    found = [event["data"] for event in await logged(client)]
    (conversation,) = await client.conversations()
    nothing: Json = {
        "participantPlatformId": ANA,
        "conversationId": str(conversation["id"]),
        "previousOwnerAppId": None,
        "newOwnerAppId": None,
        "requestedOwnerAppId": None,
        "metadata": None,
        "appRoles": {},
    }
    assert found[:4] == [
        nothing | {"kind": "pass", "newOwnerAppId": "222", "metadata": "x"},
        nothing | {"kind": "take", "previousOwnerAppId": "1", "newOwnerAppId": "222"},
        nothing | {"kind": "request", "requestedOwnerAppId": "1"},
        nothing | {"kind": "app_roles", "appRoles": {"1": ["primary_receiver"]}},
    ]
    assert len(found) == 5


async def test_a_referral_is_told_with_typed_members_and_not_one_that_came_in_a_message(client: Client) -> None:
    await post(client, "referral", "message_from_ad_with_numeric_ad_id", "postback")
    (event,) = await logged(client)
    assert event["type"] == "referral.received"
    (conversation,) = await client.conversations()
    assert (event["data"]["participantPlatformId"], event["data"]["conversationId"]) == (ANA, conversation["id"])
    referral = event["data"]["referral"]
    assert (referral["ref"], referral["source"], referral["type"]) == ("qr7", "SHORTLINKS", "OPEN_THREAD")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        [],
        {"id": {"no": "id"}, "from": [1], "text": {"a": 1}, "media": "x", "parent_id": True},
        {"id": "with space", "from": {"id": "\u0000", "username": 7}, "text": 5},
        {"id": "1", "text": "x" * 200_000},
        {"id": 1e300, "media": {"id": [], "media_product_type": {}}},
        {"id": "1", "text": "half an emoji \ud83d"},
    ],
)
async def test_an_odd_comment_is_told_with_what_could_be_read(client: Client, value: Any) -> None:
    await comment(client, value)
    await comment(client, {"id": "2", "text": "its neighbour"})
    odd, sound = await logged(client)
    assert set(odd["data"]) == set(sound["data"])
    assert sound["data"]["text"] == "its neighbour"
    assert len(json.dumps(odd)) < 20_000
    assert (await client.get("/api/deliveries?state=failed"))["total"] == 0


async def test_odd_thread_control_is_told_with_what_could_be_read(client: Client) -> None:
    sender = {"sender": {"id": ANA}, "recipient": {"id": ACCOUNT}, "timestamp": T0}
    roles = {"x" * 500: ["role"], "1": "none", "2": ["a", 7, "y" * 500], **{str(one): [] for one in range(10, 900)}}
    await client.deliver(
        {**sender, "pass_thread_control": "text"},
        {**sender, "take_thread_control": {"new_owner_app_id": {}, "metadata": ["x"]}},
        {**sender, "app_roles": roles},
        {**sender, "referral": [1, 2]},
    )
    passed, taken, listed, referral = [event["data"] for event in await logged(client)]
    assert (passed["kind"], passed["newOwnerAppId"]) == ("pass", None)
    assert (taken["kind"], taken["newOwnerAppId"], taken["metadata"]) == ("take", None, None)
    assert (listed["appRoles"]["1"], listed["appRoles"]["2"], len(listed["appRoles"])) == ([], ["a"], 49)
    assert referral["referral"] is None


async def test_a_log_of_ids_has_no_text_and_no_name(thin: Client) -> None:
    author = {"id": ANA, "username": "ana_x"}
    await comment(thin, {"id": "1", "text": "zanzibar", "from": author, "media": {"id": "5", "ad_title": "quokka"}})
    sender = {"sender": {"id": ANA}, "recipient": {"id": ACCOUNT}, "timestamp": T0}
    ad = {"source": "ADS", "ref": "marmalade", "ad_id": "12", "ads_context_data": {"ad_title": "wyvern"}}
    control = {"new_owner_app_id": "2", "metadata": "xylograph"}
    await thin.deliver({**sender, "pass_thread_control": control}, {**sender, "referral": ad})
    comments, handover, referral = await logged(thin)
    text = json.dumps([comments, handover, referral])
    assert not [word for word in ("zanzibar", "ana_x", "quokka", "marmalade", "wyvern", "xylograph") if word in text]
    assert comments["data"]["from"] == {"id": ANA, "username": None}
    assert (comments["data"]["media"]["id"], handover["data"]["newOwnerAppId"]) == ("5", "2")
    assert (referral["data"]["referral"]["adId"], referral["data"]["referral"]["source"]) == ("12", "ADS")
