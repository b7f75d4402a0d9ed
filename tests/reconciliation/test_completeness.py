"""Whether everything that Meta has is here, and who is told of it."""

import asyncio
import re

import msgspec
import pytest
from inboxd.domain.completeness import Completeness, Window, sentence
from inboxd.maintenance.doctor.account_checks import completeness_diagnosis
from inboxd.maintenance.doctor.diagnosis import Severity
from inboxd.reconciliation.resources import CompletenessResource
from inboxd.simulator.payloads import Conversationalist, mid_of
from inboxd.simulator.people import igsid

from tests.reconciliation.world import World
from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, BRUNO, T0, Json

PATH = f"/api/accounts/{ACCOUNT}/completeness"
HOUR_MS = 3_600_000


async def day(world: World) -> Json:
    found: Json = (await world.client.get(PATH))["windows"][0]
    return found


async def metric(world: World, name: str) -> float:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with world.client.session.get(f"{world.client.admin_url}/metrics", headers=headers) as response:
        found = re.search(rf"^{name} (\S+)$", await response.text(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def page(world: World, path: str) -> str:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with world.client.session.get(world.client.admin_url + path, headers=headers) as response:
        assert response.status == 200
        return await response.text()


async def test_each_message_is_counted_once_by_how_it_came(world: World) -> None:
    async with world.daemon():
        assert (await world.client.get(PATH))["summary"] == "not compared with Meta yet"
        await world.clock.leap(10)
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        await world.sent(*(ana.says(f"number {number}") for number in range(12)))
        for number in range(3):
            world.happens(igsid(number), "missed")
        await world.checked(45)
        found = await day(world)
        assert {name: found[name] for name in ("existing", "delivered", "healed", "missing")} == {
            "existing": 15, "delivered": 12, "healed": 3, "missing": 0
        }  # fmt: skip
        assert 300 <= found["medianDelaySeconds"] <= found["longestDelaySeconds"] <= 660
        whole = await world.client.get(PATH)
        assert [one["hours"] for one in whole["windows"]] == [24, 168, 720]
        assert re.fullmatch(r"3 missed by Meta since \d\d:\d\d UTC, 3 healed", whole["summary"])
        assert (whole["isPoor"], whole["isUndelivered"], whole["undeliveredSince"]) == (True, False, None)
        assert await metric(world, f'inboxd_completeness_messages{{account="{ACCOUNT}"}}') == 15
        assert await metric(world, f'inboxd_completeness_delivered_share{{account="{ACCOUNT}"}}') == 0.8
        assert await metric(world, 'inboxd_messages_missed_total{cause="not_delivered"}') == 3
        overview, accounts = await page(world, "/"), await page(world, "/accounts")
        assert "3 missed by Meta since" in overview
        assert "webhooks brought 12 of the 15 messages of the last 24 hours" in overview
        assert "3 missed by Meta since" in accounts


async def test_what_a_webhook_brings_after_all_was_not_missed(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        item = Conversationalist(ACCOUNT, ANA, world.clock.now_ms()).says("late")
        world.behave(webhooks_dropped=1.0)
        await world.sent(item)
        await world.checked()
        assert (await day(world))["healed"] == 1
        world.behave(webhooks_dropped=0.0)
        await world.sent(item)
        await world.checked(25)
        found = await day(world)
        assert (found["existing"], found["delivered"], found["healed"], found["missing"]) == (1, 1, 0, 0)
        assert "nothing missed" in (await world.client.get(PATH))["summary"]


async def test_conversations_that_go_on_without_webhooks_are_an_alarm(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        await world.sent(ana.says("hello"))
        await world.checked()
        world.happens(ANA, "are you there?")
        await world.clock.leap(2.5 * 3600, step_s=60)
        assert (await world.client.get(PATH))["isUndelivered"] is True
        assert await metric(world, f'inboxd_undelivered_seconds{{account="{ACCOUNT}"}}') > 7200
        assert "Meta has delivered nothing since" in await page(world, "/")
        ana.now = world.clock.now_ms()
        await world.sent(ana.says("hello again"))
        await world.checked(25)
        assert (await world.client.get(PATH))["isUndelivered"] is False
        assert await metric(world, f'inboxd_undelivered_seconds{{account="{ACCOUNT}"}}') == 0


async def test_any_webhook_shows_that_deliveries_arrive(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        world.happens(ANA, "dropped")
        await world.checked()
        assert (await world.client.get(PATH))["undeliveredSince"] is not None
        bruno = Conversationalist(ACCOUNT, BRUNO, world.clock.now_ms())
        await world.sent(bruno.sees(bruno.answers("an answer of last week")))
        await world.clock.leap(2.5 * 3600, step_s=60)
        assert (await world.client.get(PATH))["undeliveredSince"] is None
        assert await metric(world, f'inboxd_undelivered_seconds{{account="{ACCOUNT}"}}') == 0
        assert "Meta has delivered nothing since" not in await page(world, "/")


async def test_an_account_that_cannot_be_compared_is_not_said_to_miss_nothing(world: World) -> None:
    async with world.daemon():
        await world.checked(20)
        assert ((await world.client.get(PATH))["isStale"], (await day(world))["missing"]) == (False, 0)
        world.behave(error_rate=1.0)
        await world.clock.leap(4 * 3600, step_s=60)
        found = await world.client.get(PATH)
        assert found["isStale"] is True
        assert re.fullmatch(r"nothing missed in 7 days; not compared with Meta since .*: .*", found["summary"])
        assert "What webhooks do not bring is not noticed" in await page(world, "/")
        name = f'inboxd_reconciliation_last_check_timestamp_seconds{{account="{ACCOUNT}"}}'
        assert world.clock.now_ms() / 1000 - await metric(world, name) > 3 * 3600
        diagnosis = completeness_diagnosis(msgspec.convert(found, CompletenessResource))
        assert (diagnosis.health, "not compared with Meta since" in diagnosis.detail) == (Severity.WARNING, True)
        world.behave(error_rate=0.0)
        await world.clock.leap(1.5 * 3600, step_s=60)
        found = await world.client.get(PATH)
        assert (found["isStale"], found["summary"]) == (False, "nothing missed in 7 days")


async def test_of_an_account_that_is_not_served_nothing_is_told(world: World) -> None:
    async with world.daemon():
        await world.client.get("/api/accounts/4711/completeness", status=404)


@pytest.mark.parametrize("logged", [True, False], ids=["logged", "expired"])
async def test_a_person_who_was_forgotten_does_not_come_back(world: World, *, logged: bool) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        world.happens(ANA, "forget me")
        await world.checked()
        assert len(await world.texts()) == 1
        forgetting = asyncio.ensure_future(world.client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}"))
        while not forgetting.done():
            await world.clock.leap(1)
        await forgetting
        if not logged:
            await world.database.execute("DELETE FROM events")
        assert await world.database.read("SELECT * FROM missed_messages") == []
        left = "SELECT api_id, participant_id, participants FROM listed_conversations"
        assert await world.database.read(left) == [(None, None, None)]
        calls = world.calls("/messages")
        await world.checked(60)
        assert await world.database.read(left) == [(None, None, None)]
        assert world.calls("/messages") == calls
        assert await world.texts() == {}
        again = world.happens(ANA, "it is me again", created_ms=world.clock.now_ms())
        await world.checked(75)
        assert await world.texts() == {again: "it is me again"}


@pytest.mark.parametrize("logged", [True, False], ids=["logged", "expired"])
async def test_a_history_import_does_not_bring_back_who_was_forgotten(world: World, *, logged: bool) -> None:
    async with world.daemon():
        world.happens(ANA, "long ago", created_ms=world.clock.now_ms() - 48 * HOUR_MS)
        await world.clock.leap(10)
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        await world.sent(ana.says("forget me"))
        await world.checked()
        await world.erased(ANA)
        if not logged:
            await world.database.execute("DELETE FROM events")
        run = await world.client.send("POST", "/api/workers/import-history", {"accountId": ACCOUNT}, status=202)
        await world.checked(3)
        assert (await world.client.get(run["links"]["self"]))["status"] == "completed"
        assert await world.texts() == {}
        assert await world.client.conversations() == []


async def test_an_export_tells_what_was_missed(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        mid = world.happens(ANA, "hello")
        await world.checked()
        document = await world.client.get(f"/api/participants/{ACCOUNT}/{ANA}/export")
        assert [one["platformMessageId"] for one in document["missedMessages"]] == [mid]


def completeness(missed_since: int | None, healed: int, missing: int = 0) -> Completeness:
    windows = [
        Window(
            hours=hours,
            existing=20,
            delivered=20 - healed - missing,
            healed=healed,
            missing=missing,
            missed_since=missed_since,
        )
        for hours in (24, 168, 720)
    ]
    return Completeness(
        since=T0,
        checked_at=T0,
        next_check_at=T0,
        error=None,
        waiting=0,
        failed=0,
        undelivered_since=None,
        windows=windows,
    )


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (completeness(None, 0), "nothing missed in 7 days, of 20 messages"),
        (completeness(T0 - 48 * HOUR_MS, 3), "3 missed by Meta since Saturday, 3 healed"),
        (completeness(T0 - 6 * 24 * HOUR_MS - HOUR_MS, 3), "3 missed by Meta since 2026-09-15, 3 healed"),
        (completeness(T0 - HOUR_MS, 3, 2), "5 missed by Meta since 13:13 UTC, 3 healed, 2 still missing"),
    ],
)
def test_it_is_said_in_one_sentence(found: Completeness, text: str) -> None:
    assert sentence(found, T0) == text


async def test_edits_that_are_read_count_no_message_again(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        world.behave(changes_move_updated_time=True)
        item = Conversationalist(ACCOUNT, ANA, world.clock.now_ms()).says("helo")
        await world.sent(item)
        mid = world.happens(ANA, "missed")
        await world.checked(20)
        before = await day(world)
        assert (before["existing"], before["delivered"], before["healed"]) == (2, 1, 1)
        world.server.mailbox.edit(mid_of(item), "hello")
        world.server.mailbox.edit(mid, "missed, and edited")
        await world.checked(75)
        assert set((await world.texts()).values()) == {"hello", "missed, and edited"}
        assert await day(world) == before
