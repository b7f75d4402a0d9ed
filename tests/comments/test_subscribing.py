"""Accounts are subscribed to comments and mentions where that is wanted, whatever Meta takes of it."""

import asyncio

import pytest
from inboxd.domain.account import LoginType
from inboxd.simulator.graph_server import Behaviour, Token

from tests.comments.conftest import Run
from tests.comments.rig import Shop, refusal
from tests.support import Client, Json, eventually

OTHER = "17841400000000002"
PAGE = "104000000000001"
COMMENTS = {"comments", "live_comments", "mentions"}
MESSAGES = {"messages", "message_reactions", "messaging_postbacks", "messaging_seen", "messaging_referral"}


async def added(client: Client, shop: Shop, **more: object) -> Json:
    """An account that is in no configuration, subscribed to messages."""
    shop.server.tokens["other-token"] = Token(OTHER, **more)  # type: ignore[arg-type]
    login_type = LoginType.FACEBOOK if "page_id" in more else LoginType.INSTAGRAM
    wanted = {"token": "other-token", "loginType": login_type.value}
    found: Json = (await client.send("POST", "/api/accounts", wanted, status=201))["account"]
    assert COMMENTS.isdisjoint(found["subscribedFields"])
    return found


async def after_asking(client: Client, *, subscribed: set[str], refused: set[str]) -> Json:
    """The account, once comments were asked for, and Meta took or refused them so."""
    await client.send("PATCH", f"/api/accounts/{OTHER}", {"comments": True})
    found: Json = {}

    async def is_so() -> bool:
        found.update(await client.get(f"/api/accounts/{OTHER}"))
        known = set(found["subscribedFields"]) & COMMENTS
        return known == subscribed and set(found["refusedFields"]) == refused

    await eventually(is_so)
    return found


async def test_they_are_added_to_what_is_there(client: Client, shop: Shop) -> None:
    await added(client, shop)
    shop.server.subscriptions[OTHER].add("story_insights")  # somebody wanted that
    found = await after_asking(client, subscribed=COMMENTS, refused=set())
    assert set(found["subscribedFields"]) == MESSAGES | COMMENTS | {"story_insights"}
    assert shop.server.subscriptions[OTHER] == MESSAGES | COMMENTS | {"story_insights"}
    posts = shop.count("POST", "me/subscribed_apps")
    checked = await client.send("POST", f"/api/accounts/{OTHER}/check")
    assert {one["check"]: one["outcome"] for one in checked["findings"]}["comments"] == "ok"
    assert shop.count("POST", "me/subscribed_apps") == posts, "what is there is not asked for again"


@pytest.mark.parametrize("answer", ["error", "success_false"])
async def test_what_meta_refuses_costs_nothing_of_the_rest_and_is_told(client: Client, shop: Shop, answer: str) -> None:
    await added(client, shop)
    unticked = {"unticked_fields": ("live_comments", "mentions"), "unticked_answer": answer}
    shop.server.behaviour = Behaviour(latency_ms=1, **unticked)  # type: ignore[arg-type]
    found = await after_asking(client, subscribed={"comments"}, refused={"live_comments", "mentions"})
    assert shop.server.subscriptions[OTHER] == MESSAGES | {"comments"}
    assert all(found["refusedFields"].values())

    checked = await client.send("POST", f"/api/accounts/{OTHER}/check")
    (finding,) = [one for one in checked["findings"] if one["check"] == "comments"]
    assert finding["outcome"] == "missing"
    assert "mentions" in finding["detail"]
    assert "instagram_business_manage_comments" in finding["remedy"]

    shop.server.behaviour = Behaviour(latency_ms=1)  # somebody ticks them
    checked = await client.send("POST", f"/api/accounts/{OTHER}/check")
    assert checked["account"]["refusedFields"] == {}
    assert shop.server.subscriptions[OTHER] == MESSAGES | COMMENTS


async def test_what_was_refused_is_known_after_a_restart_and_not_asked_for_at_once(run: Run, shop: Shop) -> None:
    async with run() as client:
        await added(client, shop)
        shop.server.behaviour = Behaviour(latency_ms=1, unticked_fields=("mentions",))
        await after_asking(client, subscribed={"comments", "live_comments"}, refused={"mentions"})
    posts = shop.count("POST", "me/subscribed_apps")
    async with run() as client:
        found = await client.get(f"/api/accounts/{OTHER}")
        assert set(found["refusedFields"]) == {"mentions"}
        assert shop.count("POST", "me/subscribed_apps") == posts


async def test_of_a_page_the_linked_account_has_the_fields(client: Client, shop: Shop) -> None:
    await added(client, shop, page_id=PAGE)
    await after_asking(client, subscribed=COMMENTS, refused=set())
    assert shop.server.subscribed.of_linked_accounts[OTHER] == COMMENTS
    assert shop.server.subscriptions[OTHER] == {"messages"}


async def switched_off(client: Client) -> Json:
    """What is said when comments are switched off."""
    changed = await client.send("PATCH", f"/api/accounts/{OTHER}", {"comments": False})
    assert changed["comments"] is False
    (finding,) = changed["findings"]
    return {**finding, "fields": set(changed["subscribedFields"])}


async def test_switched_off_they_are_taken_out_and_the_rest_stays(client: Client, shop: Shop) -> None:
    await added(client, shop)
    shop.server.subscriptions[OTHER].add("story_insights")
    await after_asking(client, subscribed=COMMENTS, refused=set())
    told = await switched_off(client)
    assert (told["outcome"], told["detail"]) == ("ok", "unsubscribed from comments, live_comments, mentions")
    assert told["fields"] == shop.server.subscriptions[OTHER] == MESSAGES | {"story_insights"}
    posts = shop.count("POST", "me/subscribed_apps")
    told = await switched_off(client)
    assert told["detail"] == "comments and mentions were not subscribed"
    assert shop.count("POST", "me/subscribed_apps") == posts
    await after_asking(client, subscribed=COMMENTS, refused=set())  # and on again, at once
    assert shop.server.subscriptions[OTHER] == MESSAGES | COMMENTS | {"story_insights"}


async def test_switched_off_the_page_of_a_linked_account_keeps_its_messages(client: Client, shop: Shop) -> None:
    await added(client, shop, page_id=PAGE)
    await after_asking(client, subscribed=COMMENTS, refused=set())
    assert (await switched_off(client))["outcome"] == "ok"
    assert shop.server.subscribed.of_linked_accounts[OTHER] == set()
    assert shop.server.subscriptions[OTHER] == {"messages"}


async def test_what_meta_does_not_let_be_read_is_not_said_to_be_unsubscribed(client: Client, shop: Shop) -> None:
    await added(client, shop, page_id=PAGE)
    await after_asking(client, subscribed=COMMENTS, refused=set())
    shop.answers["GET", f"{OTHER}/subscribed_apps"] = refusal(10)
    told = await switched_off(client)
    assert (told["outcome"], "may still be subscribed" in told["detail"]) == ("unknown", True)


async def test_what_meta_does_not_take_out_is_said_and_tried_again(client: Client, shop: Shop) -> None:
    await added(client, shop)
    await after_asking(client, subscribed=COMMENTS, refused=set())
    shop.server.behaviour = Behaviour(latency_ms=1, unticked_fields=("messages",))  # Meta refuses every list
    told = await switched_off(client)
    assert (told["outcome"], "may still be subscribed" in told["detail"]) == ("unknown", True)
    assert shop.server.subscriptions[OTHER] == MESSAGES | COMMENTS
    shop.server.behaviour = Behaviour(latency_ms=1)
    assert (await switched_off(client))["outcome"] == "ok"
    assert shop.server.subscriptions[OTHER] == MESSAGES


@pytest.mark.parametrize("last", [True, False])
async def test_the_last_wish_counts_while_calls_for_the_one_before_are_under_way(
    client: Client, shop: Shop, *, last: bool
) -> None:
    await added(client, shop)
    await after_asking(client, subscribed=COMMENTS, refused=set())
    if not last:
        await switched_off(client)
    call = ("POST", "me/subscribed_apps")
    before, made = shop.count(*call), shop.server.subscribed.made
    shop.held[call] = asyncio.Event()
    first = asyncio.create_task(client.send("PATCH", f"/api/accounts/{OTHER}", {"comments": not last}))

    async def under_way() -> bool:
        return shop.count(*call) > before

    await eventually(under_way)
    second = asyncio.create_task(client.send("PATCH", f"/api/accounts/{OTHER}", {"comments": last}))

    async def stored() -> bool:
        found: bool = (await client.get(f"/api/accounts/{OTHER}"))["comments"]
        return found is last

    await eventually(stored)
    await asyncio.sleep(0.8)  # whoever does not wait for the first call has had its turn
    shop.held.pop(call).set()
    await first
    assert (await second)["comments"] is last
    wanted = COMMENTS if last else set()

    async def is_so() -> bool:
        found = await client.get(f"/api/accounts/{OTHER}")
        if shop.server.subscribed.made == made:
            return False  # the first call is still under way
        return shop.server.subscriptions[OTHER] & COMMENTS == set(found["subscribedFields"]) & COMMENTS == wanted

    await eventually(is_so)


async def test_an_account_of_the_configuration_is_unsubscribed_once_its_file_says_so(
    client: Client, shop: Shop
) -> None:
    configured = (await client.get("/api/accounts"))["accounts"][0]
    assert configured["configured"]
    path, wanted = f"/api/accounts/{configured['id']}", configured["comments"]
    await client.send("PATCH", path, {"comments": not wanted}, status=409)
    assert (await client.send("PATCH", path, {"comments": wanted}))["comments"] is wanted
