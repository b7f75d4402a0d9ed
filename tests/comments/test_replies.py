"""Public replies: through the outbox, once, whatever becomes of Meta's answer; and private ones, once for a comment."""

import json
import time

import pytest
from inboxd.simulator.graph_server import Behaviour
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.sending_behaviour import SendAnswer

from tests.comments.conftest import Run
from tests.comments.rig import THEIR_POST, FastClock, Shop, refusal, said, tell, thread, threads, told
from tests.support import ACCOUNT, ADMIN_TOKEN, BRUNO, T0, Client, Json, eventually


async def sent(client: Client, outbound: Json, state: str = "sent") -> Json:
    """The outbound message, once it is in this state."""
    found: Json = {}

    async def is_there() -> bool:
        found.update(await client.get(f"/api/messaging/outbound/{outbound['id']}"))
        return bool(found["state"] == state)

    await eventually(is_there)
    return found


async def reply(client: Client, number: str, text: str = "20 €", *, status: int = 202) -> Json:
    answer: Json = await client.send("POST", f"/api/comments/{number}/replies", {"text": text}, status=status)
    return answer


async def test_a_public_reply_stands_under_its_comment_at_once_and_once(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    (found,) = await threads(client)
    accepted = await reply(client, found["id"])
    assert (accepted["kind"], accepted["text"], accepted["commentId"]) == ("comment_reply", "20 €", written.id)
    await sent(client, accepted)

    whole = await thread(client, found["id"])
    (answer,) = whole["replies"]
    assert (answer["text"], answer["author"]["isOwn"]) == ("20 €", True)
    assert (whole["answered"], whole["replyCount"], whole["outbound"]) == (True, 1, [])
    (kept,) = shop.server.posts.truth(ACCOUNT)[1:]
    assert (kept.text, kept.parent_id, kept.id) == ("20 €", written.id, answer["platformCommentId"])

    for marker in ({"self_ig_scoped_id": "79"}, {}):  # its webhook, which may come twice
        author = {"id": ACCOUNT, "username": "the.shop", **marker}
        await tell(client, {"id": kept.id, "parent_id": written.id, "text": "20 €", "from": author})
    assert len((await thread(client, found["id"]))["replies"]) == 1
    assert await told(client) == ["comment.received", "comment.received"]


async def test_a_reply_to_a_reply_stands_under_the_first_comment(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    await shop.comment(client, "me too", parent_id=written.id, from_id=BRUNO, username="bruno")
    (found,) = await threads(client)
    second = (await thread(client, found["id"]))["replies"][0]
    await sent(client, await reply(client, second["id"]))
    assert shop.count("POST", f"{written.id}/replies") == 1


@pytest.mark.parametrize("happening", ["deleted", "hidden"])
async def test_it_is_read_again_before_it_is_answered(client: Client, shop: Shop, happening: str) -> None:
    written = await shop.comment(client)
    (found,) = await threads(client)
    setattr(written, happening, True)
    problem = await reply(client, found["id"], status=409)
    assert happening in problem["detail"]
    assert shop.count("POST", f"{written.id}/replies") == 0


async def test_a_key_makes_a_second_request_harmless(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    (found,) = await threads(client)
    url = f"{client.admin_url}/api/comments/{found['id']}/replies"
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Idempotency-Key": "once"}
    answers = []
    for text in ("20 €", "20 €", "21 €"):
        async with client.session.post(url, data=json.dumps({"text": text}), headers=headers) as response:
            answers.append((response.status, (await response.json(content_type=None)).get("id")))
    assert answers[0] == answers[1]
    assert [status for status, _ in answers] == [202, 202, 409]
    await sent(client, {"id": answers[0][1]})
    assert shop.count("POST", f"{written.id}/replies") == 1


@pytest.mark.parametrize(
    ("body", "told_of"),
    [({"text": " "}, "blanks"), ({"text": ""}, "text"), ({"text": "x" * 2201}, "text"), ({}, "text")],
)
async def test_what_meta_would_not_take_costs_no_call(client: Client, shop: Shop, body: Json, told_of: str) -> None:
    await shop.comment(client)
    (found,) = await threads(client)
    problem = await client.send("POST", f"/api/comments/{found['id']}/replies", body, status=422)
    assert told_of in problem["detail"]
    await client.send("POST", "/api/comments/999/replies", {"text": "x"}, status=404)


@pytest.mark.parametrize("error", [refusal(10), refusal(100), refusal(200), refusal(100, 33)])
async def test_a_refusal_fails_the_reply_and_stops_nothing_else(client: Client, shop: Shop, error: Json) -> None:
    written = await shop.comment(client)
    other = await shop.comment(client, "hola", from_id=BRUNO, username="bruno")
    by_id = {one["comment"]["platformCommentId"]: one for one in await threads(client)}
    first, second = by_id[written.id], by_id[other.id]
    shop.answers[("POST", f"{written.id}/replies")] = error
    failed = await sent(client, await reply(client, first["id"]), "failed")
    assert failed["metaCode"] == error["error"]["code"]
    assert (await thread(client, first["id"]))["outbound"][0]["id"] == failed["id"]
    await sent(client, await reply(client, second["id"]))
    assert shop.count("POST", f"{other.id}/replies") == 1
    assert (await client.get(f"/api/accounts/{ACCOUNT}"))["state"] == "active"


async def test_a_mention_is_answered_where_it_stands(client: Client, shop: Shop) -> None:
    mentions = {"mentions": {ACCOUNT}, "from_id": BRUNO, "username": "carla"}
    written = await shop.comment(client, "look @the.shop", media_id=THEIR_POST, **mentions)
    (found,) = await threads(client)
    await sent(client, await reply(client, found["id"], "thanks!"))
    answers = [one for one in shop.server.posts.truth() if one.text == "thanks!"]
    assert [(one.media_id, one.parent_id) for one in answers] == [(THEIR_POST, written.id)]
    whole = await thread(client, found["id"])
    assert [(one["text"], one["author"]["isOwn"]) for one in whole["replies"]] == [("thanks!", True)]


async def test_a_mention_in_a_caption_is_answered_by_a_comment(client: Client, shop: Shop) -> None:
    post = shop.server.posts.post(THEIR_POST)
    assert post is not None
    post.mentions.add(ACCOUNT)
    await tell(client, {"media_id": THEIR_POST}, field="mentions")
    (found,) = await threads(client)
    await sent(client, await reply(client, found["id"], "thanks!"))
    answers = [one for one in shop.server.posts.truth() if one.text == "thanks!"]
    assert [(one.media_id, one.parent_id) for one in answers] == [(THEIR_POST, None)]
    (answer,) = (await thread(client, found["id"]))["replies"]
    assert (answer["text"], answer["author"]["isOwn"], answer["platformParentId"]) == ("thanks!", True, None)


async def test_a_private_reply_is_sent_once_and_shown_on_its_comment(client: Client, shop: Shop) -> None:
    recent = int(time.time() * 1000) - 60_000
    written = await shop.comment(client, created_ms=recent)
    (found,) = await threads(client)
    assert found["comment"]["privateReply"]["state"] == "available"
    wanted = {"accountId": ACCOUNT, "commentId": written.id, "text": "in private: 20 €"}
    accepted = await client.send("POST", "/api/messaging/messages", wanted, status=202)
    await sent(client, accepted)
    shown = (await threads(client))[0]["comment"]["privateReply"]
    assert (shown["state"], shown["outboundId"]) == ("used", accepted["id"])
    again = await client.send("POST", "/api/messaging/messages", wanted, status=409)
    assert "one, ever" in again["detail"]
    (conversation,) = await client.conversations()
    assert [one["content"] for one in await client.messages(conversation)] == ["in private: 20 €"]


async def test_an_old_comment_and_an_own_one_get_no_private_reply(client: Client, shop: Shop) -> None:
    now = int(time.time() * 1000)
    old = await shop.comment(client, "old", created_ms=now - 8 * 86_400_000)
    own = await shop.comment(client, "own", from_id=ACCOUNT, username="the.shop", created_ms=now)
    for comment_id, why in ((old.id, "seven days"), (own.id, "the account's own")):
        wanted = {"accountId": ACCOUNT, "commentId": comment_id, "text": "x"}
        problem = await client.send("POST", "/api/messaging/messages", wanted, status=409)
        assert why in problem["detail"]
    wanted = {"accountId": ACCOUNT, "commentId": "18999999999999999", "text": "x"}
    await client.send("POST", "/api/messaging/messages", wanted, status=404)


async def test_hiding_showing_and_deleting(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    (found,) = await threads(client)
    path = f"/api/comments/{found['id']}"
    for hidden in (True, True, False):
        shown = await client.send("PATCH", path, {"hidden": hidden})
        assert (shown["state"], written.hidden) == ("hidden" if hidden else "visible", hidden)
    for _ in range(2):
        await client.send("DELETE", path, status=204)
    assert written.deleted
    assert (await thread(client, found["id"], "?refresh=false"))["comment"]["state"] == "deleted"
    await client.send("PATCH", path, {"hidden": True}, status=409)
    assert await told(client) == ["comment.received", "comment.hidden", "comment.unhidden", "comment.deleted"]


async def test_a_comment_that_is_gone_already_is_deleted_here_too(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    (found,) = await threads(client)
    written.deleted = True
    await client.send("DELETE", f"/api/comments/{found['id']}", status=204)
    assert (await threads(client))[0]["comment"]["state"] == "deleted"


@pytest.mark.parametrize(
    ("answer", "status"), [(refusal(10), 409), (refusal(190), 503), (refusal(1), 502), ({"success": False}, 502)]
)
async def test_what_meta_did_not_do_is_not_done_here(client: Client, shop: Shop, answer: Json, status: int) -> None:
    written = await shop.comment(client)
    (found,) = await threads(client)
    shop.answers = {("POST", written.id): answer, ("DELETE", written.id): answer}
    problem = await client.send("PATCH", f"/api/comments/{found['id']}", {"hidden": True}, status=status)
    assert "Meta" in problem["detail"]
    await client.send("DELETE", f"/api/comments/{found['id']}", status=status)
    assert (await threads(client))[0]["comment"]["state"] == "visible"
    assert await told(client) == ["comment.received"]


async def test_what_cannot_be_done_without_a_token_can_be_tried_again(client: Client, shop: Shop) -> None:
    await shop.comment(client)
    (found,) = await threads(client)
    path = f"/api/comments/{found['id']}"
    shop.server.behaviour = Behaviour(latency_ms=1, token_expired=True)
    await client.send("POST", f"/api/accounts/{ACCOUNT}/check")
    for method, at, body in (
        ("POST", f"{path}/replies", {"text": "20 €"}),
        ("PATCH", path, {"hidden": True}),
        ("DELETE", path, None),
    ):
        problem = await client.send(method, at, body, status=503)
        assert "the account has no valid token" in problem["detail"]


async def test_nothing_can_be_done_for_an_account_that_is_not_served(client: Client) -> None:
    change = {"field": "comments", "value": said()}
    entry = {"id": "17841499999999999", "time": T0 // 1000, "changes": [change]}
    await client.post(json.dumps({"object": "instagram", "entry": [entry]}).encode())
    await client.settled()
    (found,) = await threads(client)
    problem = await client.send("PATCH", f"/api/comments/{found['id']}", {"hidden": True}, status=409)
    assert "the account is not served" in problem["detail"]


@pytest.mark.long
@pytest.mark.parametrize(
    "answer", ["error_after_sending", "odd_error_after_sending", "html_after_sending", "no_id", "dropped"]
)
async def test_a_lost_answer_is_found_and_not_sent_again(run: Run, shop: Shop, answer: SendAnswer) -> None:
    async with run(clock=FastClock()) as client:
        written = await shop.comment(client)
        earlier = await shop.comment(client, "20 €", from_id=ACCOUNT, username="the.shop", parent_id=written.id)
        (found,) = await threads(client)
        shop.server.behaviour = Behaviour(latency_ms=1, send_answer=answer, send_answer_next=1)
        outbound = await reply(client, found["id"])
        settled = await sent(client, outbound)
        ours = [one.id for one in shop.server.posts.truth(ACCOUNT) if one.text == "20 €" and one.id != earlier.id]
        assert ours == [settled["parts"][0]["platformMessageId"]], "the one before is not taken for it"
        assert settled["parts"][0]["attempts"] == 1


@pytest.mark.long
@pytest.mark.parametrize("answer", ["cut_before", "error_before"])
async def test_a_reply_that_never_arrived_is_sent_again(run: Run, shop: Shop, answer: SendAnswer) -> None:
    async with run(clock=FastClock()) as client:
        await shop.comment(client)
        (found,) = await threads(client)
        shop.server.behaviour = Behaviour(latency_ms=1, send_answer=answer, send_answer_next=1)
        settled = await sent(client, await reply(client, found["id"]))
        assert [one.text for one in shop.server.posts.truth(ACCOUNT)] == ["precio?", "20 €"]
        assert settled["parts"][0]["attempts"] == 2


@pytest.mark.long
async def test_its_webhook_tells_of_a_reply_whose_answer_was_lost(run: Run, shop: Shop) -> None:
    async with run(clock=FastClock()) as client:
        written = await shop.comment(client)
        (found,) = await threads(client)
        shop.server.behaviour = Behaviour(latency_ms=1, send_answer="dropped", send_answer_next=1)
        outbound = await reply(client, found["id"])
        await sent(client, outbound, "unknown")
        (ours,) = shop.server.posts.truth(ACCOUNT)[1:]
        author = {"id": ACCOUNT, "username": "the.shop"}
        await tell(client, {"id": ours.id, "parent_id": written.id, "text": "20 €", "from": author})
        await sent(client, outbound)
        assert shop.count("GET", f"{written.id}/replies") == 0
        assert len((await thread(client, found["id"]))["replies"]) == 1


class SteppingClock(FastClock):
    """A clock that can be set back."""

    back_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() - self.back_ms


@pytest.mark.long
async def test_a_clock_that_is_set_back_sends_no_reply_twice(run: Run, shop: Shop) -> None:
    clock = SteppingClock()
    async with run(clock=clock) as client:
        written = await shop.comment(client)
        (found,) = await threads(client)
        shop.server.behaviour = Behaviour(latency_ms=1, send_answer="dropped", send_answer_next=1)
        outbound = await reply(client, found["id"])
        await sent(client, outbound, "unknown")
        clock.back_ms = 3_600_000
        (ours,) = shop.server.posts.truth(ACCOUNT)[1:]
        author = {"id": ACCOUNT, "username": "the.shop"}
        await tell(client, {"id": ours.id, "parent_id": written.id, "text": "20 €", "from": author})
        began = clock.monotonic()

        async def was_looked_for_twice() -> bool:
            return clock.monotonic() - began > 300

        await eventually(was_looked_for_twice, within_s=20)
        assert (await client.get(f"/api/messaging/outbound/{outbound['id']}"))["state"] == "unknown"
        assert shop.count("POST", f"{written.id}/replies") == 1


async def test_the_owner_who_answers_is_noticed_while_a_public_reply_is_unknown(client: Client, shop: Shop) -> None:
    """A public reply is in no conversation, so no message can be its echo."""
    await shop.comment(client)
    (found,) = await threads(client)
    shop.server.behaviour = Behaviour(latency_ms=1, send_answer="cut_before", send_answer_next=1)
    await sent(client, await reply(client, found["id"]), "unknown")
    bruno = Conversationalist(ACCOUNT, BRUNO, int(time.time() * 1000))
    for item in (bruno.says("hola"), bruno.answers("I answer this one")):
        status, answer, _ = await client.post(json.dumps(delivery(ACCOUNT, bruno.now, [item])).encode())
        assert status == 200, answer
    await client.settled()
    assert len((await client.get("/api/events?types=conversation.human_replied"))["events"]) == 1
