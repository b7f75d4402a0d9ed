"""Simulated comments and mentions look as Meta's do, in webhooks and in the API."""

import asyncio
from typing import Any

import pytest
from inboxd.simulator.comment_control import FIRST_POST
from inboxd.simulator.comment_payloads import OWN_SCOPED_ID
from inboxd.simulator.people import igsid

from tests.simulator.rig import ANA_NAME, OTHER, PAGE_TOKEN, Json, Rig, error_of
from tests.support import ACCOUNT, ANA, T0

BRUNO = igsid(2)
DAY_S = 86_400
CREATED = "2026-09-21T14:13:20+0000"


async def comment(rig: Rig, **properties: Any) -> str:
    new = {"account_id": ACCOUNT, "from_id": ANA, "text": "precio?", "created_ms": T0, **properties}
    found: str = (await rig.control("comments", new, method="POST"))["id"]
    return found


async def post(rig: Rig, **properties: Any) -> str:
    found: str = (await rig.control("posts", {"account_id": ACCOUNT, "created_ms": T0, **properties}, method="POST"))[
        "id"
    ]
    return found


def told(rig: Rig) -> list[Json]:
    return [change for payload in rig.received for change in payload["entry"][0].get("changes", ())]


# --- webhooks ---------------------------------------------------------------------------------------------------------


async def test_a_webhook_tells_of_a_comment(rig: Rig) -> None:
    rig.sender()
    found = await comment(rig)
    value = {
        "id": found,
        "from": {"id": ANA, "username": ANA_NAME},
        "text": "precio?",
        "media": {"id": FIRST_POST, "media_product_type": "FEED"},
    }
    entry = {"id": ACCOUNT, "time": T0 // 1000, "changes": [{"field": "comments", "value": value}]}
    assert rig.received == [{"object": "instagram", "entry": [entry]}]


async def test_the_other_ways_to_write_it(rig: Rig) -> None:
    rig.sender()
    rig.behave(comment_key="comment_id", comment_envelope="entry", comment_from=False)
    found = await comment(rig, text=None)
    value = {"comment_id": found, "media": {"id": FIRST_POST, "media_product_type": "FEED"}}
    entry = {"id": ACCOUNT, "time": T0 // 1000, "field": "comments", "value": value}
    assert rig.received == [{"object": "instagram", "entry": [entry]}]


async def test_an_ad_and_a_reply_and_a_broadcast(rig: Rig) -> None:
    rig.sender()
    ad = await post(rig, ad_id="1200", ad_title="Sale", original_media_id="179", media_product_type="REELS")
    first = await comment(rig, media_id=ad)
    reply = await comment(rig, media_id=ad, parent_id=first)
    await comment(rig, media_id=ad, parent_id=reply)
    broadcast = await post(rig, live=True)
    await comment(rig, media_id=broadcast)

    changes = told(rig)
    assert changes[0]["value"]["media"] == {
        "id": ad, "media_product_type": "REELS", "ad_id": "1200", "ad_title": "Sale", "original_media_id": "179",
    }  # fmt: skip
    assert [one["value"].get("parent_id") for one in changes] == [None, first, first, None]
    assert [one["field"] for one in changes] == ["comments"] * 3 + ["live_comments"]


async def test_comments_of_the_account_itself_are_marked(rig: Rig) -> None:
    rig.sender()
    await comment(rig, from_id=ACCOUNT)
    rig.behave(own_comment_id="app_scoped", own_comment_marker=False)
    await comment(rig, from_id=ACCOUNT)
    assert [one["value"]["from"] for one in told(rig)] == [
        {"id": ACCOUNT, "username": "the.shop", "self_ig_scoped_id": OWN_SCOPED_ID},
        {"id": f"9{ACCOUNT}", "username": "the.shop"},
    ]


async def test_nobody_tells_of_edits_and_deletions(rig: Rig) -> None:
    found = await comment(rig)
    rig.sender()
    await rig.control(f"comments/{found}", {"text": "y el precio?"}, method="PATCH")
    assert (await rig.get(found, fields="text"))[1] == {"id": found, "text": "y el precio?"}
    await rig.control(f"comments/{found}", method="DELETE")
    assert error_of(await rig.get(found)) == (400, 100, 33)
    assert rig.received == []
    (true,) = (await rig.control("comments"))["comments"]
    assert (true["edited"], true["deleted"]) == (True, True)


async def test_mentions_come_with_ids_only(rig: Rig) -> None:
    rig.sender()
    theirs = await post(rig, account_id=None, mentions=[ACCOUNT])
    other = await post(rig, account_id=None)
    found = await comment(rig, account_id=None, media_id=other, mentions=[ACCOUNT])
    assert told(rig) == [
        {"field": "mentions", "value": {"media_id": theirs}},
        {"field": "mentions", "value": {"media_id": other, "comment_id": found}},
    ]


async def test_only_who_is_subscribed_is_told(rig: Rig) -> None:
    rig.sender()
    rig.behave(comments_need_subscription=True)
    await comment(rig)
    assert rig.received == []
    await rig.post("me/subscribed_apps", subscribed_fields="messages,comments")
    await comment(rig, text="there?")
    assert [one["value"]["text"] for one in told(rig)] == ["there?"]


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_a_comment_can_be_read(rig: Rig) -> None:
    found = await comment(rig)
    reply = await comment(rig, parent_id=found, from_id=BRUNO, text="20 €")
    fields = "id,text,timestamp,username,from,hidden,like_count,parent_id,media{id,permalink},replies{id,text},user"
    assert await rig.get(found, fields=fields) == (
        200,
        {
            "id": found,
            "text": "precio?",
            "timestamp": CREATED,
            "username": ANA_NAME,
            "from": {"id": ANA, "username": ANA_NAME},
            "hidden": False,
            "like_count": 0,
            "media": {"id": FIRST_POST, "permalink": "https://www.instagram.com/p/S0000000001/"},
            "replies": {"data": [{"id": reply, "text": "20 €"}]},
        },
    )
    assert (await rig.get(reply, fields="parent_id"))[1] == {"id": reply, "parent_id": found}
    assert (await rig.get(found))[1] == {"id": found, "text": "precio?", "timestamp": CREATED}
    gif = await comment(rig, text=None)
    assert (await rig.get(gif, fields="text"))[1] == {"id": gif}
    assert error_of(await rig.get(found, fields="likes")) == (400, 100, None)
    assert error_of(await rig.get(found, token="other")) == (400, 100, 33)
    assert (await rig.get(found, token=PAGE_TOKEN))[0] == 200


async def test_a_post_can_be_read(rig: Rig) -> None:
    reel = await post(rig, media_product_type="REELS", caption="Spring")
    fields = "permalink,thumbnail_url,caption,media_type,media_product_type,username,timestamp,comments_count"
    status, found = await rig.get(reel, fields=fields)
    assert status == 200
    assert found["thumbnail_url"].endswith("=Simulated")
    assert found | {"thumbnail_url": ""} == {
        "id": reel,
        "permalink": f"https://www.instagram.com/reel/S{reel[-10:]}/",
        "thumbnail_url": "",
        "caption": "Spring",
        "media_type": "VIDEO",
        "media_product_type": "REELS",
        "username": "the.shop",
        "timestamp": CREATED,
        "comments_count": 0,
    }
    picture = await post(rig)
    assert "thumbnail_url" not in (await rig.get(picture, fields="thumbnail_url,media_url"))[1]
    assert error_of(await rig.get(reel, token="other")) == (400, 100, 33)


async def test_comments_are_listed_newest_first(rig: Rig) -> None:
    found = [await comment(rig, created_ms=T0 + number) for number in range(60)]
    await comment(rig, parent_id=found[0])
    status, first = await rig.get(f"{FIRST_POST}/comments", fields="id", limit="100")
    assert status == 200
    assert [one["id"] for one in first["data"]] == found[:9:-1], "fifty at most, and no replies"
    _, second = await rig.get(f"{FIRST_POST}/comments", limit="50", after=first["paging"]["cursors"]["after"])
    assert [one["id"] for one in second["data"]] == found[9::-1]
    ad = await post(rig, ad_id="1200")
    await comment(rig, media_id=ad)
    assert (await rig.get(f"{ad}/comments"))[1]["data"] == []


async def test_replies_are_listed(rig: Rig) -> None:
    found = await comment(rig)
    replies = [await comment(rig, parent_id=found, created_ms=T0 + number) for number in range(3)]
    assert [one["id"] for one in (await rig.get(f"{found}/replies"))[1]["data"]] == replies
    await rig.control(f"comments/{found}", method="DELETE")
    assert error_of(await rig.get(f"{found}/replies")) == (400, 100, 33)
    assert error_of(await rig.get(replies[0])) == (400, 100, 33), "replies go with the comment"


async def test_mentions_can_be_read(rig: Rig) -> None:
    theirs = await post(rig, account_id=None, caption="thanks @the.shop", mentions=[ACCOUNT])
    other = await post(rig, account_id=None)
    found = await comment(rig, account_id=None, media_id=other, text="@the.shop !", mentions=[ACCOUNT])
    fields = f"mentioned_comment.comment_id({found}){{id,text,timestamp,username,from,media{{id,username}}}}"
    assert await rig.get(ACCOUNT, fields=fields, token=PAGE_TOKEN) == (
        200,
        {
            "id": ACCOUNT,
            "mentioned_comment": {
                "id": found,
                "text": "@the.shop !",
                "timestamp": CREATED,
                "username": ANA_NAME,
                "media": {"id": other, "username": "somebody.else"},
            },
        },
    )
    fields = f"mentioned_media.media_id({theirs}){{caption,permalink,username}}"
    status, shown = await rig.get("me", fields=fields)
    assert (status, shown["mentioned_media"]["caption"]) == (200, "thanks @the.shop")
    assert error_of(await rig.get("me", fields=f"mentioned_media.media_id({other}){{id}}")) == (400, 10, None)
    assert error_of(await rig.get(found)) == (400, 100, 33), "a comment under a post of somebody else"


# --- acting -----------------------------------------------------------------------------------------------------------


async def test_a_reply_comes_back_as_a_comment(rig: Rig) -> None:
    found = await comment(rig)
    rig.sender()
    rig.behave(echo="early")
    status, answer = await rig.post(f"{found}/replies", message="20 €")
    assert (status, set(answer)) == (200, {"id"})
    (change,) = told(rig)
    assert change["value"] == {
        "id": answer["id"],
        "parent_id": found,
        "from": {"id": ACCOUNT, "username": "the.shop", "self_ig_scoped_id": OWN_SCOPED_ID},
        "text": "20 €",
        "media": {"id": FIRST_POST, "media_product_type": "FEED"},
    }
    again = (await rig.post(f"{answer['id']}/replies", message="each"))[1]["id"]
    assert (await rig.get(again, fields="parent_id"))[1]["parent_id"] == found, "a reply to a reply is put beside it"
    sent = (await rig.control("sent"))["comments"]
    assert [(one["text"], one["parent_id"]) for one in sent] == [("20 €", found), ("each", found)]
    assert (await rig.post(f"{FIRST_POST}/comments", {"message": "new in"}))[0] == 200


async def test_the_answer_to_a_reply_may_be_lost(rig: Rig) -> None:
    found = await comment(rig)
    rig.behave(send_answer="error_after_sending", send_answer_next=1)
    assert error_of(await rig.post(f"{found}/replies", message="20 €")) == (500, 2, None)
    rig.behave(send_answer="error_before", send_answer_next=1)
    assert error_of(await rig.post(f"{found}/replies", message="30 €")) == (500, 2, None)
    (reply,) = (await rig.get(f"{found}/replies", fields="text"))[1]["data"]
    assert reply["text"] == "20 €"


async def test_what_cannot_be_answered(rig: Rig) -> None:
    found = await comment(rig)
    assert error_of(await rig.post(f"{found}/replies")) == (400, 100, None)
    assert error_of(await rig.post(f"{found}/replies", attachment_url="https://x")) == (400, 1, None)
    assert error_of(await rig.post(f"{found}/replies", message="x", token="other")) == (400, 100, 33)
    await rig.post(found, hide="true")
    assert error_of(await rig.post(f"{found}/replies", message="x")) == (400, 100, None)
    live = await comment(rig, media_id=await post(rig, live=True))
    assert error_of(await rig.post(f"{live}/replies", message="x")) == (400, 100, None)
    rig.behave(comments_permission=False)
    assert error_of(await rig.get(found)) == (403, 10, None)
    assert (await rig.control("sent"))["comments"] == []


async def test_comments_are_hidden_shown_and_deleted(rig: Rig) -> None:
    found, own = await comment(rig), await comment(rig, from_id=ACCOUNT)
    for wanted, hidden in (("true", True), ("false", False)):
        assert await rig.post(found, hide=wanted) == (200, {"success": True})
        assert (await rig.get(found, fields="hidden"))[1]["hidden"] is hidden
    assert await rig.post(own, hide="true") == (200, {"success": True})
    assert (await rig.get(own, fields="hidden"))[1]["hidden"] is False
    assert error_of(await rig.post(found)) == (400, 100, None)
    assert await rig.delete(found) == (200, {"success": True})
    assert error_of(await rig.delete(found)) == (400, 100, 33)
    assert error_of(await rig.get(found)) == (400, 100, 33)


async def test_live_comments_end_with_the_broadcast(rig: Rig) -> None:
    broadcast = await post(rig, live=True)
    live = await comment(rig, media_id=broadcast)
    assert (await rig.get(live))[0] == 200
    await rig.control(f"posts/{broadcast}", {"live": False}, method="PATCH")
    assert error_of(await rig.get(live)) == (400, 100, 33)
    assert error_of(await privately(rig, live)) == (400, 100, 2534025)


async def test_a_mention_is_answered(rig: Rig) -> None:
    theirs = await post(rig, account_id=None, mentions=[ACCOUNT])
    status, answer = await rig.post(f"{ACCOUNT}/mentions", media_id=theirs, message="thank you!")
    assert status == 200
    assert error_of(await rig.get(answer["id"])) == (400, 100, 33), "it cannot be read back"
    assert error_of(await rig.post(f"{ACCOUNT}/mentions", media_id=FIRST_POST, message="x")) == (400, 10, None)


# --- private replies --------------------------------------------------------------------------------------------------


async def privately(rig: Rig, comment_id: str, message: Json | None = None) -> tuple[int, Json]:
    body = {"recipient": {"comment_id": comment_id}, "message": message or {"text": "20 €"}}
    return await rig.post("me/messages", body)


async def test_a_private_reply_opens_the_conversation_once(rig: Rig) -> None:
    found = await comment(rig)
    rig.sender()
    rig.behave(echo="early")
    status, answer = await privately(rig, found)
    assert (status, answer["recipient_id"]) == (200, ANA)
    (echo,) = rig.items()
    assert (echo["recipient"]["id"], echo["message"]["mid"]) == (ANA, answer["message_id"])
    assert error_of(await privately(rig, found)) == (400, 100, 2534025)
    rig.behave(used_comment_subcode=2534023)
    assert error_of(await privately(rig, found)) == (400, 100, 2534023)
    assert error_of(await rig.send("more")) == (400, 10, 2534022), "it opens no window"
    (sent,) = await rig.sent()
    assert (sent["comment_id"], sent["recipient_id"]) == (found, ANA)


async def test_two_private_replies_at_once_are_one(rig: Rig) -> None:
    found = await comment(rig)
    rig.behave(send_answer="slow", send_answer_ms=100)
    answers = await asyncio.gather(*(privately(rig, found) for _ in range(3)))
    assert sorted(status for status, _ in answers) == [200, 400, 400]
    assert len(await rig.sent()) == 1


async def test_private_replies_end_after_a_week_and_with_the_comment(rig: Rig) -> None:
    found, deleted, own = await comment(rig), await comment(rig), await comment(rig, from_id=ACCOUNT)
    await rig.control(f"comments/{deleted}", method="DELETE")
    reply = await comment(rig, parent_id=deleted, from_id=BRUNO)
    for one in (deleted, reply, own, "18000000000000099"):
        assert error_of(await privately(rig, one)) == (400, 100, 2534025)
    file = {"attachment": {"type": "image", "payload": {"url": "http://localhost/a.png"}}}
    assert error_of(await privately(rig, found, file)) == (400, 100, 2534015)
    rig.now[0] = T0 / 1000 + 7 * DAY_S + 1
    assert error_of(await privately(rig, found)) == (400, 100, 2534025)
    assert await rig.sent() == []


async def test_private_replies_have_a_limit(rig: Rig) -> None:
    rig.behave(private_replies_per_h=2)
    answers = [await privately(rig, await comment(rig, from_id=igsid(number))) for number in range(1, 4)]
    assert [status for status, _ in answers] == [200, 200, 400]
    assert error_of(answers[2]) == (400, 613, 2534040)


# --- subscriptions ----------------------------------------------------------------------------------------------------


async def test_a_subscription_is_all_or_nothing_and_replaces(rig: Rig) -> None:
    async def subscribed() -> list[str]:
        data = (await rig.get("me/subscribed_apps"))[1]["data"]
        return [field for one in data for field in one["subscribed_fields"]]

    first = await rig.post("me/subscribed_apps", subscribed_fields="messages,comments")
    assert first == (200, {"success": True})
    answer = await rig.post("me/subscribed_apps", subscribed_fields="messages,message_echoes")
    assert error_of(answer) == (400, 100, None)
    assert await subscribed() == ["comments", "messages"]
    await rig.post("me/subscribed_apps", subscribed_fields="messages")
    assert await subscribed() == ["messages"]


@pytest.mark.parametrize("how", ["error", "success_false"])
async def test_an_unticked_field_voids_the_whole_call(rig: Rig, how: str) -> None:
    rig.behave(unticked_fields=("comments",), unticked_answer=how)
    answer = await rig.post("me/subscribed_apps", subscribed_fields="messages,comments")
    assert answer == (200, {"success": False}) or error_of(answer) == (400, 100, None)
    assert (answer[0] == 200) == (how == "success_false")
    assert rig.server.subscriptions[ACCOUNT] == set()


async def test_a_page_and_its_account_take_different_fields(rig: Rig) -> None:
    refused = await rig.post("me/subscribed_apps", subscribed_fields="messages,comments", token=PAGE_TOKEN)
    assert error_of(refused) == (400, 100, None)
    for node, fields in (("me", "messages,feed"), (ACCOUNT, "comments,mentions")):
        assert (await rig.post(f"{node}/subscribed_apps", subscribed_fields=fields, token=PAGE_TOKEN))[0] == 200
    assert rig.server.subscribed.has(ACCOUNT, "comments")
    assert rig.server.subscribed.has(ACCOUNT, "feed")
    assert not rig.server.subscribed.has(OTHER, "comments")


async def test_control_says_what_is_wrong(rig: Rig) -> None:
    async with rig.session.post(f"{rig.url}/_simulator/comments", json={"media_id": "1"}) as response:
        assert response.status == 404
    async with rig.session.post(f"{rig.url}/_simulator/comments", json={"media": "1"}) as response:
        assert response.status == 400
    async with rig.session.delete(f"{rig.url}/_simulator/comments/1") as response:
        assert response.status == 404
