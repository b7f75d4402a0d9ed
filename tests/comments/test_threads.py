"""Comments and mentions as threads: what webhooks tell of them, however often and in whatever order."""

import itertools
import sqlite3

import pytest

from tests.comments.conftest import Run
from tests.comments.rig import COMMENT, POST, REPLY, THEIR_POST, Shop, events, said, tell, thread, threads, told
from tests.support import ACCOUNT, ANA, BRUNO, T0, Client, Json, eventually


async def known(client: Client, number: str, *, name: str = "permalink") -> Json:
    """The thread, once its post was read."""

    async def is_known() -> bool:
        return (await thread(client, number, "?refresh=false"))["post"][name] is not None

    await eventually(is_known)
    return await thread(client, number, "?refresh=false")


async def test_a_comment_is_a_thread_with_its_author_and_its_post(client: Client) -> None:
    await tell(client, said(media={"id": POST, "media_product_type": "FEED", "ad_id": 12000, "ad_title": "Summer"}))
    (found,) = await threads(client)
    assert found["comment"]["text"] == "precio?"
    assert found["comment"]["author"] == {"platformId": ANA, "username": "ana_x", "isOwn": False}
    assert found["comment"]["commentedAt"].startswith("2026-09-21T")
    assert (found["replyCount"], found["answered"], found["replyProblem"]) == (0, False, None)
    post = (await known(client, found["id"]))["post"]
    assert (post["permalink"], post["caption"]) == ("https://www.instagram.com/p/S0000000001/", "The new blue one")
    assert post["thumbnailUrl"].startswith("https://scontent.cdninstagram.com/")
    assert (post["adId"], post["adTitle"], post["productType"]) == ("12000", "Summer", "FEED")


async def test_a_post_is_read_once_for_all_its_comments(client: Client, shop: Shop) -> None:
    for number in range(5):
        await tell(client, said(f"1800000000000010{number}"))
    await known(client, (await threads(client))[0]["id"])
    await tell(client, said("18000000000000200"))
    assert len(await threads(client, f"?mediaId={POST}")) == 6
    assert shop.count("GET", POST) == 1


async def test_replies_stand_under_their_comment_in_any_order_of_arrival(client: Client) -> None:
    told = [
        (said(), T0),
        (said(REPLY, "and in blue?", parent_id=COMMENT), T0 + 60_000),
        (said("18000000000000003", "20", parent_id=COMMENT, author={"id": ACCOUNT, "username": "x"}), T0 + 90_000),
        # Instagram has one level: a reply to a reply is one to the comment.
        (said("18000000000000004", "thanks", parent_id=REPLY), T0 + 120_000),
    ]
    for number, order in enumerate(itertools.permutations(told)):
        renamed = {"1800000000000000": f"18{number:02}00000000000"}
        for value, at_ms in order:
            new = {
                name: part.replace(*next(iter(renamed.items()))) if isinstance(part, str) else part
                for name, part in value.items()
            }
            await tell(client, new, at_ms=at_ms)
    found = await threads(client)
    assert len(found) == 24
    for one in found:
        whole = await thread(client, one["id"], "?refresh=false")
        assert [reply["text"] for reply in whole["replies"]] == ["and in blue?", "20", "thanks"]
        assert [reply["author"]["isOwn"] for reply in whole["replies"]] == [False, True, False]
        assert (one["comment"]["text"], one["replyCount"], one["answered"]) == ("precio?", 3, False)
        assert one["lastCommentAt"] > one["comment"]["commentedAt"]


async def test_twice_the_same_comment_is_told_once(client: Client) -> None:
    """Comments on boosted posts come twice, with the media of the ad and with that of the post."""
    await tell(client, said())
    ad = {"id": POST, "media_product_type": "FEED", "ad_id": "12000", "original_media_id": "17900000000000009"}
    await tell(client, said(media=ad))
    await tell(client, {"comment_id": COMMENT, "text": "precio?", "from": {"id": ANA}})
    (found,) = await threads(client)
    assert (found["post"]["adId"], found["post"]["originalMediaId"]) == ("12000", "17900000000000009")
    assert [one["type"] for one in await events(client)] == ["comment.received"]


@pytest.mark.parametrize(
    "author",
    [
        {"id": ACCOUNT, "username": "anything"},
        {"id": "7000000000000042", "self_ig_scoped_id": "7000000000000042"},
        {"id": "7000000000000043", "username": "The.Shop"},
    ],
)
async def test_own_comments_are_known_by_any_of_their_signs(client: Client, author: Json) -> None:
    await client.send("POST", f"/api/accounts/{ACCOUNT}/check")  # its username is asked for
    await tell(client, said(author=author))
    (event,) = await events(client)
    assert event["data"]["isOwn"] is True
    (found,) = await threads(client)
    assert (found["comment"]["author"]["isOwn"], found["answered"]) == (True, True)
    assert found["comment"]["privateReply"]["state"] == "closed"
    assert found["comment"]["canHide"] is False


async def test_threads_are_filtered_searched_and_paged(client: Client) -> None:
    for number in range(12):
        words = "canción azul" if number % 3 == 0 else "precio"
        media = {"id": POST if number % 2 else "17900000000000002", "media_product_type": "FEED"}
        await tell(
            client, said(f"181000000000000{number:02}", f"{words} {number}", media=media), at_ms=T0 + number * 1000
        )
    await tell(client, said("182", "cancion verde", parent_id="18100000000000001"), at_ms=T0 + 100_000)
    await tell(client, said("183", "si", parent_id="18100000000000002", author={"id": ACCOUNT}), at_ms=T0 + 99_000)

    listed: list[str] = []
    cursor = ""
    while True:
        page = await client.get(f"/api/comments?limit=5{cursor}")
        listed += [one["comment"]["text"] for one in page["threads"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert len(listed) == len(set(listed)) == 12
    assert listed[:3] == ["precio 1", "precio 2", "precio 11"]

    assert len(await threads(client, f"?mediaId={POST}")) == 6
    assert len(await threads(client, f"?mediaId={POST}&accountId={ACCOUNT}&limit=200")) == 6
    assert await threads(client, "?accountId=1") == []
    assert [one["comment"]["text"] for one in await threads(client, "?answered=true")] == ["precio 2"]
    assert len(await threads(client, "?answered=false")) == 11
    assert len(await threads(client, "?state=hidden")) == 0
    found = {one["comment"]["text"] for one in await threads(client, "?q=cancion")}
    assert found == {"precio 1", "canción azul 0", "canción azul 3", "canción azul 6", "canción azul 9"}
    assert len(await threads(client, "?q=ana_x&limit=3")) == 3
    await client.get("/api/comments?state=gone", status=400)


async def test_a_mention_is_read_since_its_webhook_has_no_words(client: Client, shop: Shop) -> None:
    await shop.comment(
        client, "look @the.shop", media_id=THEIR_POST, mentions={ACCOUNT}, from_id=BRUNO, username="carla"
    )
    (found,) = await threads(client)
    assert (found["kind"], found["comment"]["text"]) in {("mention", None), ("mention", "look @the.shop")}

    async def is_read() -> bool:
        return bool((await threads(client))[0]["comment"]["text"] == "look @the.shop")

    await eventually(is_read)
    (found,) = await threads(client)
    assert found["comment"]["author"] == {"platformId": None, "username": "carla", "isOwn": False}
    assert (found["comment"]["canHide"], found["comment"]["canDelete"]) == (False, False)
    assert found["comment"]["privateReply"]["reason"] == "it stands under a post of somebody else"
    assert (found["post"]["caption"], found["post"]["ownerUsername"]) == ("with @the.shop", "bruno")
    assert await told(client) == ["mention.received", "comment.updated"]


async def test_a_mention_in_a_caption_shows_the_post(client: Client, shop: Shop) -> None:
    post = shop.server.posts.post(THEIR_POST)
    assert post is not None
    post.mentions.add(ACCOUNT)
    for _ in range(2):
        await tell(client, {"media_id": THEIR_POST}, field="mentions")
    (found,) = await threads(client)
    shown = (await known(client, found["id"]))["post"]
    assert (shown["caption"], shown["ownerUsername"]) == ("with @the.shop", "bruno")
    assert [one["data"]["commentId"] for one in await events(client)] == [None]


async def test_a_live_comment_is_shown_and_never_read(client: Client, shop: Shop) -> None:
    await tell(client, said(), field="live_comments")
    (found,) = await threads(client)
    assert (found["kind"], found["replyProblem"]) == (
        "live_comment",
        "comments of a broadcast cannot be answered publicly",
    )
    whole = await thread(client, found["id"])
    assert "broadcast" in whole["comment"]["checkProblem"]
    assert shop.count("GET", COMMENT) == 0


async def test_a_picture_as_a_comment_has_no_text(client: Client) -> None:
    await tell(client, said(text=None))
    (found,) = await threads(client)
    assert found["comment"]["text"] is None


async def test_what_webhooks_told_before_the_upgrade_becomes_threads_without_news(run: Run) -> None:
    async with run() as client:
        await tell(client, said())
        await tell(client, said(REPLY, "and in blue?", parent_id=COMMENT, author={"id": BRUNO, "username": "b"}))
        await tell(client, {"media_id": THEIR_POST}, field="mentions")
        before, events_before = await threads(client), await told(client)
        path = client.database
    connection = sqlite3.connect(path)
    with connection:  # as an upgrade leaves it: the webhook events are there, and no comment is
        connection.execute("DELETE FROM comments")
        connection.execute("UPDATE earlier_comments SET next_id = 1, last_id = (SELECT max(id) FROM webhook_events)")
    connection.close()
    async with run() as client:

        async def are_there() -> bool:
            return len(await threads(client)) == 2

        await eventually(are_there)
        after = await threads(client)
        names = ("text", "author", "commentedAt", "platformCommentId")
        assert [{name: one["comment"][name] for name in names} for one in after] == [
            {name: one["comment"][name] for name in names} for one in before
        ]
        assert [one["replyCount"] for one in after] == [one["replyCount"] for one in before]
        assert await told(client) == events_before
