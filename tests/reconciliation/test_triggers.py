"""What is said of what was missed, and what makes a check come sooner."""

import asyncio

import pytest
from inboxd.simulator.payloads import Conversationalist, mid_of
from inboxd.simulator.people import igsid

from tests.reconciliation.world import LISTS, World
from tests.support import ACCOUNT, ANA, BRUNO, Json, eventually


async def causes(world: World) -> dict[str, str]:
    """Why each message was missed, by mid."""
    return dict(await world.database.read("SELECT platform_message_id, cause FROM v1_missed_messages"))


async def healed(world: World) -> list[Json]:
    return await world.events("reconciliation.healed")


async def test_each_check_that_found_something_says_so_once(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        for number in range(5):
            world.happens(igsid(number), "hello")
        await world.checked(12)
        (told,) = await healed(world)
        assert (told["count"], told["healedCount"], told["cause"]) == (5, 5, "not_delivered")
        assert told["causes"] == {"not_delivered": 5}
        assert told["since"] == told["until"]
        await world.checked(60)
        assert len(await healed(world)) == 1


async def test_what_came_while_the_daemon_was_down_is_added_soon_after_its_start(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(120)
    since = world.clock.now_ms()
    await world.clock.leap(600)
    mid = world.happens(ANA, "nobody there?")
    await world.clock.leap(1800)
    async with world.daemon():
        await world.clock.leap(30)
        assert await world.texts() == {mid: "nobody there?"}
        assert await causes(world) == {mid: "down"}
        (told,) = await healed(world)
        assert (told["cause"], told["reason"]) == ("down", "restart")
        ((begun, until),) = await world.database.read("SELECT since, until FROM delivery_gaps ORDER BY id DESC LIMIT 1")
        assert since - 70_000 <= begun <= since
        assert until - begun >= 2_400_000


async def test_a_subscription_that_brings_nothing_for_half_an_hour_is_renewed(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        await world.sent(ana.says("hello"))
        await world.clock.leap(60)
        world.behave(unsubscribed="hidden")
        for number in range(3):
            ana.now = world.clock.now_ms()
            await world.sent(ana.says(f"lost {number}"))
            await world.clock.leap(20 * 60, step_s=20)
        ana.now = world.clock.now_ms()
        there_again = ana.says("there again")
        await world.sent(there_again)
        await world.clock.leap(20 * 60, step_s=20)
        assert await world.texts() == world.truth()
        assert (await world.sources())[mid_of(there_again)] == "webhook"
        calls = world.calls("subscribed_apps")
        await world.clock.leap(2 * 3600, step_s=20)
        assert world.calls("subscribed_apps") - calls == 2, "hourly, and only to look"


async def test_what_came_while_meta_was_down_is_added_soon_after_that(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(3 * 3600, step_s=30)
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        world.behave(down_s=900.0)
        await world.sent(ana.says("lost"))  # Meta sends nothing
        await world.clock.leap(1200)
        await world.clock.leap(3600, step_s=30)
        assert await world.texts() == world.truth()
        assert len(world.truth()) == 1


async def test_a_lost_subscription_is_the_cause_of_what_was_missed_meanwhile(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(600)
        world.behave(unsubscribed="shown")
        item = Conversationalist(ACCOUNT, ANA, world.clock.now_ms()).says("hello?")
        world.server.subscriptions.clear()
        world.behave(visible_after_s=3000)  # no check of the schedule can find it before the subscription is back
        await world.sent(item)
        await world.clock.leap(3700, step_s=10)
        assert await world.texts() == {mid_of(item): "hello?"}
        assert await causes(world) == {mid_of(item): "subscription_lost"}
        assert [one["reason"] for one in await healed(world)] == ["subscription"]


async def test_a_subscription_that_is_listed_and_not_served_is_made_again_once_a_day(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(600)
        world.server.subscriptions[ACCOUNT].add("comments")
        world.behave(unsubscribed="hidden")
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        before = world.server.subscribed.made
        await world.sent(*(ana.says(f"number {number}") for number in range(4)))
        await world.checked(20)
        assert world.server.subscribed.made == before, "four may be chance"
        ana.now = world.clock.now_ms()
        await world.sent(ana.says("number 4"))
        await world.checked(20)
        assert world.server.subscribed.made == before + 1
        assert world.server.subscriptions[ACCOUNT] >= {"messages", "comments"}
        ana.now = world.clock.now_ms()
        arrives = ana.says("I am heard again")
        await world.sent(arrives)
        assert (await world.sources())[mid_of(arrives)] == "webhook"

        world.behave(unsubscribed="no")
        world.behave(unsubscribed="hidden")
        for number in range(7):
            ana.now = world.clock.now_ms()
            await world.sent(ana.says(f"later {number}"))
            await world.clock.leap(3 * 3600, step_s=120)
        assert world.server.subscribed.made == before + 1
        await world.clock.leap(3 * 3600, step_s=120)
        ana.now = world.clock.now_ms()
        await world.sent(ana.says("a day later"))
        await world.clock.leap(3600, step_s=60)
        assert world.server.subscribed.made == before + 2
        await world.clock.leap(26 * 3600, step_s=600)
        world.behave(unsubscribed="no")
        world.behave(unsubscribed="hidden")
        ana.now = world.clock.now_ms()
        await world.sent(ana.says("alone"))
        await world.clock.leap(2 * 3600, step_s=60)
        assert world.server.subscribed.made == before + 2, "one since then may be chance"


async def test_a_webhook_that_arrives_during_the_check_shows_that_the_subscription_is_served(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(600)
        for number in range(5):
            world.happens(ANA, f"dropped {number}")
        renewed, read = world.server.subscribed, world.calls("/messages")
        world.behave(latency_ms=500)  # of real time: the clock stands still meanwhile
        while world.calls("/messages") == read:
            await world.clock.leap(1)
        await world.sent(Conversationalist(ACCOUNT, BRUNO, world.clock.now_ms()).says("hello"))
        world.behave(latency_ms=0)

        async def added() -> bool:
            await world.clock.leap(1)
            return len(await causes(world)) == 5

        await eventually(added)
        await world.clock.leap(60)
        assert world.server.subscribed == renewed


async def test_what_was_missed_for_a_known_reason_does_not_renew_the_subscription(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(600)
    for number in range(9):
        await world.clock.leap(30)
        world.happens(ANA, f"number {number}")
    await world.clock.leap(60)
    before = world.server.subscribed.made
    async with world.daemon():
        await world.checked(30)
        assert len(await world.texts()) == 9
        assert world.server.subscribed.made == before


async def test_a_companion_without_its_message_asks_for_a_check(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(3 * 3600, step_s=30)
        world.behave(companions_only=True)
        item = Conversationalist(ACCOUNT, ANA, world.clock.now_ms()).says("hello?")
        await world.sent(item)
        await world.clock.leap(90, step_s=1)
        assert await world.texts() == {mid_of(item): "hello?"}
        assert await causes(world) == {mid_of(item): "companions_only"}
        (told,) = await healed(world)
        assert (told["cause"], told["reason"]) == ("companions_only", "companions")


async def test_a_companion_whose_message_came_asks_for_nothing(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(3600, step_s=30)
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        item = ana.says("hello")
        companion = {"timestamp": item["timestamp"], "message_edit": {"mid": mid_of(item), "num_edit": 0}}
        world.server.calls.clear()
        await world.sent(companion, item)
        await world.clock.leap(300)
        assert world.calls(LISTS) <= 1, "no more than the schedule's"
        rows = await world.database.read("SELECT DISTINCT reason FROM reconciliation_checks ORDER BY reason")
        assert "companions" not in {reason for (reason,) in rows}


async def test_a_message_of_which_only_a_reaction_is_known_is_looked_up(world: World) -> None:
    async with world.daemon():
        await world.checked(20)
        mid = world.happens(ANA, "do you like it?")
        other = world.happens(BRUNO, "and this?")
        for one in (mid, other):
            world.server.mailbox.message(one).created_ms -= 3_600_000 * 30  # type: ignore[union-attr]
        partyless = {"timestamp": world.clock.now_ms(), "read": {"mid": other}}
        reaction = {
            "sender": {"id": ANA},
            "recipient": {"id": ACCOUNT},
            "timestamp": world.clock.now_ms(),
            "reaction": {"mid": mid, "action": "react", "reaction": "love", "emoji": "❤"},
        }
        await world.sent(reaction, partyless)
        await world.checked(40)
        assert await world.texts() == {mid: "do you like it?", other: "and this?"}
        assert set((await world.sources()).values()) == {"history"}, "it was there before the account was connected"
        (conversation,) = await world.client.conversations(f"?participantPlatformId={ANA}")
        (message,) = await world.client.messages(conversation)
        assert [one["emoji"] for one in message["reactions"]] == ["❤"]
        assert await world.database.read("SELECT * FROM early_changes") == []


@pytest.mark.long
async def test_lookups_are_few_and_end(world: World) -> None:
    async with world.daemon():
        world.happens(ANA, "hello")
        await world.checked(20)  # the client knows by now which fields there are
        for number in range(60):
            read = {"timestamp": world.clock.now_ms(), "read": {"mid": f"mid-of-nobody-{number}"}}
            await world.sent(read)
        world.server.calls.clear()
        await world.clock.leap(3500, step_s=20)
        assert 0 < world.calls("mid-of-nobody") <= 10
        await world.clock.leap(24 * 3600, step_s=240)
        await world.clock.leap(48 * 3600, step_s=600)
        world.server.calls.clear()
        await world.clock.leap(6 * 3600, step_s=120)
        assert world.calls("mid-of-nobody") == 0


async def test_an_answered_message_that_is_not_here_is_looked_up(world: World) -> None:
    async with world.daemon():
        await world.checked(20)
        old = world.happens(ANA, "the question")
        world.server.mailbox.message(old).created_ms -= 3_600_000 * 30  # type: ignore[union-attr]
        answer = Conversationalist(ACCOUNT, ANA, world.clock.now_ms()).answers("the answer", reply_to={"mid": old})
        await world.sent(answer)
        await world.checked(30)
        assert await world.texts() == {old: "the question", mid_of(answer): "the answer"}


async def test_what_came_while_a_login_was_needed_is_added_soon_after_it(world: World) -> None:
    async with world.daemon():
        await world.checked(30)
        world.behave(token_expired=True)
        await world.clock.leap(1500)
        mid = world.happens(ANA, "hello?")
        await world.clock.leap(60)
        world.behave(token_expired=False)
        checking = asyncio.ensure_future(world.client.send("POST", f"/api/accounts/{ACCOUNT}/check"))
        while not checking.done():
            await world.clock.leap(0.5)
        await checking
        await world.clock.leap(60)
        assert await world.texts() == {mid: "hello?"}
