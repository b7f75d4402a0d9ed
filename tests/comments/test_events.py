"""Comments and mentions in the event log: told once, with what could be read."""

import json
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from inboxd.comments.event_types import EVENT_TYPES
from inboxd.runtime.clock import iso_utc

from tests.comments.conftest import Run
from tests.comments.rig import tell, threads
from tests.support import ACCOUNT, ANA, T0, Client, Json

PAYLOADS: Final = Path(__file__).parent.parent / "payloads"
TYPES: Final = ",".join(one.name for one in EVENT_TYPES)
DATA: Final = {one.name: one.data for one in EVENT_TYPES}


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
        await client.settled()


async def comment(client: Client, value: Any, time_s: int = T0 // 1000) -> None:
    await tell(client, value, at_ms=time_s * 1000)


async def test_a_comment_is_told_in_both_envelopes(client: Client) -> None:
    await post(client, "comment_facebook_login", "comment_instagram_login_without_changes", "live_comment")
    first, live = await logged(client)
    number = (await threads(client))[-1]["id"]
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
        "id": number,
        "threadId": number,
        "hidden": False,
        "editedAt": None,
    }
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


async def test_a_mention_is_told_and_a_mention_in_a_story_is_a_message(client: Client) -> None:
    await post(client, "mention")
    story = {"type": "story_mention", "payload": {"url": "https://example.com/story"}}
    message = {"mid": "a-story", "attachments": [story]}
    await client.deliver({"sender": {"id": ANA}, "recipient": {"id": ACCOUNT}, "timestamp": T0, "message": message})
    (event,) = await logged(client)
    assert (event["type"], event["data"]) == (
        "mention.received",
        {"mediaId": "1", "commentId": "2", "id": (await threads(client))[0]["id"]},
    )
    assert len((await client.get("/api/events?types=message.received"))["events"]) == 1


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


async def test_a_log_of_ids_has_no_word_of_a_comment(run: Run) -> None:
    async with run(ids_only=True) as thin:
        author = {"id": ANA, "username": "ana_x"}
        media = {"id": "5", "ad_title": "quokka"}
        await comment(thin, {"id": "1", "text": "zanzibar", "from": author, "media": media})
        (event,) = await logged(thin)
        text = json.dumps(event)
        assert not [word for word in ("zanzibar", "ana_x", "quokka") if word in text]
        assert event["data"]["from"] == {"id": ANA, "username": None}
        assert event["data"]["media"]["id"] == "5"
