"""When an account is compared with Meta, what is added, and what that costs."""

from typing import Any

import pytest
from aiohttp import web
from inboxd.config.schema import BudgetSettings, ReconciliationSettings
from inboxd.simulator.errors import graph_error
from inboxd.simulator.payloads import Conversationalist, mid_of
from inboxd.simulator.people import igsid

from tests.reconciliation.world import LISTS, World
from tests.support import ACCOUNT, ANA, BRUNO, T0, eventually

HOUR_MS = 3_600_000


async def test_what_no_webhook_brought_is_added(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        mid = world.happens(ANA, "is anybody there?")
        await world.checked()
        assert await world.texts() == {mid: "is anybody there?"}
        assert await world.sources() == {mid: "reconciled"}
        (told,) = await world.events("message.received")
        assert told["message"]["content"] == "is anybody there?"
        (conversation,) = await world.client.conversations()
        assert conversation["unreadCount"] == 1
        assert conversation["participantUsername"] is not None


async def test_what_is_added_comes_in_the_order_in_which_it_was_written(world: World) -> None:
    texts = ["one", "two", "three", "four"]
    async with world.daemon():
        await world.clock.leap(10)
        for text in texts:  # within one second, which is all that Meta tells
            world.happens(ANA, text)
        await world.checked()
        assert [one["message"]["content"] for one in await world.events("message.received")] == texts
        (conversation,) = await world.client.conversations()
        assert [one["content"] for one in await world.client.messages(conversation)] == texts


async def test_a_message_missed_between_two_that_came_is_found(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        before, missed, after = (ana.says(text) for text in ("one", "two", "three"))
        await world.sent(before)
        world.behave(webhooks_dropped=1.0)
        await world.sent(missed)
        world.behave(webhooks_dropped=0.0)
        await world.sent(after)
        await world.checked()
        assert await world.texts() == world.truth() == {
            mid_of(before): "one", mid_of(missed): "two", mid_of(after): "three"
        }  # fmt: skip
        assert set((await world.sources()).values()) == {"webhook", "reconciled"}
        assert len(await world.events("message.received")) == 3


async def test_a_webhook_that_comes_after_all_changes_nothing_but_the_source(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        item = Conversationalist(ACCOUNT, ANA, world.clock.now_ms()).says("late")
        world.behave(webhooks_dropped=1.0)
        await world.sent(item)
        await world.checked()
        assert list((await world.sources()).values()) == ["reconciled"]
        world.behave(webhooks_dropped=0.0)
        await world.sent(item)
        assert await world.sources() == {mid_of(item): "webhook"}
        assert len(await world.events("message.received")) == 1


async def test_an_idle_account_costs_one_call_for_each_check(world: World) -> None:
    for number in range(500):
        world.happens(igsid(number), "long ago", created_ms=T0 - 30 * 86_400_000 - number * 1000)
    world.happens(ANA, "yesterday", created_ms=T0 - 20 * HOUR_MS)
    async with world.daemon():
        await world.checked(30)
        await no_check_runs(world)
        before, checks = world.calls("conversations") + world.calls("messages"), await finished(world)
        await world.clock.leap(6 * 3600, step_s=90)
        await no_check_runs(world)
        lists, reads = world.calls(LISTS), world.calls("/messages")
        made = await finished(world) - checks
        assert 5 <= made <= 10, "about one in an hour"
        assert lists + reads - before == made
        assert await world.texts() == {}, "it was there before the account was connected"


async def test_what_was_said_before_the_account_was_connected_is_not_told_with_what_is_missing(world: World) -> None:
    world.happens(ANA, "long ago", created_ms=T0 - 30 * 86_400_000)
    async with world.daemon():
        await world.clock.leap(10)
        missing = world.happens(ANA, "it is me again")
        await world.checked()
        assert await world.texts() == {missing: "it is me again"}


async def test_whatever_arrives_brings_the_schedule_back(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(4 * 3600, step_s=90)
        before = await finished(world)
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        await world.sent(ana.says("hello"))
        await world.checked(2)
        assert await finished(world) == before + 1, "the last check was longer ago than the schedule's ten minutes"
        for _ in range(6):
            await world.sent(ana.says("hello"))
            await world.checked(10)
        assert await finished(world) - before >= 5


async def test_a_list_that_is_in_no_order_is_walked_to_its_end(world: World) -> None:
    world.behave(unordered=True)
    for number in range(120, 180):  # those stand between the others, and look like the end of what is new
        world.happens(igsid(number), "long ago", created_ms=T0 - 30 * 86_400_000 - number * 1000)
    async with world.daemon():
        await world.clock.leap(10)
        wanted = {world.happens(igsid(number), f"hello {number}"): f"hello {number}" for number in range(120)}
        await world.clock.leap(4 * 3600, step_s=90)
        assert await world.texts() == wanted


async def test_a_conversation_that_cannot_be_read_stays_due_and_keeps_no_other_back(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        odd, other = world.happens(ANA, "odd"), world.happens(BRUNO, "other")
        broken = world.server.mailbox.conversation_with(ACCOUNT, ANA).id
        mended = break_conversation(world, broken)
        await world.checked(30)
        assert set(await world.texts()) == {other}
        assert world.calls("/messages") < 12
        assert (await world.client.get(f"/api/accounts/{ACCOUNT}/completeness"))["conversationsFailed"] == 1
        mended()
        await world.checked(60)
        assert set(await world.texts()) == {odd, other}
        assert await world.due() == []


async def test_what_is_read_while_the_api_may_not_show_all_is_read_once_more(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(30)
        ((next_at,),) = await world.database.read("SELECT next_check_at FROM reconciled_accounts")
        await world.clock.leap((next_at - world.clock.now_ms()) / 1000 - 40)
        world.behave(visible_after_s=30)
        first = world.happens(ANA, "the newest")
        await world.clock.leap(20)
        second = world.happens(ANA, "older, and shown after it")
        world.server.mailbox.message(second).created_ms -= 30_000  # type: ignore[union-attr]
        await world.clock.leap(24, step_s=1)
        assert set(await world.texts()) == {first}, "the second is not shown yet"
        await world.checked(40)
        assert set(await world.texts()) == {first, second}


async def test_no_more_than_the_share_is_spent_and_nothing_is_left_out(world: World) -> None:
    async with world.daemon(budget=BudgetSettings(calls_per_hour=50, calls_per_second=1000)):
        await world.clock.leap(10)
        for number in range(25):
            world.happens(igsid(number), f"hello {number}")
        before = world.calls("conversations") + world.calls("/messages")
        await world.clock.leap(3600, step_s=30)
        assert world.calls("conversations") + world.calls("/messages") - before <= 11, "a fifth of 50, and one at start"
        told = [one["healedCount"] for one in await world.events("reconciliation.healed")]
        assert sum(told) == len(await world.texts()) > 0, "a check without calls left ends, and says what it found"
        await world.clock.leap(5 * 3600, step_s=90)
        assert await world.texts() == world.truth()
        assert len(world.truth()) == 25


async def test_there_are_never_more_than_two_calls_a_second(world: World) -> None:
    async with world.daemon(budget=BudgetSettings(calls_per_hour=10_000, calls_per_second=1000)):
        await world.clock.leap(10)
        for number in range(30):
            world.happens(igsid(number), f"hello {number}")
        await world.clock.travel(12 * 60, settle_s=0.001)
        assert await world.texts() == world.truth()
        assert world.server.conversations.refused == 0


async def test_older_messages_that_are_not_shown_are_said_to_be_missing(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        mids = [
            world.happens(ANA, f"number {number}", created_ms=world.clock.now_ms() + number * 1000)
            for number in range(30)
        ]
        await world.checked(12)
        assert set((await world.texts()).values()) == {f"number {number}" for number in range(10, 30)} | {None}
        completeness = await world.client.get(f"/api/accounts/{ACCOUNT}/completeness")
        day = completeness["windows"][0]
        assert (day["existing"], day["healed"], day["missing"]) == (30, 20, 10)
        assert len(mids) == len(await world.texts())


async def test_nothing_is_deleted_because_meta_does_not_show_it(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        items = [ana.says(f"number {number}") for number in range(25)]
        await world.sent(*items)
        world.behave(details_for_newest=0, old_details="error")
        await world.checked(30)
        assert set((await world.texts()).values()) == {f"number {number}" for number in range(25)}


async def test_edits_and_reactions_that_were_missed_are_taken_along(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        world.behave(changes_move_updated_time=True)
        item = Conversationalist(ACCOUNT, ANA, world.clock.now_ms()).says("helo")
        await world.sent(item)
        await world.checked(20)
        world.server.mailbox.edit(mid_of(item), "hello")
        world.server.mailbox.react(mid_of(item), ACCOUNT, "❤")
        await world.checked(75)
        (conversation,) = await world.client.conversations()
        (message,) = await world.client.messages(conversation)
        assert message["content"] == "hello"
        assert [one["emoji"] for one in message["reactions"]] == ["❤"]
        assert len(await world.events("message.edited")) == 1


async def test_it_can_be_switched_off(world: World) -> None:
    async with world.daemon(reconciliation=ReconciliationSettings(every_minutes=0)):
        world.happens(ANA, "hello")
        await world.clock.leap(3 * 3600, step_s=180)
        assert world.calls(LISTS) == 0
        assert await world.texts() == {}


@pytest.mark.parametrize(("every_minutes", "calls"), [(0, 40), (10, 30)])
async def test_its_share_of_the_hour_is_for_others_when_it_is_switched_off(
    world: World, every_minutes: int, calls: int
) -> None:
    for number in range(60):
        world.happens(igsid(number), "earlier", created_ms=world.clock.now_ms() - 30 * 86_400_000 + number)
    budget = BudgetSettings(calls_per_hour=50, calls_per_second=1000)
    settings = ReconciliationSettings(every_minutes=every_minutes)
    async with world.daemon(budget=budget, reconciliation=settings):
        await world.client.send("POST", "/api/workers/import-history", {"accountId": ACCOUNT}, status=202)
        await world.clock.leap(3000, step_s=10)
        imported = len(await world.texts())
        assert calls - 6 <= imported <= calls, "all but what lists the mailbox and looks after the subscription"


@pytest.mark.parametrize("login", ["app_scoped", "page"])
async def test_the_account_is_recognised_under_another_id(world: World, login: Any) -> None:
    world.behave(own_id=login)
    async with world.daemon():
        await world.clock.leap(10)
        sent, received = world.happens(ANA, "we are open", outbound=True), world.happens(BRUNO, "open?")
        await world.checked(30)
        rows = await world.database.read("SELECT platform_message_id, sender_type FROM v1_messages")
        assert dict(rows) == {sent: "user", received: "customer"}


async def finished(world: World) -> int:
    """How many checks have ended."""
    rows = await world.database.read("SELECT count(*) FROM reconciliation_checks WHERE finished_at IS NOT NULL")
    return int(rows[0][0])


async def no_check_runs(world: World) -> None:
    """Wait until what has begun has ended: on a slow machine a check may be between its calls and its end."""

    async def none_is_open() -> bool:
        return await world.database.read("SELECT 1 FROM reconciliation_checks WHERE finished_at IS NULL") == []

    await eventually(none_is_open)


def break_conversation(world: World, conversation_id: str) -> Any:
    """From now on the messages of one conversation cannot be read. Returns what mends it."""
    api = world.server.conversations
    whole = api.edge

    def edge(request: web.Request, caller: Any, node: str) -> web.Response:
        if node == conversation_id:
            return graph_error(500, 1, "An unknown error occurred")
        return whole(request, caller, node)

    def mend() -> None:
        api.edge = whole  # type: ignore[method-assign]

    api.edge = edge  # type: ignore[method-assign]
    return mend
