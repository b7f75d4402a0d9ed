"""Comments are read again at Meta when they are opened: no webhook tells of an edit, a hide or a deletion."""

import json

import pytest
from inboxd.config.schema import BudgetSettings
from inboxd.simulator.graph_server import Behaviour

from tests.comments.conftest import Run
from tests.comments.rig import GONE, POST, Shop, events, refusal, thread, threads, told
from tests.support import ACCOUNT, BRUNO, T0, Client, eventually


async def test_an_edit_and_a_hide_elsewhere_are_seen_when_the_thread_is_opened(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    (found,) = await threads(client)
    assert found["comment"]["checkedAt"] is None
    written.text, written.hidden = "precio del azul?", True
    whole = await thread(client, found["id"])
    assert (whole["comment"]["text"], whole["comment"]["state"]) == ("precio del azul?", "hidden")
    assert whole["comment"]["editedAt"] is not None
    assert whole["comment"]["checkProblem"] is None
    assert whole["replyProblem"] == "it is hidden: show it again first"
    assert await told(client) == ["comment.received", "comment.updated", "comment.hidden"]
    assert [one["comment"]["text"] for one in await threads(client, "?q=azul&state=hidden")] == ["precio del azul?"]
    assert await threads(client, "?state=visible") == []


async def test_it_is_read_once_in_a_while_and_not_at_all_when_nobody_wants_that(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    number = (await threads(client))[0]["id"]
    await thread(client, number, "?refresh=false")
    assert shop.count("GET", written.id) == 0
    for _ in range(5):
        await thread(client, number)
    assert shop.count("GET", written.id) == 1


async def test_a_deletion_elsewhere_takes_the_words_and_the_replies(client: Client, shop: Shop) -> None:
    written = await shop.comment(client, "secret words")
    await shop.comment(client, "a reply", parent_id=written.id, from_id=BRUNO, username="bruno")
    (found,) = await threads(client)
    written.deleted = True
    whole = await thread(client, found["id"])
    assert (whole["comment"]["state"], whole["comment"]["text"]) == ("deleted", None)
    assert [(one["state"], one["text"]) for one in whole["replies"]] == [("deleted", None)]
    assert whole["comment"]["deletedAt"] is not None
    assert sorted(await told(client)) == ["comment.deleted", "comment.deleted", "comment.received", "comment.received"]
    assert "secret" not in json.dumps(await client.get("/api/events"))
    assert await threads(client, "?q=secret") == []
    assert len(await threads(client, "?state=deleted")) == 1


async def test_a_missing_permission_is_no_deletion(client: Client, shop: Shop) -> None:
    """Meta says the same of a comment that is gone and of one that may not be read: the post tells them apart."""
    written = await shop.comment(client)
    (found,) = await threads(client)
    shop.answers = {("GET", written.id): GONE, ("GET", POST): GONE}
    whole = await thread(client, found["id"])
    assert (whole["comment"]["state"], whole["comment"]["text"]) == ("visible", "precio?")
    assert "100/33" in whole["comment"]["checkProblem"]


@pytest.mark.parametrize("answer", [refusal(10), refusal(200), refusal(190), refusal(4), {"id": "1"}, {}, {"id": {}}])
async def test_what_cannot_be_read_is_shown_as_it_is_known(
    client: Client, shop: Shop, answer: dict[str, object]
) -> None:
    written = await shop.comment(client)
    (found,) = await threads(client)
    shop.answers[("GET", written.id)] = answer
    whole = await thread(client, found["id"])
    assert (whole["comment"]["text"], whole["comment"]["state"]) == ("precio?", "visible")
    assert whole["comment"]["checkProblem"]
    assert await told(client) == ["comment.received"]


async def test_a_silent_platform_is_not_waited_for_for_long(client: Client, shop: Shop) -> None:
    await shop.comment(client)
    (found,) = await threads(client)
    shop.server.behaviour = Behaviour(latency_ms=60_000)
    whole = await thread(client, found["id"])
    assert whole["comment"]["checkProblem"] == "Meta did not answer within 4 s"


async def test_without_budget_it_is_shown_as_it_is_known_at_once(run: Run, shop: Shop) -> None:
    async with run(budget=BudgetSettings(calls_per_hour=1, calls_per_second=1000)) as client:

        async def is_used() -> bool:
            budgets = (await client.get("/api/budget"))["budgets"]
            return bool(budgets[0]["remaining"] == 0)

        await eventually(is_used)
        written = await shop.comment(client)
        (found,) = await threads(client)
        whole = await thread(client, found["id"])
        assert "budget" in whole["comment"]["checkProblem"]
        assert shop.count("GET", written.id) == 0


async def test_replies_that_no_webhook_told_of_are_found(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    await shop.comment(client, "me too", parent_id=written.id, from_id=BRUNO, username="bruno", webhook=False)
    await shop.comment(client, "20 €", parent_id=written.id, from_id=ACCOUNT, username="the.shop", webhook=False)
    (found,) = await threads(client)
    whole = await thread(client, found["id"])
    assert [(one["text"], one["author"]["isOwn"]) for one in whole["replies"]] == [("me too", False), ("20 €", True)]
    assert (whole["replyCount"], whole["answered"]) == (2, True)
    assert await told(client) == ["comment.received"] * 3


async def test_a_comment_of_which_only_a_reply_told_is_read(client: Client, shop: Shop) -> None:
    """It is from before the account was connected."""
    written = await shop.comment(client, "the first", webhook=False)
    await shop.comment(client, "the reply", parent_id=written.id, from_id=BRUNO, username="bruno", created_ms=T0 + 1000)

    async def is_read() -> bool:
        return bool((await threads(client))[0]["comment"]["text"] == "the first")

    await eventually(is_read)
    (found,) = await threads(client)
    assert found["comment"]["author"]["username"] == "ana_x"
    assert [one["data"]["text"] for one in await events(client)] == ["the reply", "the first"]


async def test_fields_that_a_version_refuses_are_left_out(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    (found,) = await threads(client)
    shop.refused_fields = ("replies", "from")
    whole = await thread(client, found["id"])
    assert (whole["comment"]["checkProblem"], whole["comment"]["text"]) == (None, "precio?")
    asked = [query["fields"] for method, path, query in shop.calls if (method, path) == ("GET", written.id)]
    assert len(asked) == 3
    assert "replies" in asked[0]
    assert "replies" not in asked[1]
    again = await shop.comment(client, "and in blue?")
    number = next(one["id"] for one in await threads(client) if one["comment"]["platformCommentId"] == again.id)
    await thread(client, number)
    assert shop.count("GET", again.id) == 1, "what was refused is not asked for again"
