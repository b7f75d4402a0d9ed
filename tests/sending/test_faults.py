"""Full disks, clocks that are set back, calls that are given up, and people who insist."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from aiohttp import web
from inboxd.config.schema import ReconciliationSettings, SendingSettings

from tests.sending.sending_world import SendingWorld
from tests.support import ACCOUNT, ANA, BRUNO, full_disk

SENT = ("sent", "delivered")
QUIET = ReconciliationSettings(every_minutes=0)


async def test_a_full_disk_uses_nothing_of_the_hour(world: SendingWorld) -> None:
    async with world.sending(sending=SendingSettings(per_second=300, per_hour=50)):
        conversation = await world.wrote()
        await world.becomes(await world.answer(conversation, "cero"), *SENT)
        world.behave(send_throttled=True)
        outbound_id = await world.answer(conversation, "uno")
        await world.waits(outbound_id)
        world.behave(send_throttled=False)
        world.clock.database = None  # nothing can be written there now
        with full_disk(world.path):
            await world.clock.leap(900, step_s=1)
        await world.becomes(outbound_id, *SENT, step_s=1)


async def test_what_waits_does_not_wait_longer_when_the_clock_is_set_back(world: SendingWorld) -> None:
    world.behave(send_throttled=True)
    async with world.sending():
        outbound_id = await world.answer(await world.wrote())
        await world.waits(outbound_id)
        world.clock.wall_ms -= 86_400_000
        world.behave(send_throttled=False)
        await world.clock.leap(3600, step_s=60)
        assert (await world.outbound(outbound_id))["state"] in SENT


async def test_what_is_unknown_is_found_out_as_soon_when_the_clock_is_set_back(world: SendingWorld) -> None:
    world.behave(send_answer="dropped", send_answer_next=1, echo="never")
    async with world.sending(reconciliation=QUIET):
        outbound_id = await world.answer(await world.wrote())
        await world.becomes(outbound_id, "unknown")
        ahead = world.clock.wall_ms / 1000 - world.clock.seconds
        for part in (world.server, world.server.mailbox, world.server.conversations, world.server.sending):
            part._now = lambda: ahead + world.clock.seconds  # Meta's clock is not set back
        world.clock.wall_ms -= 86_400_000
        await world.clock.leap(3600, step_s=60)
        assert (await world.outbound(outbound_id))["state"] in SENT
        assert world.really_sent == ["buenas"]


async def test_a_send_of_an_account_that_is_removed_meanwhile_is_unknown(world: SendingWorld) -> None:
    world.behave(send_answer="late", send_answer_ms=20_000, echo="never")
    async with world.sending(accounts=(), timeout_s=30):
        added = {"token": "the-account-token", "name": "shop"}
        await world.leaping(world.client.send("POST", "/api/accounts", added, status=201))
        outbound_id = await world.answer(await world.wrote())
        await world.becomes(outbound_id, "sending")
        await world.leaping(world.client.send("DELETE", f"/api/accounts/{ACCOUNT}", status=204))
        unknown = await world.becomes(outbound_id, "unknown")
        assert "given up" in unknown["reason"]
        canceled = await world.client.send("POST", f"/api/messaging/outbound/{outbound_id}/cancel")
        assert canceled["state"] == "canceled"


async def test_a_send_of_an_account_that_is_not_served_after_a_crash_is_unknown(world: SendingWorld) -> None:
    world.behave(send_throttled=True)
    async with world.sending():
        outbound_id = await world.answer(await world.wrote())
        await world.waits(outbound_id)
    with closing(sqlite3.connect(world.path)) as connection, connection:  # as a crash leaves it
        connection.execute("UPDATE outbound_parts SET state = 'sending'")
        connection.execute("UPDATE outbound_messages SET state = 'sending', due_at = NULL")
        connection.execute("DELETE FROM accounts")
    async with world.sending(accounts=()):
        await world.becomes(outbound_id, "unknown", step_s=1)


async def test_what_a_person_sends_again_is_looked_for_as_long_as_the_first_time(world: SendingWorld) -> None:
    world.behave(send_answer="error_before", echo="never")
    async with world.sending(reconciliation=QUIET):
        outbound_id = await world.answer(await world.wrote())
        await world.becomes(outbound_id, "unknown")
        await world.clock.leap(120)  # it was looked for once
        world.behave(send_answer="dropped", send_answer_next=1, echo="never", visible_after_s=100)
        await world.client.send("POST", f"/api/messaging/outbound/{outbound_id}/retry?force=true")
        await world.becomes(outbound_id, *SENT, step_s=1)
        assert world.really_sent == ["buenas"]


@pytest.mark.parametrize("whose", ["customer's", "earlier", "elsewhere"])
async def test_an_answer_with_the_id_of_another_message_is_no_answer(world: SendingWorld, whose: str) -> None:
    async with world.sending(reconciliation=QUIET):
        conversation, other = await world.wrote(ANA), await world.wrote(BRUNO)
        first = await world.becomes(await world.answer(conversation, "uno"), "delivered")
        (asked, *_), (elsewhere, *_) = [await world.client.messages(one) for one in (conversation, other)]
        mid = {
            "customer's": asked["platformMessageId"],
            "earlier": first["parts"][0]["platformMessageId"],
            "elsewhere": elsewhere["platformMessageId"],
        }[whose]
        world.server.sending.messages = _answering(world.server.sending.messages, mid)  # type: ignore[method-assign]
        second = await world.becomes(await world.answer(conversation, "dos"), "delivered", step_s=5)
        assert second["parts"][0]["platformMessageId"] != mid
        assert world.really_sent == ["uno", "dos"]
        texts = [one["content"] for one in await world.client.messages(conversation)]
        assert texts == ["hola", "uno", "dos"]
        assert await world.told("conversation.human_replied") == []


async def test_a_row_that_cannot_be_read_stops_neither_lists_nor_webhooks(world: SendingWorld) -> None:
    world.behave(echo="never")
    async with world.sending(reconciliation=QUIET):
        conversation = await world.wrote()
        sent = await world.becomes(await world.answer(conversation), "sent")
        await world.database.execute("""UPDATE outbound_parts SET content = '{"text": 7}'""")
        (listed,) = (await world.client.get("/api/messaging/outbound"))["outbound"]
        assert (listed["id"], (await world.outbound(sent["id"]))["state"]) == (sent["id"], "sent")
        echo = world.item(ACCOUNT, ANA, "buenas", is_echo=True)
        echo["message"]["mid"] = sent["parts"][0]["platformMessageId"]
        await world.sent(echo)
        _, message = await world.client.messages(conversation)
        assert message["source"] == "webhook"


def _answering(send: Any, mid: str) -> Callable[..., Any]:
    """A Send API that sends, and answers the first time with this id."""
    told: list[str] = []

    async def messages(*arguments: Any) -> web.Response:
        answer: web.Response = await send(*arguments)
        if not told:
            told.append(mid)
            answer = web.json_response({"message_id": mid, "recipient_id": ANA})
        return answer

    return messages


async def test_what_was_found_out_about_an_erased_message_says_nothing_of_the_one_that_has_its_ids(
    world: SendingWorld,
) -> None:
    async with world.sending(reconciliation=QUIET):
        conversation = await world.wrote()
        world.behave(send_answer="error_before", send_answer_next=1, echo="never")
        erased = await world.answer(conversation, "erased")
        await world._until(erased, lambda one: "once more" in (one["reason"] or ""), step_s=5)
        await world.leaping(world.client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}"))
        await world.clock.leap(120, step_s=30)
        conversation = await world.wrote(text="hola otra vez")
        world.behave(send_answer="error_after_sending", send_answer_next=1, echo="never", visible_after_s=120)
        outbound_id = await world.answer(conversation)
        assert outbound_id == erased
        await world.becomes(outbound_id, "unknown", "sent")
        await world.becomes(outbound_id, "sent", "delivered", "read", step_s=5)
        assert world.really_sent == ["buenas"]
